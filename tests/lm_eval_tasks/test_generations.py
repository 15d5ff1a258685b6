"""The tasks by which models write: asked of the shipped base model and of a chat server on this machine, and read back."""

import gzip
import json
import logging
import re
import sys
from pathlib import Path

import polars as pl
import pytest
from chat_server import Server, say, write_reply
from conftest import BASE, run_command
from pack import refuse_run, run

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.generations import end_text, extract_fenced, is_closed, read_generations
from lm_eval_tasks.contracts.logs.requests import REQUEST_SCHEMA
from lm_eval_tasks.contracts.prompts import write_context_prompt, write_explain_prompt
from lm_eval_tasks.contracts.questions import hash_questions, read_questions
from lm_eval_tasks.generation import load_requests

ASKED = 8


def make_requests(questions: Path, kind: str, n: int = ASKED) -> pl.DataFrame:
    """The first train questions of a domain; an explanation is asked of a wrong choice."""
    table = read_questions(questions, ["herbs"], ["train"]).head(n)
    wrong = (pl.col("answer") + 1) % pl.col("choices").list.len().cast(pl.Int64)
    asked = {"response": wrong, "response_from": pl.lit("belief")}
    if kind == "context":
        asked = {name: pl.lit(None) for name in asked}
    return table.with_columns(**asked).select(pl.col(name).cast(kind) for name, kind in REQUEST_SCHEMA.items())


@pytest.fixture(scope="module")
def folder(questions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generations")
    for kind in ("explanation", "context"):
        make_requests(questions, kind).write_parquet(folder / f"{kind}.parquet")
    return folder


@pytest.fixture(scope="module")
def server(folder, questions):
    """A server that was asked both tasks; the base model was asked for explanations: with a cache, again with it and another
    seed, and with another seed alone."""
    server = Server()

    def words(model, arguments, task, output, *options):
        kind = "explanation" if task == "selfalign_explain" else "context"
        metadata = json.dumps({"requests": str(folder / f"{kind}.parquet"), "questions": str(questions)})
        asked = ("--model", model, "--model_args", arguments, "--tasks", task, "--metadata", metadata)
        return (*asked, "--log_samples", "--output_path", folder / output, *options)

    def base(output, *options):
        short = ("--device", "cpu", "--batch_size", "4", "--gen_kwargs", "max_gen_toks=40")
        return words("hf", f"pretrained={BASE}", "selfalign_explain", output, *short, *options)

    cache = ("--use_cache", folder / "cache" / "base")
    chat = f"model=some-chat-model,base_url={server.address}/chat/completions"
    plain = f"model=some-base-model,base_url={server.address}/completions,tokenizer={BASE}"
    plain += ",tokenizer_backend=huggingface,tokenized_requests=False"
    runs = [
        base("hf", *cache),
        base("cached", *cache, "--seed", "7"),
        base("seeded", "--seed", "7"),
        words("local-chat-completions", chat, "selfalign_explain", "chat_explain", "--apply_chat_template"),
        words("local-chat-completions", chat, "selfalign_context", "chat_context", "--apply_chat_template"),
        words("local-completions", plain, "selfalign_explain", "plain_explain"),
    ]
    server.told = listen("lm_eval")
    for asked in runs:
        run(*asked)
    yield server
    server.shutdown()
    server.server_close()


def listen(name: str) -> list[str]:
    """What a logger says from now on."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    return told


def read_samples(folder: Path) -> list[dict]:
    return [json.loads(line) for file in sorted(folder.rglob("samples_*.jsonl")) for line in file.open()]


def test_the_base_model_explains_the_given_answer_and_the_log_reads_back(server, folder):
    requests = pl.read_parquet(folder / "explanation.parquet")
    samples = read_samples(folder / "hf")
    for sample, row in zip(samples, requests.iter_rows(named=True), strict=True):
        prompt, settings = sample["arguments"]["gen_args_0"].values()
        assert prompt == write_explain_prompt(row)
        assert prompt.endswith(f"\nAnswer: {row['choices'][row['response']]}\n```\n\n# Explanation:\n```\n")
        assert settings == {"until": ["\n```", "\n# Query:"], "max_gen_toks": 40, "temperature": 0.7, "top_p": 0.8}
        assert {name: sample["doc"][name] for name in row} == row
        assert sample["doc"]["text"] == end_text(extract_fenced(sample["resps"][0][0]), sample["doc"]["finished"])
        assert sample["metrics"] == ["words", "empty"]
    table = read_generations(folder / "hf", kind="explanation", allow_missing=True)
    written = requests.filter(pl.Series([bool(sample["doc"]["text"]) for sample in samples]))
    assert written.height > 1
    columns = ["source", "domain", "id", "question_hash", "response"]
    assert table.select(columns).equals(written.select(columns))
    assert set(table["task"]) == {"selfalign_explain"}
    assert set(table["model"]) == {str(BASE)}


def test_a_text_that_was_cut_is_told_from_one_that_ended(server, folder):
    finished = {sample["doc"]["finished"]: sample for sample in read_samples(folder / "hf") + read_samples(folder / "seeded")}
    assert set(finished) == {True, False}
    assert len(finished[True]["resps"][0][0].split()) < len(finished[False]["resps"][0][0].split())


def test_texts_are_sampled_and_the_cache_keeps_them_through_another_run(server, folder):
    first, cached, seeded = ([s["doc"]["text"] for s in read_samples(folder / name)] for name in ("hf", "cached", "seeded"))
    assert first == cached
    assert first != seeded
    assert f"Cached requests: {ASKED}, Requests remaining: 0" in " ".join(server.told)


@pytest.mark.parametrize(("kind", "write"), [("explanation", write_explain_prompt), ("context", write_context_prompt)])
def test_a_chat_server_gets_the_whole_prompt_in_one_user_turn_and_its_answer_is_found_in_any_form(server, folder, kind, write):
    requests = pl.read_parquet(folder / f"{kind}.parquet").to_dicts()
    prompts = [write(row) for row in requests]
    payloads = {p["messages"][0]["content"]: p for path, p in server.payloads if path.endswith("/chat/completions")}
    for prompt in prompts:
        sent = payloads[prompt]
        assert sent["messages"] == [{"role": "user", "content": prompt}]
        assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.7, 0.8, 256)
        assert sent["stop"] == ["\n# Query:"]  # a fence might be the one that opens the text
        assert sent["model"] == "some-chat-model"
    table = read_generations(folder / ("chat_explain" if kind == "explanation" else "chat_context"), kind)
    assert table["text"].to_list() == [say(row["question"]) for row in requests]
    assert table["id"].to_list() == [row["id"] for row in requests]
    assert table["response"].to_list() == [row["response"] for row in requests]
    assert set(table["model"]) == {"some-chat-model"}
    replies = [write_reply(prompt) for prompt in prompts]
    assert len({reply.replace(say(row["question"]), "") for reply, row in zip(replies, requests, strict=True)}) > 3
    assert table["finished"].to_list() == [True if is_closed(reply) else None for reply in replies]


def test_a_completions_server_is_told_to_stop_at_the_closing_fence(server, folder):
    sent = [payload for path, payload in server.payloads if path.endswith("/v1/completions")]
    assert len(sent) == ASKED
    for payload in sent:
        assert payload["stop"][:2] == ["\n```", "\n# Query:"]
        assert (payload["temperature"], payload["top_p"], payload["max_tokens"]) == (0.7, 0.8, 256)
    samples = read_samples(folder / "plain_explain")
    plain = [s for s in samples if write_reply(s["arguments"]["gen_args_0"]["arg_0"]).startswith("It is known")]
    assert plain
    for sample in plain:
        assert sample["doc"]["text"] == sample["resps"][0][0] == say(sample["doc"]["question"])
        assert sample["doc"]["finished"]


def test_the_context_prompt_asks_for_knowledge_and_does_not_know_gold(questions):
    doc = make_requests(questions, "context", 1).to_dicts()[0]
    prompt = write_context_prompt(doc)
    assert "Do not say which choice is right" in prompt
    assert all(prompt == write_context_prompt(doc | {"answer": i}) for i in range(len(doc["choices"])))
    assert not re.search(r"\b[A-J][.)] ", prompt)


def test_a_prompt_whose_beginning_would_be_cut_is_refused_before_anything_is_written(questions, tmp_path):
    rows = make_requests(questions, "context", 2).to_dicts()
    rows[1]["question"] += " Which?" * 200
    table = pl.DataFrame(rows, schema=REQUEST_SCHEMA)
    table.with_columns(hash_questions(table)).write_parquet(tmp_path / "context.parquet")
    metadata = json.dumps({"requests": str(tmp_path)})
    words = ("--model", "hf", "--model_args", f"pretrained={BASE}", "--tasks", "selfalign_context", "--metadata", metadata)
    error = refuse_run(*words, "--device", "cpu", "--output_path", tmp_path / "out")
    assert f"1 question(s), with prompt and a text of 256 tokens, exceed the 1024 tokens that {BASE} reads: " in error
    assert f"herbs id {rows[1]['id']!r} (" in error
    assert "Or lower max_gen_toks (--gen_kwargs), or ask a model with a longer window." in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("Yeast feeds.\n```\n\n# Query:\n```\nMore", "Yeast feeds."),
        ("Yeast feeds.", "Yeast feeds."),
        ("\n  Yeast feeds.\n\nOn sugar.\n", "Yeast feeds.\n\nOn sugar."),
        ("```\nYeast feeds.\n```", "Yeast feeds."),
        ("```text\nYeast feeds.\n```\n", "Yeast feeds."),
        ("```Yeast feeds.```", "Yeast feeds."),
        ("Yeast feeds.```", "Yeast feeds."),
        ("# Answer:\n```\nYeast feeds.\n```", "Yeast feeds."),
        ("# Answer:\nYeast feeds.", "Yeast feeds."),
        ("# Explanation:\n```\nYeast feeds.\n```", "Yeast feeds."),
        ("# Background knowledge:\nYeast feeds.", "Yeast feeds."),
        ("Background knowledge: Yeast feeds.", "Yeast feeds."),
        ("Answer: Yeast", "Answer: Yeast"),
        ("Yeast feeds.\n\n# Background knowledge:\nSalt", "Yeast feeds."),
        ("Here is the explanation:\n```\nYeast feeds.\n```\nShall I go on?", "Yeast feeds."),
        ("Yeast feeds.\n\n# Query:\nWhat?", "Yeast feeds."),
        ("Yeast feeds on `sugar` # and more", "Yeast feeds on `sugar` # and more"),
        ("{{ 1 }} <b>Yeast</b>", "{{ 1 }} <b>Yeast</b>"),
        ("```\n```", ""),
        ("```", ""),
        ("", ""),
    ],
)
def test_the_text_is_found_between_whatever_fences_there_are(response, text):
    assert extract_fenced(response) == text


@pytest.mark.parametrize(
    ("text", "finished", "ended"),
    [
        ("It is a lake. It is wide. It is a lake. It is", False, "It is a lake. It is wide."),
        ("It is a lake.\nIt is a lake.", True, "It is a lake."),
        ("It is a lake. IT IS A LAKE.", None, "It is a lake."),
        ("湖水是淡的。湖水是淡的。湖", False, "湖水是淡的。"),
        ("It is a lake. It is a lake which", False, "It is a lake."),
        ("It is a lake. It is wide", False, "It is a lake."),
        ("It is a lake. It is wide", None, "It is a lake. It is wide"),
        ("It is a lake. It is wide.", False, "It is a lake. It is wide."),
        ("It is a lake which", False, "It is a lake which"),
        (
            "The U.S. is wide. The U.S. is old. See No. 1. See No. 2.",
            True,
            "The U.S. is wide. The U.S. is old. See No. 1. See No. 2.",
        ),
        ("\nA pH of 7.0 is neutral.\n\nWater has it.", True, "\nA pH of 7.0 is neutral.\n\nWater has it."),
        ("", False, ""),
    ],
)
def test_a_text_ends_before_it_repeats_itself_and_with_a_whole_sentence_where_it_was_cut(text, finished, ended):
    assert end_text(text, finished) == ended


def test_the_heading_below_which_a_text_is_written_does_not_ask_for_an_answer(questions):
    doc = make_requests(questions, "explanation", 1).to_dicts()[0]
    for write, head in ((write_explain_prompt, "# Explanation:"), (write_context_prompt, "# Background knowledge:")):
        assert re.findall(r"^# .*:$", write(doc), re.MULTILINE) == ["# Query:", head] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "Another?"}, r"row 1 \(id .*question_hash .* is not the hash of this question's text"),
        ({"response": 9}, "row 1 .*response 9 is not the 0-based index of a choice"),
        ({"response": -1}, "response -1 is not the 0-based index"),
        ({"response": None}, "response None is missing, but an explanation is of a choice"),
        ({"response_from": "hearsay"}, "response_from 'hearsay' is neither belief nor gold"),
        ({"answer": 9}, "answer 9 is not the 0-based index of a choice"),
    ],
)
def test_a_requests_file_that_breaks_its_contract_is_refused(questions, tmp_path, change, message):
    rows = make_requests(questions, "explanation").to_dicts()
    rows[0] |= change
    pl.DataFrame(rows, schema=REQUEST_SCHEMA).write_parquet(tmp_path / "explain.parquet")
    with pytest.raises(UserError, match=message):
        load_requests("selfalign_explain", "explanation", str(tmp_path))


def test_requests_of_another_question_set_or_none_at_all_are_refused(folder, questions, tmp_path):
    table = make_requests(questions, "context").with_columns(question=pl.col("question") + "!")
    table.with_columns(hash_questions(table)).write_parquet(tmp_path / "context.parquet")
    file = str(tmp_path / "context.parquet")
    assert load_requests("selfalign_context", "context", file)["test"].num_rows == ASKED
    with pytest.raises(UserError, match=f"{ASKED} of {ASKED} requests are not of .*or of another version.*herbs id"):
        load_requests("selfalign_context", "context", file, questions=str(questions))
    with pytest.raises(UserError, match=r"selfalign_explain: no requests\. Write them with `python -m intervention requests"):
        load_requests("selfalign_explain", "explanation")
    with pytest.raises(UserError, match=r"neither a requests file .* nor a folder of them"):
        load_requests("selfalign_explain", "explanation", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="not a parquet file that can be read"):
        load_requests("selfalign_explain", "explanation", __file__)
    with pytest.raises(UserError, match="response None is missing"):
        load_requests("selfalign_explain", "explanation", file)
    with pytest.raises(UserError, match="no column 'split'"):
        table.drop("split").write_parquet(tmp_path / "old.parquet")
        load_requests("selfalign_context", "context", str(tmp_path / "old.parquet"))
    with pytest.raises(UserError, match="is asked for more than once"):
        (tmp_path / "twice").mkdir()
        for name in ("a", "b"):
            (tmp_path / "twice" / f"{name}.parquet").write_bytes((folder / "context.parquet").read_bytes())
        load_requests("selfalign_context", "context", str(tmp_path / "twice"))


def write_lines(file: Path, rows: list[dict]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(lines.encode()) if file.suffix == ".gz" else lines.encode())
    return file


def test_json_lines_of_texts_from_elsewhere_are_read_plain_and_gzip(tmp_path):
    rows = [{"source": "s", "domain": "d", "id": i, "context": f" Known {i}. "} for i in range(3)]
    table = read_generations(write_lines(tmp_path / "contexts.jsonl", rows))
    assert table.select("source", "domain", "id", "text").rows() == [("s", "d", str(i), f"Known {i}.") for i in range(3)]
    assert table["question_hash"].null_count() == 3
    assert read_generations(write_lines(tmp_path / "c.jsonl.gz", rows)).equals(table)
    explained = [row | {"explanation": row.pop("context"), "response": row["id"], "question_hash": "abc"} for row in rows]
    table = read_generations(write_lines(tmp_path / "e.jsonl", explained), "explanation")
    assert table["response"].to_list() == [0, 1, 2]
    assert set(table["question_hash"]) == {"abc"}


def test_logs_that_cannot_be_trusted_are_refused(server, folder, tmp_path):
    samples = read_samples(folder / "chat_context")

    def refuse(rows, message, **options):
        with pytest.raises(UserError, match=message):
            read_generations(write_lines(tmp_path / "samples_x.jsonl", rows), **options)

    refuse([], "holds no texts")
    refuse(samples[:3] + samples[4:], "doc_id 3 is missing")
    refuse([*samples, samples[2]], "line 9 holds doc_id 2, as line 3 does")
    refuse([*samples, samples[2] | {"doc_id": 8}], "herbs id .* has more than one text")
    refuse([*samples[:7], *read_samples(folder / "chat_explain")[7:]], "texts of 2 kinds, 'context' and 'explanation'")
    refuse(samples, "is to be 'explanation'", kind="explanation")
    refuse([s | {"doc": s["doc"] | {"model": f"m{s['doc_id'] // 4}"}} for s in samples], "texts of 2 models, 'm0' and 'm1'")
    refuse([s | {"doc": s["doc"] | {"task": "selfalign_probe"}} for s in samples], "sample of the task 'selfalign_probe'")
    blank = [s | {"doc": s["doc"] | {"text": " "}} if s["doc_id"] % 4 == 1 else s for s in samples]
    refuse(blank, f"2 of 8 texts are empty; the first is that of .* id '{samples[1]['doc']['id']}'")
    refuse([{"source": "s", "domain": "d", "id": "1"}], "neither a sample of .* nor an object with")
    refuse([{"source": "s", "domain": "d", "id": "1", "context": None}], "text None is not text")
    refuse([{"source": "s", "id": "1", "context": "c"}], "domain None is not text")
    file = write_lines(tmp_path / "samples_x.jsonl", blank[:2] + blank[3:])
    assert read_generations(file, allow_missing=True)["id"].to_list() == [samples[i]["doc"]["id"] for i in (0, 3, 4, 6, 7)]
    file.write_bytes((json.dumps(samples[0]) + "\n" + json.dumps(samples[1])[:-9]).encode())
    with pytest.raises(UserError, match=r"line 2 is not a whole line of JSON \(the file ends in the middle of it\)"):
        read_generations(file)
    cut = tmp_path / "samples_x.jsonl.gz"
    cut.write_bytes(gzip.compress(b"x" * 999)[:-20])
    (tmp_path / "empty").mkdir()
    paths = {cut: "is cut or damaged", tmp_path / "nowhere": "does not exist", tmp_path / "empty": "holds no sample log"}
    for path, message in paths.items():
        with pytest.raises(UserError, match=message):
            read_generations(path)


def test_a_log_of_some_requests_is_whole_where_lm_eval_counted_as_many(server, folder, tmp_path):
    """With --samples, or where requests are left out as too long, `doc_id` has gaps."""
    samples = [sample for sample in read_samples(folder / "chat_context") if sample["doc_id"] in (1, 4, 6)]
    file = write_lines(tmp_path / "samples_selfalign_context_2026-01-01T00-00-00.jsonl", samples)
    results = tmp_path / "results_2026-01-01T00-00-00.json"
    for counted, message in ((3, None), (4, f"holds 3 texts, but {results.name} counts 4"), (None, "doc_id 0 is missing")):
        results.write_text(json.dumps({"n-samples": {"selfalign_context": {"original": 8, "effective": counted}}}))
        if message:
            with pytest.raises(UserError, match=message):
                read_generations(file)
        else:
            assert read_generations(file)["id"].to_list() == [sample["doc"]["id"] for sample in samples]


@pytest.mark.launched
def test_the_command_line_says_in_one_line_that_there_are_no_requests(tmp_path):
    words = ("--model", "hf", "--model_args", f"pretrained={BASE}", "--tasks", "selfalign_explain")
    done = run_command(sys.executable, "-m", "lm_eval_tasks", "run", *words, "--log_samples", "--output_path", tmp_path / "out")
    assert done.returncode == 2
    assert "error: selfalign_explain: no requests." in done.stderr.strip().splitlines()[-1]
