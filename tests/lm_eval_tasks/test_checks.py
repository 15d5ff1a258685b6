"""What is wrong with a task is said in one line before a model is loaded: the model's folder here has no weights to load."""

import json
import logging
import re
import sys
from itertools import product
from pathlib import Path

import pytest
from checked import CHAT, CHAT_CLOZE, CLOZE, PROBE, fill_folder, refuse
from conftest import BASE, run_command
from pack import build, make_questions, write_questions
from transformers import AutoTokenizer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.running.harness import run_harness

REFERENCE = (Path(__file__).parents[2] / "../shared/reference").resolve()
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the real question banks are not at {REFERENCE}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sentencepiece):
    return fill_folder(tmp_path_factory.mktemp("checks"), sentencepiece)


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


def test_a_dev_question_gives_way_where_it_is_asked_itself(tmp_path, caplog):
    dev, test = make_questions(6, 4, "dev"), make_questions(9, 4, "test")
    shown, asked = dict(dev[1]), test[7]
    other = {"question": "  WHAT does\u00a0dev 1 bring? ", "choices": [f" {c.upper()}" for c in shown["choices"][::-1]]}
    stem = test[8] | {"question": shown["question"]}  # with its own choices
    questions = write_questions(tmp_path / "text", {"herbs": {"dev": dev, "test": [*test[:7], asked | other, stem]}})
    task = build(PROBE, questions=str(questions))
    with caplog.at_level(logging.WARNING):
        task.check()
    told = "1 dev question(s) are asked too: made_up/herbs id 'dev-1' as id 'test-7' of split test. Where one is asked itself"
    assert told in caplog.text
    assert not task.left_out
    for row in task.dataset["test"]:
        prompt = task.fewshot_context(row, 5)
        numbers = [0, 2, 3, 4, 5] if row["id"] == "test-7" else [0, 1, 2, 3, 4]
        assert [i for i in range(6) if f"What does dev {i} bring?" in prompt.rpartition("\n\n")[0]] == numbers
    for name, settings in ((PROBE, {"shots": 0}), (CHAT, {})):
        caplog.clear()
        build(name, questions=str(questions), **settings).check()
        assert "asked too" not in caplog.text


def test_a_question_that_is_its_own_demonstration_is_left_out_or_refused(folder, tmp_path, caplog):
    dev, test = make_questions(5, 4, "dev"), make_questions(99, 4, "test")
    twin = dev[2] | {"id": "twin"}
    questions = write_questions(tmp_path / "few", {"herbs": {"dev": dev, "test": [*test, twin]}})
    task = build(PROBE, questions=str(questions))
    with caplog.at_level(logging.WARNING):
        task.check()
    assert (
        "1 of 100 questions cannot be asked and are left out (shown as a demonstration: 1): made_up/herbs id 'twin'."
        in caplog.text
    )
    assert [row["id"] for row in task.list_asked({})] == [row["id"] for row in test]
    message = refuse(folder, PROBE, questions=questions, may_leave_out=0)
    assert "1 dev question(s) are asked too: made_up/herbs id 'dev-2' as id 'twin' of split test. Add dev questions" in message
    assert """--metadata '{"may_leave_out": 0.01}' leaves them out""" in message
    assert "cannot be loaded" in refuse(folder, PROBE, "--limit", "7", questions=questions, may_leave_out=0)
    assert "may_leave_out 2 is no share" in refuse(folder, PROBE, questions=questions, may_leave_out=2)


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


@needs_reference
@pytest.mark.launched
def test_a_real_bank_with_equal_choices_is_asked_by_text_without_them(tmp_path, caplog):
    """Xiezhi's engineering questions, of which a few have the same choice twice."""
    words = (
        "-m",
        "intervention",
        "questions",
        "xiezhi",
        REFERENCE / "xiezhi_raw/engineering.jsonl.gz",
        "--output",
        tmp_path / "q",
    )
    done = run_command(sys.executable, *words)
    assert done.returncode == 0, done.stderr
    task = build(CLOZE, questions=str(tmp_path / "q"), pretrained=str(BASE), splits=["train", "test"])
    with caplog.at_level(logging.WARNING):
        task.check()
    rows = task.dataset["test"].to_list()
    repeated = {row["id"] for row in rows if len({*row["choices"]}) < len(row["choices"])}
    left = {key[2] for key in task.left_out}
    assert repeated <= left
    assert 0 < len(left) < 0.02 * len(rows)
    assert f"{len(left)} of {len(rows)} questions cannot be asked and are left out (" in caplog.text
    assert len(task.list_asked({})) == len(rows) - len(left)


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


def test_a_chat_begins_as_training_did_and_as_the_tokenizer_does_where_there_was_none(folder, tmp_path):
    metadata = {
        "questions": str(folder / "good"),
        "tokenizer": str(folder / "sentencepiece"),
        "pretrained": str(folder / "model"),
    }
    metadata["chat_template"] = str(BASE / "chat_template.jinja")
    chats = (CHAT, "selfalign_chat_cloze", "selfalign_chat_cyclic", "selfalign_miniworld_chat_cyclic")
    for task, given in product(chats, (None, False, True)):
        built = build(task, **metadata | ({} if given is None else {"add_bos_token": given}))
        built.check()
        assert set(built.dataset["test"]["bos"]) == {bool(given)}  # by itself this tokenizer writes none
    config = {"response_format": "letter"}
    for trained, said in ((False, {}), (False, {"add_bos_token": False}), (True, {"add_bos_token": True})):
        write_manifest(tmp_path, stage="train", command=[], config=config | said, inputs={}, seeds={})
        metadata["pretrained"] = str(tmp_path)
        build(CHAT, **metadata, add_bos_token=trained).check()
        wanted = "asks with(out)? a beginning-of-sequence token, as the model was trained: "
        with pytest.raises(UserError, match=f"{wanted}add add_bos_token={trained}"):
            build(CHAT, **metadata, add_bos_token=not trained).check()


def test_what_needs_a_tokenizer_is_passed_over_where_none_can_be_read(folder):
    for metadata in ({"model": "gpt", "base_url": "http://127.0.0.1:1/v1"}, {"pretrained": str(folder / "nowhere")}):
        for task in (PROBE, CLOZE, CHAT):
            build(task, questions=str(folder / "good"), max_length=3, **metadata).check()


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
