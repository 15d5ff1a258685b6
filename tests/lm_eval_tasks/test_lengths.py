"""Questions that are too long for a model: told before it is loaded, of what is asked alone, and left out on request."""

import json
from functools import partial

import pytest
from checked import CHAT, CLOZE, PROBE, fill_folder, refuse
from conftest import BASE
from pack import build, make_questions, write_questions
from transformers import AutoTokenizer

from lm_eval_tasks.checking.lengths import bound_tokens
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.running.harness import run_harness


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sentencepiece):
    return fill_folder(tmp_path_factory.mktemp("checks"), sentencepiece)


def make_long(folder, **metadata):
    """A task of which every third question is too long in each of two domains, and its metadata."""
    test = make_questions(12, 4, "test")
    for i in range(0, 12, 3):
        test[i]["question"] += " moss" * 1100
    rows = {"dev": make_questions(5, 4, "dev"), "test": test}
    if not (folder / "q").exists():
        write_questions(folder / "q", {"herbs": rows, "annals": rows})
    return {"questions": str(folder / "q")} | metadata


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
