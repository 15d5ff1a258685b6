"""`hf-prefix` gives the log-probabilities of `hf`, and computes fewer tokens for them."""

import logging
import random

import pytest
import torch
from conftest import BASE
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

from lm_eval_tasks.prefix import PrefixLM, count_common, find_runs

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


def make_model(config, tokenizer):
    torch.manual_seed(0)
    settings = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    if config is None:
        return AutoModelForCausalLM.from_pretrained(BASE).eval()
    return AutoModelForCausalLM.from_config(config(**settings, **({} if config is GPT2Config else SIZES))).eval()


def make_requests(n=60):
    """Questions of three few-shot blocks and one without, with choices of one to six tokens; some asked twice."""
    rng = random.Random(0)
    words = ["moss", "soil", "bloom", "the", "cure", "Which", "x9!"]
    text = lambda k: " ".join(rng.choices(words, k=k))  # noqa: E731
    blocks = [
        f"Questions about {i}.\n\n" + "\n\n".join(f"{text(8)}\nAnswer: {text(1)}" for _ in range(5)) for i in range(3)
    ] + [""]
    questions = [f"{rng.choice(blocks)}\n\n{text(rng.randint(1, 12))}\nAnswer:" for _ in range(n)]
    pairs = [(question, f" {choice}") for question in questions for choice in ("moss", "the soil", text(5), "the soil x9")]
    return [Instance("loglikelihood", {}, pair, 0) for pair in [*pairs, *pairs[:8]]]


@pytest.mark.parametrize("config", [None, LlamaConfig, Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_log_probabilities_are_those_of_hf(config, batch_size, tokenizer):
    model = make_model(config, tokenizer)
    requests = make_requests()
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16).loglikelihood(requests, disable_tqdm=True)
    shared = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size).loglikelihood(requests, disable_tqdm=True)
    assert len(plain) == len(shared) == len(requests)
    for (a, greedy_a), (b, greedy_b) in zip(plain, shared, strict=True):
        assert a == pytest.approx(b, abs=3e-5)  # a choice sums up to six tokens; each is rounded in fp32
        assert greedy_a == greedy_b


def test_fewer_tokens_are_computed(tokenizer):
    model = make_model(LlamaConfig, tokenizer)
    counts = {HFLM: 0, PrefixLM: 0}
    for kind in counts:

        def count(_module, _args, kwargs, kind=kind):
            counts[kind] += kwargs["input_ids"].numel()

        hook = model.model.register_forward_pre_hook(count, with_kwargs=True)
        kind(pretrained=model, tokenizer=tokenizer, batch_size=16).loglikelihood(make_requests(), disable_tqdm=True)
        hook.remove()
    assert counts[PrefixLM] < counts[HFLM] / 3


@pytest.mark.parametrize("case", ["architecture", "length"])
def test_what_cannot_be_shared_is_asked_the_plain_way_and_said(case, tokenizer, caplog):
    model = make_model(GPT2Config if case == "architecture" else LlamaConfig, tokenizer)
    requests = make_requests(8)
    options = {"pretrained": model, "tokenizer": tokenizer, "batch_size": 8, "max_length": 40 if case == "length" else None}
    with caplog.at_level(logging.WARNING):
        shared = PrefixLM(**options).loglikelihood(requests, disable_tqdm=True)
    assert "prefixes are not shared" in caplog.text
    assert shared == HFLM(**options).loglikelihood(requests, disable_tqdm=True)


def test_runs_hold_every_input_once_and_share_what_they_say():
    rng = random.Random(1)
    inputs = sorted({tuple(rng.choices(range(3), k=rng.randint(2, 12))) for _ in range(200)})
    limits = {tokens: rng.randint(0, len(tokens) - 1) for tokens in inputs}
    runs = list(find_runs([(tokens, limits[tokens]) for tokens in inputs]))
    assert [tokens for _, run in runs for tokens in run] == inputs
    for length, run in runs:
        assert len({tokens[:length] for tokens in run}) == 1
        assert all(length <= limits[tokens] for tokens in run)
    assert count_common((1, 2, 3), (1, 2, 4)) == 2
    assert count_common((1, 2), (1, 2, 4)) == 2
    assert count_common((), (1,)) == 0
