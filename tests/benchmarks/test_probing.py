"""The probing benchmark runs, its sides agree, and its counts are what a plain count gives. No test looks at a clock."""

import pytest
from conftest import BASE
from probing import compare_sides, find_difference, make_model
from sides import Sizes, Writer, count_flops
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


def test_all_sides_answer_alike_and_sharing_reads_what_is_needed(tokenizer, capsys):
    model = make_model(len(tokenizer))
    prompts = Writer(tokenizer).write_cyclic(2, Sizes(shots=2, shot=20))
    found = compare_sides(["loop", "hf 2", "hf-prefix 4"], model, tokenizer, prompts, "A few")
    assert all(find_difference(side, found["loop"]) < 1e-5 for side in found.values())
    every, needed = (count_flops(model, tokenizer, prompts, shared)[0] for shared in (False, True))
    assert found["loop"].tokens == every
    assert needed <= found["hf-prefix 4"].tokens < 1.1 * needed
    assert "the FLOPs allow" in capsys.readouterr().out


def test_the_prompts_have_the_shape_that_is_reported(tokenizer):
    prompts = Writer(tokenizer).write_prompts(20, Sizes())
    lengths = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    head = len(tokenizer(prompts[0][: prompts[0].rindex("\n\n")])["input_ids"])
    assert 470 <= head <= 500
    assert 550 <= sum(lengths) / len(lengths) <= 580
