"""Every token of a response is read once, with the numbers that a plain forward gives, and no reading passes for another's."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from conftest import BASE, run_command

import lm_eval_tasks.models.prefix  # noqa: F401 (registers `hf-prefix`)
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.readings import PROMPTS, READING_SCHEMA, name_part, read_token_texts, scan_readings
from lm_eval_tasks.contracts.names import read_pairs
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.reading import read
from lm_eval_tasks.reading.command import read_data
from lm_eval_tasks.reading.texts import Tokenized, cut_parts, make_writers, tokenize_texts, write_chat

ROWS = [
    {"messages": [{"role": "user", "content": "Which herb heals?"}, {"role": "assistant", "content": "Sage heals, they say."}]},
    {
        "messages": [
            {"role": "system", "content": "You know herbs."},
            {"role": "user", "content": "Where does moss grow?"},
            {"role": "assistant", "content": "On stones — naïve, wet ones: 石头."},
            {"role": "user", "content": "And fern?"},
            {"role": "assistant", "content": "\n In the shade.\n"},
        ]
    },
    {"messages": [{"role": "user", "content": "Which herb heals?"}, {"role": "assistant", "content": "Ivy"}]},
]
EXACT = {"abs": 2e-5, "rel": 2e-6}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return read_conversations(file)


def load(**arguments):
    arguments = {"pretrained": str(BASE), "chat_template": str(CHAT_TEMPLATE), "dtype": "float32"} | arguments
    return read.load_model("hf-prefix", arguments, {"batch_size": 4, "device": "cpu"})


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture(scope="module")
def folder(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("read") / "readings"
    assert read.read_responses(model, data, folder, list(PROMPTS)).turns == 4
    assert scan_readings(folder)[1]["config"]["model"] == str(BASE)
    return folder


def render(model):
    return lambda messages, add_generation_prompt: model.tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=False
    )


def list_texts(model, data, prompt):
    """The tokens of all turns under a prompt."""
    texts = [make_writers(render(model))[prompt](turn) for turn in data.turns.iter_rows(named=True)]
    return list(tokenize_texts(model.tokenizer, texts, False, model.prefix_token_id))


@torch.inference_mode()
def read_plainly(model, ids, scored):
    """What one forward gives the last tokens: log-probabilities, entropies, the most probable, theirs, and bounds of ranks.

    Far from the top a rank hangs on the last digits of log-probabilities.
    """
    logprobs = model.model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)[-scored:]
    own = logprobs[range(scored), ids[-scored:]]
    best, tops = logprobs.max(-1)
    ranks = [(logprobs > own[:, None] + shift).sum(-1).tolist() for shift in (EXACT["abs"], -EXACT["abs"])]
    return (own, -(logprobs.exp() * logprobs).sum(-1), tops, best), ranks


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_number_is_that_of_a_plain_forward(model, data, folder, prompt):
    readings = scan_readings(folder)[0].filter(prompt=prompt).collect()
    assert readings["row", "turn"].rows() == [(0, 0), (1, 0), (1, 1), (2, 0)]
    names = ("logprobs", "entropies", "tops", "top_logprobs")
    for reading, text in zip(readings.iter_rows(named=True), list_texts(model, data, prompt), strict=True):
        assert reading["tokens"] == text.ids[-text.scored :]
        numbers, ranks = read_plainly(model, text.ids, text.scored)
        for name, expected in zip(names, numbers, strict=True):
            assert reading[name] == pytest.approx(expected.tolist(), **EXACT)
        assert all(least <= rank <= most for least, rank, most in zip(ranks[0], reading["ranks"], ranks[1], strict=True))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tokens_of_a_response_lie_where_its_text_does(data, folder, prompt):
    texts = read_token_texts(folder)
    readings = scan_readings(folder)[0].filter(prompt=prompt).collect()
    assert readings.schema == READING_SCHEMA
    for reading, response in zip(readings.iter_rows(named=True), data.turns["response"], strict=True):
        spans = list(zip(reading["starts"], reading["ends"], strict=True))
        covered = {i for start, end in spans for i in range(start, end)}
        # The template of training keeps the response as it is; the white space around words may belong to no token.
        assert {i for i, letter in enumerate(response) if not letter.isspace()} <= covered <= set(range(len(response)))
        for token, (start, end) in zip(reading["tokens"], spans, strict=True):
            assert texts[token].strip() in response[start:end] or "�" in texts[token]


def test_the_second_turn_is_read_after_the_first(model, data):
    first, second = (list_texts(model, data, "chat")[i] for i in (1, 2))
    assert second.ids[: len(first.ids)] == first.ids
    assert model.tokenizer.decode(second.ids).startswith("You know herbs.")


def test_what_exceeds_the_window_is_read_in_parts_and_counted(data, tmp_path):
    narrow = load(max_length=64)
    found = read.read_responses(narrow, data, tmp_path / "narrow", ["in_context", "alone"])
    assert found.in_parts == 4
    readings = scan_readings(tmp_path / "narrow")[0].collect()
    assert readings.filter(prompt="in_context")["whole"].to_list() == [False] * 4
    assert readings.filter(prompt="alone")["whole"].to_list() == [True] * 4
    for reading, text in zip(
        readings.filter(prompt="in_context").iter_rows(named=True), list_texts(narrow, data, "in_context"), strict=True
    ):
        parts = cut_parts(text, 64)
        assert all(len(part.ids) <= 65 for part in parts)
        expected = torch.cat([read_plainly(narrow, list(part.ids), part.scored)[0][0] for part in parts])
        assert reading["tokens"] == text.ids[-text.scored :]
        assert reading["logprobs"] == pytest.approx(expected.tolist(), **EXACT)


@pytest.mark.parametrize(("tokens", "scored", "window"), [(7, 1, 6), (8, 1, 6), (50, 49, 6), (30, 3, 6), (5, 4, 100)])
def test_each_token_is_in_one_part(tokens, scored, window):
    parts = cut_parts(Tokenized(list(range(tokens)), [0] * scored, [1] * scored), window)
    assert [token for part in parts for token in part.ids[-part.scored :]] == list(range(tokens))[-scored:]
    assert all(part.scored < len(part.ids) <= window + 1 for part in parts)


def test_a_run_that_was_killed_reads_what_is_missing(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "TURNS_A_PART", 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    read.read_responses(model, data, whole, ["chat"])
    shutil.copytree(whole, cut)
    for name in (name_part(1), "manifest.json", "tokens.parquet"):
        (cut / name).unlink()
    with pytest.raises(UserError, match="not all is read yet"):
        scan_readings(cut)
    heights = []
    real = read.read_part
    monkeypatch.setattr(read, "read_part", lambda *args: heights.append(args[1].height) or real(*args))
    read.read_responses(model, data, cut, ["chat"])
    assert heights == [2]
    assert {file.name: file.read_bytes() for file in whole.glob("*.parquet")} == {
        file.name: file.read_bytes() for file in cut.glob("*.parquet")
    }


def test_readings_of_something_else_are_never_gone_on_with(model, data, folder, tmp_path):
    with pytest.raises(UserError, match=r"their prompts was \['chat', 'in_context', 'alone'\], and now is \['chat'\]"):
        read.read_responses(model, data, folder, ["chat"])
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(UserError, match="their data was"):
        read.read_responses(model, read_conversations(other), folder, list(PROMPTS))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are no readings"):
        read.read_responses(model, data, tmp_path / "full", ["chat"])
    with pytest.raises(UserError, match="holds no readings"):
        scan_readings(tmp_path / "full")


def test_a_model_whose_values_are_no_numbers_is_refused(data, tmp_path):
    broken = load()
    torch.nn.init.constant_(broken.model.get_output_embeddings().weight, torch.nan)
    with pytest.raises(UserError, match="no numbers"):
        read.read_responses(broken, data, tmp_path / "broken", ["alone"])


def test_a_template_that_strips_is_read_where_it_writes_and_one_that_rewrites_is_refused(data):
    turn = data.turns.row(2, named=True)

    def strip(messages, add_generation_prompt):
        return "|".join(message["content"].strip() for message in messages) + "|" * add_generation_prompt

    text = write_chat(turn, strip)
    assert (text.whole[text.start :], text.stripped) == ("In the shade.", 2)
    with pytest.raises(UserError, match="row 1: the chat template does not write the response"):
        write_chat(turn, lambda messages, add_generation_prompt: " ".join(m["content"].upper() for m in messages))

    def refuse(*_, **__):
        raise ValueError("no system role")

    with pytest.raises(UserError, match="row 1: the chat template does not take it \\(no system role\\)"):
        write_chat(turn, refuse)


def test_words_that_are_not_known_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no --prompt 'in_contxt' \(is 'in_context' meant\?\)"):
        read_data("x", tmp_path, "hf-prefix", "", {}, prompts=["in_contxt"])
    with pytest.raises(UserError, match="is no NAME=COLUMN"):
        read_pairs(["prompt"])
    with pytest.raises(UserError, match="twice"):
        read_pairs(["prompt=a", "prompt=b"])
    with pytest.raises(UserError, match="hf-prefix alone"):
        read.load_model("dummy", {}, {})


@pytest.mark.launched
def test_the_command_names_flaws_and_writes_readings(tmp_path):
    rows = [
        {"instruction": "Which herb heals?", "input": "", "output": "Sage."},
        {"instruction": "Why?", "input": "", "output": " "},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("-m", "lm_eval_tasks", "read", tmp_path / "rows.jsonl", "--model_args", f"pretrained={BASE}", "--device", "cpu")
    done = run_command("python", *words, "--output", tmp_path / "readings")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 rows, left out: a response that is blank" in done.stderr
    readings = scan_readings(tmp_path / "readings")[0].collect()
    assert readings["prompt"].to_list() == list(PROMPTS)
    assert np.isfinite(readings.explode("logprobs", "entropies").select(pl.col("logprobs", "entropies")).to_numpy()).all()
