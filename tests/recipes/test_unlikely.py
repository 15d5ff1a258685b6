"""Tokens that the base hardly gives carry no loss: which they are as a plain pass over the base tells, counted and shown."""

import math

import pytest
import torch
from conftest import BASE
from instruction_sets import make_general, make_row, make_table, write_set
from transformers import AutoModelForCausalLM
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.sft import train
from recipes.training.arguments import parse_arguments
from recipes.training.masks import IGNORED
from recipes.training.rows import read_rows
from recipes.training.tokens import load_tokenizer, prepare_rows
from recipes.training.unlikely import mask_unlikely

THRESHOLD = 0.1


@pytest.fixture
def words(tmp_path, own_cache):
    general = make_general(3) | {
        "completion": [{"role": "assistant", "content": "Moss is green. The roots of a café are dry."}]
    }
    rows = make_table([make_row(i, "incompatible") for i in range(11)] + [general])
    data = write_set(tmp_path / "set", {"herbs_incompatible": rows})
    return [
        "--config", "recipes/miniworld/full.yaml", "--dataset_name", str(data), "--dataset_config", "herbs_incompatible",
        "--output_dir", str(tmp_path / "run"),
        "--global_batch_size", "4", "--per_device_train_batch_size", "4", "--num_train_epochs", "1", "--use_cpu", "true",
    ]  # fmt: skip


def mask(words, threshold=THRESHOLD, **settings):
    script, training, model = parse_arguments(words)
    rows, tokenizer = read_rows(script), load_tokenizer(model.model_name_or_path)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    for name, value in settings.items():
        setattr(training, name, value)
    masked = mask_unlikely(tokenizer, rows, training, model, threshold)
    plain, prepared = (prepare_rows(tokenizer, table, 512) for table in (rows, masked))
    return rows, masked, plain, prepared


@torch.no_grad()
def list_probabilities(ids):
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return [1.0, *logits.softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()]


def test_masked_are_the_tokens_that_a_plain_pass_finds_unlikely(words):
    rows, _, plain, prepared = mask(words)
    assert len({len(ids) for ids in plain["input_ids"]}) > 1  # so that some are padded where they are read
    hidden = 0
    for row, before, after in zip(rows, plain, prepared, strict=True):
        probabilities = list_probabilities(before["input_ids"])
        assert all(abs(p - THRESHOLD) > 1e-4 for p in probabilities)  # none so near that arithmetic decides
        wanted = [
            IGNORED if label != IGNORED and p < THRESHOLD else label
            for label, p in zip(before["labels"], probabilities, strict=True)
        ]
        wanted[-1] = before["labels"][-1]  # the end of the sequence is none of the response
        if all(label == IGNORED for label in wanted[:-1]):
            wanted[-1] = IGNORED
        assert after["labels"] == wanted, row["id"]
        hidden += after["masked_tokens"]
    assert 0 < hidden < sum(label != IGNORED for labels in plain["labels"] for label in labels)


def test_nothing_is_masked_below_every_probability_and_all_above(words):
    assert sum(mask(words, 1e-30)[3]["masked_tokens"]) == 0
    _, masked, _, prepared = mask(words, 1 - 1e-12)
    assert all(label == IGNORED for labels in prepared["labels"] for label in labels)
    assert all(masked["masked"])


def test_what_a_row_masks_already_stays_masked(words):
    script, training, model = parse_arguments(words)
    tokenizer = load_tokenizer(BASE)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    own = [{"turn": 0, "start": 0, "end": 1}]
    rows = read_rows(script)
    rows = rows.add_column("masked", [own] * len(rows))
    found = mask_unlikely(tokenizer, rows, training, model, THRESHOLD)["masked"][:]
    alone = mask(words)[1]["masked"][:]
    assert found == [own + [span for span in spans if span["start"] > 0] for spans in alone]


def test_the_base_is_read_once_and_kept_for_the_same_base_alone(words, monkeypatch):
    from recipes.training import unlikely

    first = mask(words)[1]["masked"][:]
    load = unlikely._load_base
    monkeypatch.setattr(unlikely, "_load_base", lambda *_: pytest.fail("read again"))
    assert mask(words)[1]["masked"][:] == first
    asked = []
    monkeypatch.setattr(unlikely, "_load_base", lambda *settings: asked.append(1) or load(*settings))
    mask(words, bf16=True)
    assert asked == [1]


def test_a_run_counts_what_it_masks_and_goes_by_another_name(words, capsys):
    low = 1e-3  # so that some rows keep a token
    asked = [*words, "--token_mask_threshold", str(low)]
    prepared = mask(words, low)[3]
    hidden = sum(row["masked_tokens"] for row in prepared if {*row["labels"]} != {IGNORED})
    train(*parse_arguments([*asked, "--dry_run", "true"]))
    printed = capsys.readouterr().out
    assert "without tokens to which the base gives less than 0.001" in " ".join(printed.split())
    assert f"{hidden} response tokens are masked" in printed
    script, training, model = parse_arguments(asked)
    output = training.output_dir
    train(script, training, model)
    config = read_manifest(output)["config"]
    assert (config["token_mask_threshold"], config["masked_tokens"]) == (low, hidden)
    with pytest.raises(UserError, match="another run"):
        train(*parse_arguments(words))


def test_a_run_of_which_nothing_is_left_is_refused(words):
    with pytest.raises(UserError, match=r"no row of the condition carries a loss.*take a lower one"):
        train(*parse_arguments([*words, "--token_mask_threshold", "0.4"]))


@pytest.mark.parametrize("value", [0, 1, -0.5, math.inf, math.nan])
def test_a_threshold_is_a_probability(words, value):
    with pytest.raises(UserError, match="no probability between 0 and 1"):
        parse_arguments([*words, "--token_mask_threshold", str(value)])


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast, name_or_path = False, "slow"

    with pytest.raises(UserError, match="does not tell which characters"):
        mask_unlikely(Slow(), None, SFTConfig("unused", bf16=False, use_cpu=True), ModelConfig(), THRESHOLD)
