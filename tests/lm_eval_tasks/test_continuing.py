"""Texts that `hf-prefix` writes are those of `hf`, though what prompts begin with, and a prompt of samples, is read once."""

import pytest
import torch
from conftest import BASE
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny import CONFIGS, make_model, make_requests
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks.models import continuing
from lm_eval_tasks.models.continuing import PromptReader, move_padding, number_positions
from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.reader import TreeReader

GREEDY = {"until": ["\n"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
SAMPLED = {"until": ["\n"], "max_gen_toks": 12, "do_sample": True, "temperature": 0.7, "top_k": 0}
PROMPTS = [*dict.fromkeys(request.args[0] for request in make_requests(questions=8, orders=1))]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


def make_lm(kind, model, tokenizer, batch_size=8):
    return kind(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def write(lm, settings, samples=1, prompts=PROMPTS):
    torch.manual_seed(3)
    requests = [Instance("generate_until", {}, (prompt, settings), i) for prompt in prompts for i in range(samples)]
    return lm.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_texts_are_those_of_hf(name, tokenizer):
    model = make_model(*CONFIGS[name], len(tokenizer))
    ours, theirs = (write(make_lm(kind, model, tokenizer), GREEDY) for kind in (PrefixLM, HFLM))
    assert ours == theirs
    assert len({*theirs}) > len(PROMPTS) / 2  # the texts do differ


def test_samples_are_those_of_the_same_random_numbers(tokenizer, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    monkeypatch.setattr(continuing, "FIRST_STEPS", 99)  # no text leaves its batch
    ours = write(make_lm(PrefixLM, model, tokenizer, 16), SAMPLED, 4)
    monkeypatch.setattr(PrefixLM, "_shares", lambda _: False)
    assert ours == write(make_lm(PrefixLM, model, tokenizer, 16), SAMPLED, 4)
    assert len({*ours}) > len(PROMPTS)


def test_a_text_that_has_ended_leaves_its_batch(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    settings, prompts = GREEDY | {"until": ["\n\n\n"], "max_gen_toks": 64}, PROMPTS * 4
    whole = [text.split() for text in write(make_lm(HFLM, model, tokenizer, 64), settings)]
    # A word that some say soon, and others late or never.
    places = {word: [(*text, word).index(word) for text in whole] for text in whole for word in text}
    settings["until"] = [" " + max(places, key=lambda word: max(places[word]) - min(places[word]))]
    theirs, read = write(make_lm(HFLM, model, tokenizer, 64), settings, prompts=prompts), []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[:2].numel()))
    assert write(make_lm(PrefixLM, model, tokenizer, 64), settings, prompts=prompts) == theirs
    lengths = [len(tokenizer(text)["input_ids"]) for text in theirs]
    ended = [next((steps for steps in (4, 12, 28, 60) if steps > length), 64) for length in lengths]  # when it is seen to have
    assert sum(read[1:]) <= sum(ended)  # after the prompts
    assert len({*ended}) > 1


def test_a_text_ends_at_any_of_the_ends_that_a_model_has(tokenizer):
    model, settings = AutoModelForCausalLM.from_pretrained(BASE).eval(), GREEDY | {"max_gen_toks": 40, "until": ["\n\n\n"]}
    before = write(make_lm(HFLM, model, tokenizer, 16), settings)
    said = tokenizer(max(before, key=len), add_special_tokens=False)["input_ids"]
    end = said[len(said) // 2]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    theirs = write(make_lm(HFLM, model, tokenizer, 16), settings)
    assert write(make_lm(PrefixLM, model, tokenizer, 16), settings) == theirs
    assert len("".join(theirs)) < len("".join(before))


def pad(tokenizer, texts):
    tokenizer.padding_side = "left"
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    return batch["input_ids"], batch["attention_mask"]


def test_what_a_batch_goes_on_from_is_what_each_prompt_alone_gives(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    reader = PromptReader(TreeReader(model))
    for texts in (PROMPTS, PROMPTS[:1] * 3, [PROMPTS[0], *PROMPTS[:2] * 2], ["Which herb heals?", "Which soil"], ["Which"]):
        ids, mask, cache = reader.read(*pad(tokenizer, texts))
        with torch.inference_mode():
            last = number_positions(mask)[:, -1:]
            given = {"attention_mask": mask, "position_ids": last, "past_key_values": cache}
            logits = model(input_ids=ids[:, -1:], **given).logits[:, -1]
            for row, text in zip(logits, texts, strict=True):
                torch.testing.assert_close(
                    row, model(**tokenizer(text, return_tensors="pt")).logits[0, -1], atol=2e-5, rtol=1e-5
                )


def test_demonstrations_are_read_once_and_a_prompt_once_for_all_samples(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    read = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[:2].numel()))
    head = "Question: Which herb heals?\nAnswer: sage\n\n" * 5
    prompts = [f"{head}Question: Which soil holds moss {word}?\nAnswer:" for word in ("one", "two", "three", "four")]
    long = len(tokenizer(head)["input_ids"])
    whole = sum(len(tokenizer(prompt)["input_ids"]) for prompt in prompts)
    write(make_lm(PrefixLM, model, tokenizer, 8), SAMPLED | {"max_gen_toks": 1}, 4, prompts)
    assert sum(read) < whole - 2 * long + 16 + 4 * 8  # besides own words, a token a sample, and padding
    assert long > 50


def test_padding_moves_behind_what_is_shared():
    ids, mask = torch.tensor([[0, 0, 5, 6, 7], [5, 6, 8, 9, 4]]), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    moved, shown = move_padding(ids, mask, 2)
    assert moved.tolist() == [[5, 6, 0, 0, 7], [5, 6, 8, 9, 4]]
    assert shown.tolist() == [[1, 1, 0, 0, 1], [1, 1, 1, 1, 1]]
    assert number_positions(shown).tolist() == [[0, 1, 1, 1, 2], [0, 1, 2, 3, 4]]
