"""Every layout of processes and micro-batches trains the same steps, and each row once an epoch."""

import random

import pytest

from recipes.training.batches import BLANK, Batches


def make_lengths(n, seed=0):
    """Lengths like those of the released samples, and a few long rows."""
    rng = random.Random(seed)
    return [min(2048, 80 + int(rng.lognormvariate(5, 0.5))) for _ in range(n)]


def list_steps(lengths, rows, processes, accumulation, seed=1, epoch=0):
    """The steps of an epoch, each as the micro-batches of all processes."""
    parts = []
    for rank in range(processes):
        batches = Batches(lengths, effective_batch_size=rows, dp_size=processes, grad_accum=accumulation, seed=seed, rank=rank)
        batches.set_epoch(epoch)
        parts.append(list(batches))
        assert len(parts[-1]) == len(batches)
    of_step = [[part[start : start + accumulation] for part in parts] for start in range(0, len(parts[0]), accumulation)]
    return [[batch for own in step for batch in own] for step in of_step]


def list_rows(steps, n):
    """The rows of each step, in order and without blank ones."""
    return [sorted(row for batch in step for row in batch if row != n) for step in steps]


@pytest.mark.parametrize("n", [1, 3, 7, 16, 37, 64, 129])
@pytest.mark.parametrize("rows", [8, 16, 64])
def test_steps_have_the_same_rows_whatever_the_layout_and_each_row_comes_once(n, rows):
    lengths = make_lengths(n)
    plain = list_rows(list_steps(lengths, rows, 1, 1), n)
    assert [len(step) for step in plain] == [rows] * (n // rows) + [n % rows] * (n % rows > 0)
    assert sorted(row for step in plain for row in step) == list(range(n))
    for processes, accumulation in ((1, 2), (1, 8), (2, 1), (2, 4), (4, 2), (8, 1), (1, rows), (rows, 1)):
        steps = list_steps(lengths, rows, processes, accumulation)
        assert list_rows(steps, n) == plain
        assert all(len(step) == processes * accumulation and all(step) for step in steps)


def test_micro_batches_cost_alike_and_are_little_padded():
    lengths = make_lengths(1024)
    step = [[lengths[row] for row in batch] for batch in list_steps(lengths, 256, 2, 32)[0]]
    sizes = [len(batch) * max(batch) for batch in step]
    assert 1 - sum(map(sum, step)) / sum(sizes) < 0.03
    assert max(sizes) < 2 * sum(sizes) / len(sizes)
    assert len({len(batch) for batch in step}) > 2  # long rows share theirs with fewer


def test_only_an_incomplete_step_with_fewer_rows_than_micro_batches_is_filled_up():
    lengths = make_lengths(37)
    steps = list_steps(lengths, 16, 2, 4)
    assert [sum(row == 37 for batch in step for row in batch) for step in steps] == [0, 0, 3]
    assert [37] in steps[2]
    batches = Batches(lengths, effective_batch_size=16, dp_size=2, grad_accum=4)
    assert batches.lengths[37] == BLANK


def test_no_two_seeds_and_epochs_share_an_order():
    lengths = make_lengths(64)
    orders = [str(list_rows(list_steps(lengths, 8, 1, 1, seed, epoch), 64)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16
    assert str(list_rows(list_steps(lengths, 8, 1, 1, 2, 3), 64)) == orders[11]
