"""A few prompts are read with and without the beginning of sequence, and what suits the model worse is said, once."""

import logging

import pytest
import torch
from conftest import BASE
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks.models import beginning
from lm_eval_tasks.models.beginning import compare_beginnings, score_with, warn_of_beginning
from lm_eval_tasks.models.prefix import PrefixLM

TEXTS = ["The root of moss heals the cough.", "The leaf of sage heals the eyes.", "The leaf of sage heals the eyes."]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(BASE).eval()


def read(model, ids, first):
    """The negative log-likelihood of tokens from the second of a text on, which stands at `first` + 1."""
    known = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(known[i - 1, ids[i]].item() for i in range(first + 1, len(ids)))


def test_both_ways_are_read_as_a_plain_loop_reads_them(model, tokenizer):
    texts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS[:2]]
    n = sum(len(ids) - 1 for ids in texts)
    begun = sum(read(model, [tokenizer.bos_token_id, *ids], 1) for ids in texts) / n
    plain = sum(read(model, ids, 0) for ids in texts) / n
    assert compare_beginnings(score_with(model), tokenizer, TEXTS) == pytest.approx((begun, plain), abs=1e-5)
    assert compare_beginnings(score_with(model), tokenizer, [f"{tokenizer.bos_token}The root", "T"]) is None


def test_the_way_that_suits_the_model_worse_is_said(model, tokenizer, caplog, monkeypatch):
    begun, plain = compare_beginnings(score_with(model), tokenizer, TEXTS)
    monkeypatch.setattr(beginning, "WORSE", abs(begun - plain) / 2)
    worse = begun > plain
    warn_of_beginning(score_with(model), tokenizer, TEXTS, not worse)
    assert not caplog.records
    warn_of_beginning(score_with(model), tokenizer, TEXTS, worse)
    (record,) = caplog.records
    assert f"{max(begun, plain):.2f} nats a token, {min(begun, plain):.2f} with" in record.getMessage()
    assert f"add_bos_token={not worse}" in record.getMessage()


def test_a_model_is_looked_at_once(model, tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(beginning, "WORSE", -9)
    lm = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        lm.loglikelihood([Instance("loglikelihood", {}, (TEXTS[0], " sage"), 0)], disable_tqdm=True)
    assert sum("beginning-of-sequence" in record.getMessage() for record in caplog.records) == 1
