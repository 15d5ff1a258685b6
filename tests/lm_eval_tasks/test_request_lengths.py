"""Requests for texts that are too long for a model: as questions are, told before it is loaded, and left out on request."""

import json

import polars as pl
import pytest
from checked import refuse
from conftest import BASE
from lm_eval.models.huggingface import HFLM
from pack import build
from test_generations import make_requests, read_samples
from tiny import LLAMA, make_model
from transformers import AutoTokenizer, LlamaConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.generations import read_generations
from lm_eval_tasks.contracts.logs.requests import REQUEST_SCHEMA
from lm_eval_tasks.contracts.questions import hash_questions
from lm_eval_tasks.running.harness import run_harness

TASK = "selfalign_explain"
LONG = (1, 4)


@pytest.fixture(scope="module")
def requests(questions, tmp_path_factory):
    """Six requests, of which two are too long for the miniature base, one of them by 200 tokens."""
    rows = make_requests(questions, "explanation", 6).to_dicts()
    for i in LONG:
        rows[i]["question"] += " Which?" * (200 if i == LONG[0] else 300)
    table = pl.DataFrame(rows, schema=REQUEST_SCHEMA)
    file = tmp_path_factory.mktemp("requests") / "explain.parquet"
    table.with_columns(hash_questions(table)).write_parquet(file)
    return file


def make_task(requests, tokens=256, **metadata):
    task = build(TASK, **{"requests": str(requests), "pretrained": str(BASE)} | metadata)
    task.set_config("generation_kwargs", {"max_gen_toks": tokens}, update=True)
    return task


def list_ids(requests):
    return pl.read_parquet(requests)["id"].to_list()


@pytest.mark.parametrize("bos", ["none", "added", "in the template"])
def test_the_window_that_just_holds_the_longest_prompt_and_its_text_is_enough_and_one_token_less_is_not(
    requests, sentencepiece, tmp_path, bos
):
    tokenizer = AutoTokenizer.from_pretrained(sentencepiece, add_bos_token=True)
    tokenizer.chat_template = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    metadata, chat = {"tokenizer": str(tmp_path / "tokenizer")}, {"apply_chat_template": bos == "in the template"}
    if bos == "none":
        metadata["add_bos_token"] = False
    task = make_task(requests, 20, **metadata)
    texts = [task.doc_to_text(doc) for doc in task.dataset["test"]]
    if bos == "in the template":
        texts = [f"<s>[INST] {text} [/INST]" for text in texts]
    model = make_model(LlamaConfig, LLAMA, len(tokenizer))
    lm = HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=metadata.get("add_bos_token"))
    encoded = [lm.tok_batch_encode([text])[0][0].tolist() for text in texts]
    assert {ids.count(tokenizer.bos_token_id) for ids in encoded} == {int(bos != "none")}
    lengths = sorted(map(len, encoded))
    make_task(requests, 20, max_length=lengths[-1] + 20, **metadata).check(chat)
    for window, n in ((lengths[-1] + 19, 1), (lengths[-2] + 19, 2)):
        with pytest.raises(UserError) as raised:
            make_task(requests, 20, max_length=window, **metadata).check(chat)
        assert f"{n} question(s), with prompt and a text of 20 tokens, exceed the {window} tokens that" in str(raised.value)
        assert f"id {list_ids(requests)[LONG[1]]!r} ({lengths[-1] + 20} tokens)" in str(raised.value)


def test_what_is_asked_is_what_is_checked(requests):
    asked = {}, {"limit": 1}, {"limit": 0.3}, {"limit": 5}, {"samples": {TASK: [0, 2, 3]}}, {"samples": {TASK: [0, 4]}}
    for settings, n in zip(asked, (2, 0, 1, 2, 0, 1), strict=True):
        task = make_task(requests)
        if not n:
            task.check(settings)
            continue
        with pytest.raises(UserError, match=rf"{n} question\(s\), with prompt and a text of 256 tokens, exceed the 1024"):
            task.check(settings)
    with pytest.raises(UserError, match=f"--samples: {TASK} has no question 6; it has 6, numbered from 0"):
        make_task(requests).check({"samples": {TASK: [6]}})
    task = make_task(requests)
    task.check({"limit": 1})
    with pytest.raises(UserError, match=r"2 question\(s\)"):
        task.build_all_requests()  # more than was checked
    task.build_all_requests(limit=1)
    task.set_config("generation_kwargs", {"max_gen_toks": 1024}, update=True)
    with pytest.raises(UserError, match=r"1 question\(s\), with prompt and a text of 1024 tokens"):
        task.build_all_requests(limit=1)


@pytest.mark.parametrize(
    ("chosen", "asked"), [((), (0, 2, 3, 5)), (("--limit", "3"), (0, 2)), (("--samples", [1, 3, 5]), (3, 5))]
)
def test_requests_that_are_too_long_are_left_out_on_request_and_named(requests, tmp_path, chosen, asked):
    """Asked of the real model; `doc_id` counts as without what is left out."""
    metadata = {"requests": str(requests), "too_long": "skip", "too_long_to": str(tmp_path / "log")}
    words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--tasks", TASK, "--log_samples"]
    words += ["--metadata", json.dumps(metadata), "--output_path", str(tmp_path / "log"), "--batch_size", "4"]
    chosen = [json.dumps({TASK: word}) if isinstance(word, list) else word for word in chosen]
    # A text of 8 tokens leaves all but the longest in the window, so the window is named.
    run_harness([*words, "--gen_kwargs", "max_gen_toks=8", "--model_args", f"pretrained={BASE},max_length=600", *chosen])
    ids = list_ids(requests)
    samples = read_samples(tmp_path / "log")
    assert [sample["doc"]["id"] for sample in samples] == [ids[i] for i in asked]
    assert [sample["doc_id"] for sample in samples] == list(asked)
    listed = [json.loads(line) for line in (tmp_path / "log" / f"too_long_{TASK}.jsonl").read_text().splitlines()]
    assert {line["id"] for line in listed} == {ids[i] for i in LONG if not chosen or i == LONG[0]}
    assert all(line["tokens"] > line["window"] == 600 and line["split"] == "train" for line in listed)
    read = read_generations(tmp_path / "log", allow_missing=True)
    assert set(read["id"]) <= {ids[i] for i in asked}


def test_a_request_for_a_text_that_is_too_long_is_refused_before_the_model_is_loaded(questions, tmp_path):
    make_requests(questions, "explanation").write_parquet(tmp_path / "requests.parquet")
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes((BASE / name).read_bytes())
    metadata = {"requests": str(tmp_path / "requests.parquet"), "questions": str(questions)}
    message = refuse(tmp_path, TASK, "--gen_kwargs", "max_gen_toks=900", **metadata)
    assert "8 question(s), with prompt and a text of 900 tokens, exceed the 1024 tokens that" in message
    assert """--metadata '{"too_long": "skip"}' leaves them out""" in message
    message = refuse(tmp_path, TASK, "--gen_kwargs", "max_gen_toks=900", **metadata, too_long="skip")
    assert "None of what is asked would be left: lower max_gen_toks (--gen_kwargs), or ask a model" in message
    assert "too_long 'skp' is neither" in refuse(tmp_path, TASK, **metadata, too_long="skp")
    assert "cannot be loaded" in refuse(tmp_path, TASK, "--gen_kwargs", "max_gen_toks=20", **metadata)
    assert "--cache_requests keeps prompts" in refuse(
        tmp_path, TASK, "--cache_requests", "true", "--gen_kwargs", "max_gen_toks=20", **metadata
    )


def test_where_the_window_is_not_known_it_is_said_that_nothing_is_left_out(requests, caplog):
    task = build(TASK, requests=str(requests), too_long="skip", model="gpt", base_url="http://127.0.0.1:1/v1")
    task.check()
    assert "is not known here, so no question is found too long. Name max_length in --model_args" in caplog.text
    assert not task.left_out
