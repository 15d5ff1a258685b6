"""What is wrong with a task is said in one line before a model is loaded: the model's folder here has no weights to load."""

import json
import logging
import re
import shutil
from functools import partial
from pathlib import Path

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

REFERENCE = (Path(__file__).parents[2] / "../shared/reference").resolve()
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the real question banks are not at {REFERENCE}")
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


def test_a_dev_question_that_is_asked_is_refused_by_its_text_and_choices(folder, tmp_path):
    dev, test = make_questions(6, 4, "dev"), make_questions(9, 4, "test")
    shown, asked = dict(dev[5]), test[7]
    other = {"question": "  WHAT does\u00a0dev 5 bring? ", "choices": [f" {c.upper()}" for c in shown["choices"][::-1]]}
    stem = test[8] | {"question": shown["question"]}  # with its own choices
    write_questions(tmp_path / "text", {"herbs": {"dev": dev, "test": [*test[:7], asked | other, stem]}})
    message = refuse(folder, PROBE, questions=tmp_path / "text")
    assert "1 dev question(s) are asked too: made_up/herbs id 'dev-5' as id 'test-7' of split test. Leave" in message
    assert "cannot be loaded" in refuse(folder, PROBE, "--limit", "7", questions=tmp_path / "text")
    for task, settings in ((PROBE, {"shots": 0}), (CHAT, {})):
        build(task, questions=str(tmp_path / "text"), **settings).check()


def test_an_id_of_a_dev_question_that_is_anothers_too_is_refused(folder, tmp_path):
    dev, test = make_questions(6, 4, "dev"), make_questions(9, 4, "test")
    questions = write_questions(tmp_path / "id", {"herbs": {"dev": dev, "test": test, "train": [dev[3] | {"question": "?"}]}})
    message = refuse(folder, CLOZE, questions=questions, splits=["test", "train"])
    assert "id 'dev-3' occurs more than once. Ids are unique within source and domain" in message
    for task, settings in ((PROBE, {"shots": 0}), (PROBE, {"splits": ["test"]}), (CHAT, {})):
        build(task, questions=str(questions), **{"splits": ["test", "train"]} | settings).check()


def test_a_benchmark_whose_dev_questions_are_asked_is_asked_and_it_is_said(folder, caplog):
    task = build(PROBE, questions=str(folder / "good"))
    task.dataset["dev"] = task.dataset["test"]
    with pytest.raises(UserError, match=r"60 dev question\(s\) are asked too: .*'test-4' .*, and 55 more\. Leave"):
        task.check()
    task.config.custom_dataset = print  # any loader but that of question sets
    with caplog.at_level(logging.WARNING):
        task.check()
    assert "60 dev question(s) are asked too" in caplog.text
    assert "Of the same source and domain, so that the answer is shown: 60 of them." in caplog.text


@needs_reference
@pytest.mark.launched
@pytest.mark.parametrize(("name", "count", "shown"), [("mmlu", 5, "none"), ("cmmlu", 2, "2"), ("ceval", 0, "")])
def test_real_benchmarks_have_few_dev_questions_that_are_asked_too(name, count, shown, caplog):
    task = build(f"selfalign_{name}_probe", **{name: str(REFERENCE / "banks" / name)})
    dev, asked = (set(task.dataset[split]["id"]) for split in ("dev", "test"))
    assert not dev & asked
    assert all(re.fullmatch(r"[a-z_]+/\d+", name) for name in asked)  # as in logs that were written earlier
    with caplog.at_level(logging.WARNING):
        task.check()
    found = re.findall(r"(\d+) dev question\(s\) are asked too.* the answer is shown: (\w+) of them", caplog.text)
    assert found == ([(str(count), shown)] if count else [])


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
    message = refuse(folder, CHAT, "--apply_chat_template", "--limit", "5", questions=tmp_path / "long")
    assert f"exceed the 1024 tokens that {folder / 'model'} reads: made_up/herbs id 'test-4' (" in message


def make_long(folder, **metadata):
    """A task of which every third question is too long in each of two domains, and its metadata."""
    test = make_questions(12, 4, "test")
    for i in range(0, 12, 3):
        test[i]["question"] += " moss" * 1100
    rows = {"dev": make_questions(5, 4, "dev"), "test": test}
    if not (folder / "q").exists():
        write_questions(folder / "q", {"herbs": rows, "annals": rows})
    return {"questions": str(folder / "q")} | metadata


def test_the_window_is_checked_of_what_is_asked(folder, tmp_path):
    metadata = make_long(tmp_path, pretrained=str(folder / "model"))
    asked = {"limit": 1}, {"limit": 0.05}, {"limit": 7}, {}, {"samples": {PROBE: [1, 2, 4]}}, {"samples": [1, 3]}
    for settings, n in zip(asked, (1, 1, 3, 8, 0, 1), strict=True):
        task = build(PROBE, **metadata)
        if not n:
            task.check(settings)
            continue
        with pytest.raises(UserError, match=rf"{n} question\(s\), with prompt and longest choice, exceed the 1024 tokens"):
            task.check(settings)
    with pytest.raises(UserError, match="--samples: selfalign_probe has no question 24; it has 24, numbered from 0"):
        build(PROBE, **metadata).check({"samples": {PROBE: [0, 24]}})
    for domain, n in ((["herbs"], 4), (["herbs", "annals"], 8)):
        with pytest.raises(UserError, match=rf"{n} question\(s\), with prompt"):
            build(PROBE, **metadata, domain=domain).check()


def test_the_message_says_how_many_names_some_and_how_to_leave_them_out(folder, tmp_path):
    message = refuse(folder, PROBE, **make_long(tmp_path, too_long_to=str(tmp_path / "out")))
    file = tmp_path / "out" / f"too_long_{PROBE}.jsonl"
    assert "8 question(s), with prompt" in message
    assert message.count(" tokens), ") == 5
    assert f"""--metadata '{{"too_long": "skip"}}' leaves them out, and {file} names all. Or show fewer demonstr""" in message
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted((line["domain"], line["id"]) for line in lines) == [
        (domain, f"test-{i}") for domain in ("annals", "herbs") for i in (0, 3, 6, 9)
    ]
    assert all(line["tokens"] > line["window"] == 1024 and line["task"] == PROBE for line in lines)
    assert """--metadata '{"too_long_to": "FOLDER"}' writes the names of all""" in refuse(folder, PROBE, **make_long(tmp_path))
    for key, value in (("too_long", "skp"), ("too_long_to", 7)):
        assert f"{key} {value!r} is n" in refuse(folder, PROBE, **make_long(tmp_path, **{key: value}))


@pytest.mark.parametrize("task", [PROBE, pytest.param("selfalign_probe_cyclic", marks=pytest.mark.launched), CHAT])
def test_questions_that_are_too_long_are_left_out_on_request(tmp_path, task):
    metadata = json.dumps(make_long(tmp_path, too_long="skip", too_long_to=str(tmp_path / "log")))
    words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--tasks", task, "--log_samples"]
    words += ["--metadata", metadata, "--output_path", str(tmp_path / "log"), "--batch_size", "16"]
    chat = ["--apply_chat_template"] if task == CHAT else []
    orders = 4 if task.endswith("cyclic") else 1
    run_harness([*words, *chat])
    table = read_probes(tmp_path / "log")  # which refuses a log with a gap
    kept = [f"test-{i}" for i in range(12) if i % 3]
    assert sorted(table["id"].to_list()) == sorted(kept * 2 * orders)
    listed = (tmp_path / "log" / f"too_long_{task}.jsonl").read_text()
    assert listed.count("\n") == 8
    results = json.loads(next((tmp_path / "log").rglob("results_*.json")).read_text())
    assert results["n-samples"][task] == {"original": 24 * orders, "effective": 16 * orders}


def test_a_limit_counts_what_is_left_out_and_processes_share_the_rest(folder, tmp_path):
    for task in (PROBE, "selfalign_probe_cyclic"):
        made = build(task, **make_long(tmp_path, too_long="skip", pretrained=str(folder / "model")))
        orders = 4 if made.cyclic else 1
        made.check({"limit": 4 * orders})
        assert [doc["id"] for doc in made.list_asked({"limit": 4 * orders})] == sorted(["test-1", "test-2"] * orders)
        made.check({})
        parts = [[i for i, _ in made.doc_iterator(rank=rank, world_size=3)] for rank in range(3)]
        assert sorted(i for part in parts for i in part) == [i for i, _ in made.doc_iterator()]
        with pytest.raises(UserError, match="None of what is asked would be left: show fewer"):
            made.check({"limit": 1})


def test_where_the_window_is_not_known_it_is_said_that_nothing_is_left_out(tmp_path, caplog):
    task = build(PROBE, **make_long(tmp_path, too_long="skip", model="gpt", base_url="http://127.0.0.1:1/v1"))
    task.check()
    assert "is not known here, so no question is found too long. Name max_length in --model_args" in caplog.text
    assert not task.left_out


def test_a_dry_run_in_the_chat_prompt_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rows = {"dev": make_questions(5, 4, "dev"), "test": make_questions(3, 4, "test")}
    questions = write_questions(tmp_path / "q", {"herbs": rows})
    words = ["run", "--model", "dummy", "--tasks", CHAT, "--metadata", json.dumps({"questions": str(questions)})]
    run_harness([*words, "--apply_chat_template", "--log_samples", "--output_path", str(tmp_path / "log")])
    samples = [json.loads(line) for line in next((tmp_path / "log").rglob("samples_*")).open()]
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    message = [{"role": "user", "content": build(CHAT, questions=str(questions)).doc_to_text(samples[0]["doc"])}]
    prompt = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert samples[0]["arguments"]["gen_args_0"]["arg_0"] == prompt


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
