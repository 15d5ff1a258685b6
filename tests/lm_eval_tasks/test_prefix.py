"""`hf-prefix` gives the log-probabilities of `hf` and of a plain loop, computes fewer tokens, and survives a lack of memory."""

import logging

import pytest
import torch
from conftest import BASE
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny import CONFIGS, LLAMA, UNKNOWN, make_model, make_requests
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.reader import SHARING, TreeReader

# A sum of fp32 numbers in another order: 1e-5, or the last two bits of a large one.
EXACT = {"abs": 1e-5, "rel": 2.5e-7}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def llama(tokenizer):
    return make_model(LlamaConfig, LLAMA, len(tokenizer))


def ask(kind, model, tokenizer, requests, batch_size=16, **options):
    lm = kind(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, **options)
    return lm.loglikelihood(requests, disable_tqdm=True)


def check_alike(ours, theirs):
    assert len(ours) == len(theirs)
    for (own, greedy), (other, other_greedy) in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, **EXACT)
        assert greedy == other_greedy


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_those_of_hf(name, tokenizer):
    model = make_model(*CONFIGS[name], len(tokenizer))
    requests = make_requests()
    theirs = ask(HFLM, model, tokenizer, requests)
    assert len({round(value, 3) for value, _ in theirs}) > len(requests) / 3  # the answers do differ
    for batch_size in (2, 16):
        check_alike(ask(PrefixLM, model, tokenizer, requests, batch_size), theirs)


def test_every_architecture_that_shares_is_tested_here():
    assert {config.model_type for config, _ in CONFIGS.values()} == set(SHARING)


def test_on_the_miniature_base_hf_and_a_plain_loop_agree_question_by_question(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    requests = make_requests(questions=6)
    ours = [value for value, _ in ask(PrefixLM, model, tokenizer, requests)]
    theirs = [value for value, _ in ask(HFLM, model, tokenizer, requests)]
    model.double()
    for own, other, (context, continuation) in zip(ours, theirs, (request.args for request in requests), strict=True):
        ids = tokenizer(context + continuation)["input_ids"]
        start = len(tokenizer(context)["input_ids"])
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        exact = sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids)))
        # Words it never saw: sums of up to six log-probabilities near -20, which fp32 knows to 2e-6 each, in hf too.
        assert own == pytest.approx(exact, abs=2e-5, rel=3e-7)
        assert other == pytest.approx(exact, abs=2e-5, rel=3e-7)


def count_tokens(model, kind, tokenizer, requests, **options):
    """How many tokens the first layer reads, padding counted; prompts that are read with and without a beginning are not."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(PrefixLM, "_check_beginning", lambda *_: None)
    counts = []
    layer = model.model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _, args, kwargs: counts.append(args[0].shape[:2].numel()), with_kwargs=True)
    ask(kind, model, tokenizer, requests, **options)
    hook.remove()
    monkeypatch.undo()
    return sum(counts)


def test_demonstrations_and_stems_are_computed_once(llama, tokenizer):
    head = "\n\n".join(["Questions.", *(f"moss {number} soil the cure bloom\nAnswer: moss" for number in range(12)), ""])
    stems = [f"Which moss {number} the soil bloom cure the moss which soil the bloom cure" for number in range(8)]
    texts = ["soil", "the", "cure", "bloom"]
    listings = ["".join(f"\n{a}. {b}" for a, b in zip("ABCD", texts[k:] + texts[:k], strict=True)) for k in range(4)]
    prompts = [f"{head}{stem}{listing}\nAnswer:" for stem in stems for listing in listings]
    requests = [Instance("loglikelihood", {}, (prompt, f" {letter}"), 0) for prompt in prompts for letter in "ABCD"]
    whole = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    trunk = len(tokenizer(head)["input_ids"])
    stem = len(tokenizer(stems[0])["input_ids"])
    needed = trunk + sum(whole) - len(prompts) * trunk - 3 * len(stems) * (stem - 1)
    assert count_tokens(llama, HFLM, tokenizer, requests) >= sum(whole) - len(prompts)
    assert count_tokens(llama, PrefixLM, tokenizer, requests, batch_size=8) <= 1.05 * needed


def test_option_texts_share_their_question(llama, tokenizer):
    texts = ["the soil", "moss and soil", "bloom or moss", "cure"]
    pairs = [(f"Which moss {k} the soil bloom cure the moss?\nAnswer:", f" {text}") for k in range(20) for text in texts]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    assert count_tokens(llama, PrefixLM, tokenizer, requests) < count_tokens(llama, HFLM, tokenizer, requests) / 2


def test_an_architecture_that_is_not_known_is_asked_as_hf_does_and_said_once(tokenizer, caplog):
    model = make_model(*UNKNOWN, len(tokenizer))
    requests = make_requests(questions=4)
    lm = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    with caplog.at_level(logging.WARNING):
        ours = [lm.loglikelihood(requests, disable_tqdm=True) for _ in range(2)][1]
    assert caplog.text.count("the architecture bloom is not known to allow sharing") == 1
    assert ours == ask(HFLM, model, tokenizer, requests, 8)


def test_only_inputs_that_must_be_cut_are_asked_as_hf_does(llama, tokenizer, caplog):
    requests = make_requests(questions=8)
    lengths = sorted(len(tokenizer("".join(request.args))["input_ids"]) for request in requests)
    options = {"max_length": lengths[len(lengths) // 2]}
    with caplog.at_level(logging.WARNING):
        check_alike(ask(PrefixLM, llama, tokenizer, requests, **options), ask(HFLM, llama, tokenizer, requests, **options))
    assert caplog.text.count("inputs are longer than the model's") == 1


def test_batches_are_halved_where_memory_runs_out(llama, tokenizer, caplog, monkeypatch):
    requests = make_requests(blocks=1, questions=24)
    theirs = ask(HFLM, llama, tokenizer, requests)
    read, sizes = TreeReader.read_rows, []

    def lack(self, shared, rows, asked):
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        sizes.append(len(rows))
        return read(self, shared, rows, asked)

    monkeypatch.setattr(TreeReader, "read_rows", lack)
    with caplog.at_level(logging.WARNING):
        check_alike(ask(PrefixLM, llama, tokenizer, requests, 16), theirs)
    assert max(sizes) > 1
    assert "out of memory; going on with batch size" in caplog.text


def test_in_bf16_the_most_probable_choice_is_the_same(tokenizer):
    model = make_model(LlamaConfig, LLAMA, len(tokenizer)).to(torch.bfloat16)
    requests = make_requests(questions=24, orders=1)
    theirs = [value for value, _ in ask(HFLM, model, tokenizer, requests, softmax_dtype="float32")]
    ours = [value for value, _ in ask(PrefixLM, model, tokenizer, requests, softmax_dtype="float32")]
    largest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"largest difference in bf16: {largest:.3f} nats of {-min(theirs):.0f}")
    groups = {}
    for request, own, other in zip(requests, ours, theirs, strict=True):
        groups.setdefault(request.args[0], {})[request.args[1]] = (own, other)
    for answers in groups.values():
        best = max(answers, key=lambda choice: answers[choice][1])
        # Choices closer than the type's own noise may swap.
        assert max(own for own, _ in answers.values()) - answers[best][0] <= 2 * largest
    assert largest < 0.25


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece", "sentencepiece without bos"])
def test_token_ids_are_those_that_lm_eval_finds(kind, tokenizer, llama, sentencepiece):
    tokenizer = tokenizer if kind == "byte-level" else AutoTokenizer.from_pretrained(sentencepiece)
    options = {"tokenizer": tokenizer, "add_bos_token": False if kind.endswith("bos") else None}
    ours, theirs = (lm(pretrained=llama, **options) for lm in (PrefixLM, HFLM))
    pairs = [request.args for request in make_requests(questions=10)]
    pairs += [("one line", " A"), ("one line", "s"), ("two\nlines", "x"), ("two\nlines", "es"), ("a space\nAnswer: ", "A")]
    pairs += [
        ("答案：", "A"),
        ("问题\n答案：", "B"),
        ("问题\n答案：", "B"),
        ("1\n\n", "A"),
        (f"{tokenizer.bos_token}x\nAnswer:", " A"),
    ]
    ours._encode_ahead(pairs)
    for pair in pairs:
        assert ours._encode_pair(*pair) == theirs._encode_pair(*pair)
