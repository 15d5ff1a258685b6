"""What is counted on a model without numbers is what a plain count gives, and what a real batch has."""

import torch
from probing import TOKENIZER
from sides import Sizes, Writer, count_flops
from transformers import AutoTokenizer

from tests.gpu.bench import Bench
from tests.gpu.predicting import count_batches, plan_prompts
from tests.gpu.profiled import count_reads
from tests.gpu.shapes import make_7b, make_random


def test_operators_are_counted_without_numbers(tmp_path):
    tokenizer, config = AutoTokenizer.from_pretrained(TOKENIZER), make_7b(tiny=True)
    prompts = Writer(tokenizer).write_prompts(24, Sizes(shots=2, shot=20))
    plan = plan_prompts(config, tokenizer, prompts)
    counted = count_batches(config, plan.batches, rate=1e9, bandwidth=1e9)
    model = make_random(config, "meta", torch.bfloat16)
    tokens, flops = count_flops(model, tokenizer, prompts, shared=True)
    assert tokens <= plan.tokens < 1.1 * tokens
    # The output layer is applied to a trunk's last token too, and masked attention is computed.
    assert flops < counted.flops < 1.3 * flops
    assert sum(shape[0] for shape, _ in counted.softmaxes) == len(prompts)
    assert counted.seconds >= counted.flops / 1e9
    alone = count_batches(config, plan.batches[:1], rate=1e9, bandwidth=1e9, trunks=False)
    assert len(alone.sent) <= 6
    # Keys and values of the trunk and of each row, in bf16, in each of two layers.
    (trunk, rows), width = plan.batches[0], max(len(row.tokens) for row in plan.batches[0][1])
    assert alone.joined == 2 * 2 * config.num_hidden_layers * len(rows) * config.hidden_size * (len(trunk.tokens) + width)


def test_rows_add_no_operators_and_nothing_is_read_one_by_one(tmp_path):
    claims = [row for row in count_reads(Bench(tiny=True, scratch=tmp_path)) if "claim" in row]
    assert len(claims) == 2
    assert all(claim["holds"] for claim in claims)
