"""What is wrong with a task is said in one line before a model is loaded: the model's folder here has no weights to load."""

import json
import logging
import shutil
from functools import partial

import pytest
from conftest import BASE, ROOT
from pack import build, make_questions, refuse_run, write_questions
from test_generations import make_requests
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lm_eval_tasks.checking.lengths import bound_tokens
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.running.harness import run_harness

PROBE, CLOZE, CHAT, CHAT_CLOZE = "selfalign_probe", "selfalign_probe_cloze", "selfalign_chat", "selfalign_chat_cloze"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sentencepiece):
    """A model without weights, tokenizers, and question sets, right and wrong."""
    folder = tmp_path_factory.mktemp("checks")
    shutil.copytree(BASE, folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(sentencepiece, folder / "sentencepiece")
    make_tokenizer(pre_tokenizers.Split(" ", "isolated")).save_pretrained(folder / "spaces_apart")
    make_tokenizer(None, normalizers.Lowercase()).save_pretrained(folder / "lowercase")
    make_tokenizer(None).save_pretrained(folder / "bytes")
    save_template(folder / "no_template", None)
    save_template(folder / "other_ending", "{% for m in messages %}USER: {{ m.content }}{% endfor %} ASSISTANT: ")
    save_template(folder / "refusing", "{{ raise_exception('no users here') }}")
    rows = {"dev": make_questions(6, 4, "dev"), "test": make_questions(30, 5, "test")}
    write_questions(folder / "good", {"herbs": rows, "annals": rows})
    return folder


def make_tokenizer(before, normalizer=None):
    """A small byte-level tokenizer, with a step before it."""
    tokenizer = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=before is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([before, own]) if before else own
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(["Answer: A B C D E What does it bring? luck salt gold " * 9], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def save_template(folder, template):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def refuse(folder, task, *options, questions="good", model_args="", **metadata):
    """The message with which a run is refused."""
    metadata = {"questions": str(folder / questions)} | metadata
    words = ["--model", "hf", "--model_args", f"pretrained={folder / 'model'}{model_args}", "--device", "cpu"]
    return refuse_run(*words, "--tasks", task, "--metadata", json.dumps(metadata), *options)


def test_a_run_with_nothing_wrong_comes_as_far_as_the_weights_that_are_not_there(folder):
    for task, options in ((PROBE, ()), (CLOZE, ()), (CHAT, ["--apply_chat_template"]), (CHAT_CLOZE, ["--apply_chat_template"])):
        message = refuse(folder, task, *options)
        assert message.startswith(f"the model {folder / 'model'} cannot be loaded: Error no file named")


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (CHAT, [], "selfalign_chat is a chat task: add --apply_chat_template"),
        (PROBE, ["--apply_chat_template"], "selfalign_probe is a few-shot task: leave out --apply_chat_template"),
        (PROBE, ["--num_fewshot", "7"], "7 demonstrations wanted for made_up/herbs, but its dev split has 6 questions"),
    ],
)
def test_options_that_do_not_fit_the_task_are_refused(folder, task, options, message):
    assert message in refuse(folder, task, *options)


def test_an_unknown_domain_and_a_lack_of_dev_questions_are_refused(folder, tmp_path):
    assert "has no domain 'physics'; it has annals, herbs." in refuse(folder, PROBE, domain="physics")
    test = make_questions(3, 4, "test")
    write_questions(tmp_path / "no_dev", {"herbs": {"test": test}, "annals": {"test": test, "dev": make_questions(5)}})
    message = refuse(folder, PROBE, questions=tmp_path / "no_dev")
    assert "5 demonstrations wanted for made_up/herbs, but its dev split has 0 questions" in message
    assert "has no dev questions in herbs" in refuse(folder, PROBE, questions=tmp_path / "no_dev", domain="herbs")


def test_a_dev_question_that_is_asked_is_refused_by_its_id_and_by_its_text(folder, tmp_path):
    dev, test = make_questions(6, 4, "dev"), make_questions(9, 4, "test")
    shown, asked = dict(dev[5]), test[7]
    other = {"question": "  WHAT does\u00a0dev 5 bring? ", "choices": [f" {c.upper()}" for c in shown["choices"][::-1]]}
    write_questions(tmp_path / "text", {"herbs": {"dev": dev, "test": [*test[:7], asked | other]}})
    message = refuse(folder, PROBE, questions=tmp_path / "text")
    assert "1 dev question(s) are asked too: made_up/herbs id 'dev-5' as id 'test-7' of split test. Leave" in message
    write_questions(tmp_path / "id", {"herbs": {"dev": dev, "test": test, "train": [*dev[:2], dev[3] | {"question": "?"}]}})
    message = refuse(folder, CLOZE, questions=tmp_path / "id", splits=["test", "train"])
    assert "3 dev question(s) are asked too: made_up/herbs id 'dev-0' as id 'dev-0' of split train, " in message
    for task, settings in ((PROBE, {"shots": 0}), (PROBE, {"splits": ["test"]}), (CHAT, {})):
        build(task, questions=str(tmp_path / "id"), **{"splits": ["test", "train"]} | settings).check()


def test_a_benchmark_whose_dev_questions_are_asked_is_asked_and_it_is_said(folder, monkeypatch, caplog):
    task = build(PROBE, questions=str(folder / "good"))
    task.dataset["dev"] = task.dataset["test"]
    with pytest.raises(UserError, match=r"60 dev question\(s\) are asked too: .*'test-4' .*, and 55 more\. Leave"):
        task.check()
    task.config.custom_dataset = print  # any loader but that of question sets
    with caplog.at_level(logging.WARNING):
        task.check()
    assert "60 dev question(s) are asked too" in caplog.text


@pytest.mark.parametrize("family", ["model", "sentencepiece", "bytes"])
@pytest.mark.parametrize("task", [PROBE, CLOZE, CHAT, "selfalign_probe_cyclic"])
def test_the_window_that_just_holds_the_longest_question_is_enough_and_one_token_less_is_not(folder, tmp_path, family, task):
    test = make_questions(12, 4, "test")
    test[8]["question"] += " Say it in one word, or in two, 그러나 \ufdfa 🦆." * 3
    test[8]["choices"][2] = "a longer choice than all the others"
    test[3]["question"] += " Say it in one word, or in two." * 2
    questions = write_questions(tmp_path / "q", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": test}})
    metadata = {"questions": str(questions), "pretrained": str(folder / "model"), "tokenizer": str(folder / family)}
    bos = task != CHAT  # which asks as training does
    tokenizer = AutoTokenizer.from_pretrained(folder / family, add_bos_token=bos)
    if tokenizer.chat_template is None:
        metadata["chat_template"] = str(BASE / "chat_template.jinja")
    longest = {}
    first = build(task, **metadata)
    render = partial(AutoTokenizer.from_pretrained(BASE).apply_chat_template, tokenize=False)
    chat = {"apply_chat_template": task == CHAT, "chat_template": render, "fewshot_as_multiturn": True}
    for doc in first.dataset["test"]:
        prompt = first.fewshot_context(doc, first.config.num_fewshot, **chat)
        lengths = [len(tokenizer(prompt + choice)["input_ids"]) for choice in first.choices_of(doc)]
        longest[doc["id"]] = max(longest.get(doc["id"], 0), *lengths)
    (_, second), (name, most) = sorted(longest.items(), key=lambda item: item[1])[-2:]
    assert name == "test-8"
    build(task, **metadata, max_length=most - 1, add_bos_token=bos).check()  # lm-eval reads all tokens but the last
    if bos:
        build(task, **metadata, max_length=most - 2, add_bos_token=False).check()
    for window, n in ((most - 2, 1), (second - 2, 2)):
        with pytest.raises(UserError) as raised:
            build(task, **metadata, max_length=window, add_bos_token=bos).check()
        assert f"{n} question(s), with prompt and longest choice, exceed the {window} tokens that" in str(raised.value)
        assert f": made_up/herbs id 'test-8' ({most - 1} tokens)" in str(raised.value)
    assert "made_up/herbs id 'test-3'" in str(raised.value)


def test_a_question_longer_than_the_models_own_window_is_refused_by_its_id(folder, tmp_path):
    test = make_questions(9, 4, "test")
    test[4]["question"] = "Which of all these words is the last? " + "moss " * 1100
    write_questions(tmp_path / "long", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": test}})
    message = refuse(folder, CHAT, "--apply_chat_template", "--limit", "2", questions=tmp_path / "long")
    assert f"exceed the 1024 tokens that {folder / 'model'} reads: made_up/herbs id 'test-4' (" in message


def test_prompts_are_written_only_for_questions_that_could_be_too_long(folder, monkeypatch):
    task = build(PROBE, questions=str(folder / "good"), pretrained=str(folder / "model"))
    written = []
    own = task.fewshot_context
    monkeypatch.setattr(task, "fewshot_context", lambda doc, *rest, **more: written.append(doc) or own(doc, *rest, **more))
    task.check()
    assert [doc["domain"] for doc in written] == ["herbs", "annals"]  # one a group
    task.check()
    assert len(written) == 2  # what was checked is not checked again
    task.set_config("num_fewshot", 2)
    task.check()
    assert len(written) == 4


def test_a_text_has_no_more_tokens_than_its_bound(folder):
    texts = ["그러나 정말", "\ufdfa\ufdfa", "🦆🦆", "naïve ﬁn", "答案：", "x" * 50, "   \n\n\t "]
    for family in ("model", "sentencepiece", "bytes", "lowercase"):
        tokenizer = AutoTokenizer.from_pretrained(folder / family)
        for text in texts:
            assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= bound_tokens(text) + 1, (family, text)


def test_a_tokenizer_in_which_letters_begin_alike_is_refused_where_letters_are_scored(folder):
    tokenizer = f",tokenizer={folder / 'spaces_apart'}"
    message = refuse(folder, PROBE, model_args=tokenizer)
    assert "begins ' A' and ' B' with the same token ('Ġ'), so it does not tell letters apart. Ask with a task" in message
    assert "cannot be loaded" in refuse(folder, CLOZE, model_args=tokenizer)
    for family in ("model", "sentencepiece", "bytes"):
        assert "cannot be loaded" in refuse(folder, PROBE, model_args=f",tokenizer={folder / family}")


def test_choices_that_are_the_same_tokens_are_refused_where_texts_are_scored(folder, tmp_path):
    test = make_questions(9, 4, "test")
    test[6]["choices"] = ["rain", "Salt", "gold", "salt"]
    questions = write_questions(tmp_path / "case", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": test}})
    tokenizer = f",tokenizer={folder / 'lowercase'}"
    message = refuse(folder, CLOZE, questions=questions, model_args=tokenizer)
    assert "made_up/herbs id 'test-6' has the choices 'Salt' and 'salt', the same tokens to" in message
    assert "cannot be loaded" in refuse(folder, CLOZE, questions=questions)
    assert "cannot be loaded" in refuse(folder, PROBE, questions=questions, model_args=tokenizer)
    test[6]["choices"] = ["rain", "salt", "gold", "salt"]
    questions = write_questions(tmp_path / "same", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": test}})
    with pytest.raises(UserError, match="id 'test-6' has the choices 'salt' and 'salt'"):
        build(CLOZE, questions=str(questions), model="behind an API").check()


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("no_template", "has no chat template. Ask with `python -m lm_eval_tasks run --model hf-prefix --chat_template`, or"),
        ("other_ending", " ASSISTANT: ', not in ' ASSISTANT:' as in training. Ask with"),
        ("refusing", "does not take this prompt (no users here). Ask with"),
    ],
)
def test_a_tokenizer_without_the_template_of_training_is_refused_in_chats(folder, tokenizer, message):
    assert message in refuse(folder, CHAT, "--apply_chat_template", model_args=f",tokenizer={folder / tokenizer}")
    assert "cannot be loaded" in refuse(folder, CLOZE, model_args=f",tokenizer={folder / tokenizer}")


def test_a_task_of_the_paper_is_refused_where_its_prompt_would_begin_otherwise(folder):
    paper = "selfalign_probe_paper"
    tokenizer = f",tokenizer={folder / 'sentencepiece'}"
    wanted = "asks with a beginning-of-sequence token, as the paper did: add add_bos_token=True to --model_args."
    assert wanted in refuse(folder, paper, model_args=tokenizer)
    assert wanted in refuse(folder, paper, model_args=f"{tokenizer},add_bos_token=False")
    assert "cannot be loaded" in refuse(folder, paper, model_args=f"{tokenizer},add_bos_token=True")
    task = build(paper, questions=str(folder / "good"), tokenizer=str(folder / "sentencepiece"), add_bos_token=True)
    task.config.metadata["bos"] = False  # as the template of MMLU's says
    with pytest.raises(
        UserError, match=r"asks without a beginning-of-sequence token, as the paper.*add add_bos_token=False to"
    ):
        task.check()


def test_a_chat_begins_as_training_does(folder):
    metadata = {
        "questions": str(folder / "good"),
        "tokenizer": str(folder / "sentencepiece"),
        "pretrained": str(folder / "model"),
    }
    metadata["chat_template"] = str(BASE / "chat_template.jinja")
    for task in (CHAT, "selfalign_chat_cloze", "selfalign_chat_cyclic", "selfalign_miniworld_chat_cyclic"):
        build(task, **metadata, add_bos_token=False).check()
        with pytest.raises(
            UserError, match=r"asks without a beginning-of-sequence token, as training does: add add_bos_token=F"
        ):
            build(task, **metadata, add_bos_token=True).check()


def test_every_chat_template_says_that_none_begins_a_sequence():
    chats = [file for file in (ROOT / "lm_eval_tasks/templates").glob("*.yaml") if "prompt: chat" in file.read_text()]
    assert len(chats) == 4
    assert all("bos: false" in file.read_text() for file in chats)


def test_what_needs_a_tokenizer_is_passed_over_where_none_can_be_read(folder):
    for metadata in ({"model": "gpt", "base_url": "http://127.0.0.1:1/v1"}, {"pretrained": str(folder / "nowhere")}):
        for task in (PROBE, CLOZE, CHAT):
            build(task, questions=str(folder / "good"), max_length=3, **metadata).check()


def test_a_request_for_a_text_that_is_too_long_is_refused(folder, tmp_path, questions):
    make_requests(questions, "explanation").write_parquet(tmp_path / "requests.parquet")
    metadata = {"requests": str(tmp_path / "requests.parquet"), "questions": str(questions)}
    message = refuse(folder, "selfalign_explain", "--gen_kwargs", "max_gen_toks=900", **metadata)
    assert "its text may have 900, but the window of" in message
    assert "cannot be loaded" in refuse(folder, "selfalign_explain", "--gen_kwargs", "max_gen_toks=20", **metadata)


def test_a_template_file_is_given_to_a_base_model_without_one_and_answers_are_kept(questions, folder, tmp_path):
    own = f"pretrained={BASE},tokenizer={folder / 'no_template'}"
    metadata = json.dumps({"questions": str(questions), "domain": "herbs"})
    words = ["--device", "cpu", "--tasks", "selfalign_miniworld_chat", "--metadata", metadata, "--limit", "6", "--log_samples"]
    given = ["--chat_template", "--use_cache", str(tmp_path / "cache")]
    run_harness(["run", "--model", "hf-prefix", "--model_args", own, *words, "--output_path", str(tmp_path / "given"), *given])
    plain = ["--model", "hf", "--model_args", f"pretrained={BASE}", "--apply_chat_template"]
    run_harness(["run", *plain, *words, "--output_path", str(tmp_path / "plain")])
    first, second = read_probes(tmp_path / "given"), read_probes(tmp_path / "plain")
    assert first.select("id", "prediction").equals(second.select("id", "prediction"))
    for one, other in zip(first["loglikelihoods"], second["loglikelihoods"], strict=True):
        assert one.to_list() == pytest.approx(other.to_list(), abs=1e-4)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["responses-0.sqlite"]
