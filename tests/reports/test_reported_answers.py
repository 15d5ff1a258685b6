"""Public reports on scoring (see tests/README.md): tokens on the border, like inputs, batches, ties, caches, adapters."""

import logging
import sqlite3

import pytest
import torch
from conftest import BASE
from lm_eval.models.huggingface import HFLM
from miniatures import LLAMA, list_requests, make_joining, make_requests, make_tiny
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import normalise_loglikelihoods, read_probe
from lm_eval_tasks.models.prefix import PrefixLM


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_tiny(LlamaConfig, LLAMA, len(tokenizer))


def ask(model, tokenizer, requests, batch_size=8, **options):
    lm = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, **options)
    return [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]


def ask_alone(model, tokenizer, context, continuation):
    """The log-likelihood by the model's own forward, one sequence and no padding."""
    start = len(tokenizer(context)["input_ids"])
    ids = tokenizer(context + continuation)["input_ids"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids)))


# --- a token across the border of prompt and choice


def test_a_choice_that_is_one_token_with_the_prompts_end_is_named():
    tokenizer = make_joining(": [fen")
    assert tokenizer.tokenize("\nAnswer: [fen")[-1] == ":Ġ[fen"
    model = make_tiny(LlamaConfig, LLAMA, len(tokenizer))
    with pytest.raises(UserError, match=r"^' \[fen' after 'ind\?\\nAnswer:' has no token of its own.*Leave its question out"):
        ask(model, tokenizer, list_requests([("Which kind?\nAnswer:", " moor"), ("Which kind?\nAnswer:", " [fen")]))


def test_a_choice_that_begins_within_the_prompts_last_token_is_said(caplog):
    tokenizer = make_joining(": [fen")
    model = make_tiny(LlamaConfig, LLAMA, len(tokenizer))
    requests = list_requests([("Which kind?\nAnswer:", " [fen]"), ("Which kind?\nAnswer:", "moor")])
    with caplog.at_level(logging.WARNING):
        ask(model, tokenizer, requests)
    assert "the beginning of 1 continuations as one token with the end of the prompt (' [fen]' after 'Answer:'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ask(model, tokenizer, requests[1:])
    assert "one token with" not in caplog.text


# --- requests that are the same input


def test_requests_that_read_the_same_tokens_are_answered_each_for_itself(model, tokenizer):
    """Prompt and all of the choice but its last token are alike, and where the choice begins is not."""
    pairs = [("the moss", " soil bloom cure"), ("the moss soil", " bloom cure"), ("the moss soil bloom", " cure")]
    pairs += [("the moss soil bloom", " the"), ("the", " moss soil bloom the"), ("the moss soil bloom", " cure")]
    expected = [ask_alone(model, tokenizer, *pair) for pair in pairs]
    assert ask(model, tokenizer, list_requests(pairs)) == pytest.approx(expected, abs=1e-4)
    assert ask(model, tokenizer, list_requests(pairs[::-1]), 1)[::-1] == pytest.approx(expected, abs=1e-4)


# --- batches


def test_answers_do_not_hang_on_the_batch_or_the_order_of_questions(model, tokenizer):
    requests = make_requests(questions=5)
    first = ask(model, tokenizer, requests, 1)
    for batch_size in (3, 64):
        assert ask(model, tokenizer, requests, batch_size) == pytest.approx(first, abs=2e-5)
    assert ask(model, tokenizer, requests[::-1], 5)[::-1] == pytest.approx(first, abs=2e-5)


def test_in_bf16_no_answer_is_further_from_the_unpadded_one_than_the_type_is_fine(tokenizer):
    """A row that is padded, packed with others or read after a trunk rounds otherwise; that is all."""
    model = make_tiny(LlamaConfig, LLAMA, len(tokenizer)).bfloat16()
    requests = make_requests(questions=6, orders=2)
    alone = [ask_alone(model, tokenizer, *request.args) for request in requests]
    for batch_size in (1, 32):
        for own, other in zip(ask(model, tokenizer, requests, batch_size), alone, strict=True):
            assert own == pytest.approx(other, rel=2**-7)  # bf16 has 8 bits


# --- ties


def test_a_tie_of_two_letters_in_bf16_is_no_belief(tokenizer):
    """Letters whose logits differ by less than bf16 can tell have one probability, and the first of them is no belief."""
    model = make_tiny(LlamaConfig, LLAMA, len(tokenizer)).bfloat16()
    one, other = (tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in (" A", " B"))
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[other] = weight[one]
    values = ask(model, tokenizer, list_requests([("Which?\nAnswer:", " A"), ("Which?\nAnswer:", " B")]))
    assert values[0] == values[1]
    probe = read_probe(values, answer=0)
    assert (probe["prediction"], probe["confidence"]) == (0, 0.5)  # not above the paper's threshold


def test_log_probabilities_of_a_bf16_model_are_not_rounded_to_bf16(tokenizer):
    model = make_tiny(LlamaConfig, LLAMA, len(tokenizer)).bfloat16()
    values = torch.tensor(ask(model, tokenizer, make_requests(questions=4, orders=1)), dtype=torch.float64)
    assert (values.bfloat16().double() != values).double().mean() > 0.9


# --- length


def test_a_choice_is_as_long_as_its_characters_and_not_its_bytes():
    found = normalise_loglikelihoods([-8.0, -8.0], [-9.0, -9.0], ["moor", "Äöüß"])
    assert found["loglikelihoods_per_character"] == [-2.0, -2.0]


# --- caches


def test_a_kept_answer_is_not_given_to_another_prompt(model, tokenizer, tmp_path):
    """The same model, question and choice; another template around them, and another beginning of the sequence."""

    def count():
        with sqlite3.connect(tmp_path / "responses-0.sqlite") as base:
            return base.execute("SELECT COUNT(*) FROM responses").fetchone()[0]

    plain, chat = [("Which?\nAnswer:", " moss")], [("USER: Which? ASSISTANT:", " moss")]
    own = {pairs[0]: ask(model, tokenizer, list_requests(pairs)) for pairs in (plain, chat)}
    assert own[plain[0]] != own[chat[0]]
    for kept, pairs in enumerate((plain, chat, plain, chat)):
        assert ask(model, tokenizer, list_requests(pairs), response_cache=str(tmp_path)) == own[pairs[0]]
        assert count() == min(kept + 1, 2)
    beginning = AutoTokenizer.from_pretrained(BASE, add_bos_token=True)
    begun = ask(model, beginning, list_requests(plain), response_cache=str(tmp_path))
    assert begun != own[plain[0]]
    assert count() == 3


# --- adapters


def test_an_adapter_is_asked_and_not_its_base(tokenizer, tmp_path):
    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), settings).save_pretrained(tmp_path / "adapter")
    requests = make_requests(questions=3)

    def answer(kind, **options):
        lm = kind(pretrained=str(BASE), device="cpu", batch_size=8, **options)
        return [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]

    adapter = {"peft": str(tmp_path / "adapter")}
    theirs = answer(HFLM, **adapter)
    cache = {"response_cache": str(tmp_path / "cache")}
    base = answer(PrefixLM, **cache)
    for _ in range(2):  # dropout is off, and the base's answers are not the adapter's
        assert answer(PrefixLM, **adapter, **cache) == pytest.approx(theirs, abs=1e-4)
    assert max(abs(own - other) for own, other in zip(base, theirs, strict=True)) > 1
