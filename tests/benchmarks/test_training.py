"""The training benchmark runs, its sides train alike, and its counts are those of a plain count. No test looks at a clock."""

import pytest
from training import compare_memory, compare_sides, make_model, measure_padding
from training_cpu import compare_precisions
from training_sides import (
    END,
    PADDED,
    RELEASED,
    Measured,
    count_flops,
    make_tokenizer,
    make_up_samples,
    read_released,
    run_side,
    tokenize_samples,
)  # fmt: skip

from recipes.training.tokens import IGNORED


@pytest.fixture(scope="module")
def samples():
    return make_up_samples(60)


@pytest.fixture(scope="module")
def tokenizer(samples):
    return make_tokenizer(samples, 600)


@pytest.mark.launched
def test_all_sides_train_the_same_and_ours_reads_least(samples, tokenizer, capsys, monkeypatch):
    monkeypatch.setattr("training_sides.PADDED", 1000)
    monkeypatch.setattr("training.make_model", lambda vocabulary: make_model(vocabulary, 1))
    rows = tokenize_samples(tokenizer, [row for row in samples if len(row["completion"][0]["content"]) < 900], 4)
    found = compare_sides(tokenizer, rows, 1)
    useful = sum(map(len, rows["input_ids"][:]))
    assert {side.useful for side in found.values()} == {useful}
    assert found["paper"].tokens == found["paper"].scored == 4 * 1000
    assert useful <= found["ours"].tokens <= found["trl"].tokens < found["paper"].tokens
    assert found["ours"].scored == sum(label != IGNORED for labels in rows["labels"][:] for label in labels)
    assert all(side.loss == pytest.approx(found["paper"].loss, rel=1e-6) for side in found.values())
    assert "times the paper's" in capsys.readouterr().out


def test_flops_are_six_a_weight_and_token_and_those_of_causal_attention():
    model = make_model(500, 3)
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "proj" in name)
    head = 500 * 256
    one = Measured(1.0, tokens=1000, useful=900, scored=300, squares=1000 * 250.0, loss=0.0, memory=0)
    attention = 3 * 6 * 256 * 250  # layers; forward and backward of two products over half the square
    assert count_flops(model.config, one) == pytest.approx(6 * (1000 * weights + 300 * head) + 1000 * attention)
    assert count_flops(model.config, one, frozen=True) == pytest.approx(2 / 3 * count_flops(model.config, one))
    both = one + one
    assert (both.speed, both.padded, both.tokens, both.loss) == (900, pytest.approx(0.1), 2000, 0.0)


def test_padded_shares_are_those_of_the_rows():
    table = measure_padding([100, 300] * 256)
    assert [row["ours"] for row in table] == pytest.approx([0] * 6, abs=0.06)
    assert table[0]["trl"] == 0
    assert table[2]["trl"] == pytest.approx(1 - 200 / (300 - 200 / 16), abs=0.02)
    assert table[0]["paper"] == 1 - 200 / PADDED


def test_made_up_samples_are_about_as_long_as_stated(samples):
    words = sorted(sum(len(turn["content"].split()) for turn in row["prompt"] + row["completion"]) - 1 for row in samples)
    assert 200 <= words[30] <= 245
    assert words[0] >= 20


def test_a_step_that_is_measured_after_another_one_is_counted_once(samples, tokenizer):
    rows = tokenize_samples(tokenizer, sorted(samples, key=lambda row: len(str(row)))[:2], 2)
    settings = {"use_cpu": True, "bf16": False, "activation_checkpointing": False}
    own = run_side("ours", lambda: make_model(len(tokenizer), 1), tokenizer, rows, 1, warm=1, **settings)
    lengths = [len(ids) for ids in rows["input_ids"][:]]
    assert (own.tokens, own.useful, own.largest) == (sum(lengths), sum(lengths), max(lengths))
    assert own.squares == sum(length**2 for length in lengths)


@pytest.mark.launched
def test_both_trainers_and_precisions_train_the_same(capsys):
    found = compare_precisions("miniworld/base", rows=4, batch=2)
    trl, ours = found["fp32", "trl"], found["fp32", "ours"]
    assert ours.loss == pytest.approx(trl.loss, rel=1e-5)
    assert all(own.loss == pytest.approx(trl.loss, rel=0.01) for own in found.values())
    assert {own.useful for own in found.values()} == {trl.useful}
    assert "times the first" in capsys.readouterr().out


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the paper's released groups are not beside the project")
@pytest.mark.slow
def test_released_samples_are_read_in_all_conditions():
    released = read_released()
    assert len(released) > 5000
    tokenizer = make_tokenizer(released, 2000)
    rows = tokenize_samples(tokenizer, released, 3)
    assert all(tokenizer.decode(row["input_ids"]).endswith(END) for row in rows)


@pytest.mark.slow
def test_the_loss_needs_less_memory_than_all_logits_at_once(capsys):
    assert compare_memory(151_936, 512) < 0.8
    assert "0" in capsys.readouterr().out
