"""Trunks and rows hold every input once, and a row's nodes spell its inputs."""

import random

import pytest

from lm_eval_tasks.models.tree import MIN_TRUNK, Input, batch_rows, count_common, pack_rows, plan_trunks


def make_inputs(n, seed):
    rng = random.Random(seed)
    heads = [tuple(rng.choices(range(50), k=rng.choice([0, 10, 40]))) for _ in range(3)]
    tokens = {rng.choice(heads) + tuple(rng.choices(range(2), k=rng.randint(2, 14))) for _ in range(n)}
    return [Input(part, rng.randint(1, 2)) for part in sorted(tokens)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pack", [True, False])
def test_every_input_stands_in_one_row_and_its_path_spells_it(seed, pack):
    inputs = make_inputs(200, seed)
    found = []
    for trunk in plan_trunks(inputs, least=8, ratio=500, pack=pack):
        for row in trunk.rows:
            for item, path in row.paths.items():
                assert trunk.tokens + tuple(row.tokens[node] for node in path) == item.tokens
                assert len(path) >= item.scored  # what is scored is never in a trunk
                assert [row.parents[node] for node in path] == [-1, *path[:-1]]
                found.append(item)
            assert pack or len(row.paths) == 1
            assert pack or not row.is_branched
            edges = {(row.parents[node], row.tokens[node]) for node in range(len(row.tokens))}
            assert len(edges) == len(row.tokens)  # no node is written twice
    assert sorted(found, key=lambda item: item.tokens) == inputs


def test_a_long_common_prefix_becomes_a_trunk_and_several_become_several():
    heads = [tuple(range(start, start + 100)) for start in (0, 1000)]
    inputs = [Input((7, 7, *head, number, 5)) for head in heads for number in range(20)]
    trunks = list(plan_trunks(inputs, least=8, ratio=500))
    assert sorted(len(trunk.tokens) for trunk in trunks if trunk.rows) == [102, 102]


def test_a_short_prefix_is_no_trunk():
    inputs = [Input((1, 2, 3, number, 5)) for number in range(30)]
    assert [len(trunk.tokens) for trunk in plan_trunks(inputs, least=8, ratio=500)] == [0]
    assert MIN_TRUNK > 3


def test_neighbours_share_a_row_only_where_that_costs_less():
    stem = tuple(range(60))
    orders = [Input((*stem, *order, 9)) for order in ((1, 2, 3), (2, 3, 1), (3, 1, 2))]
    assert len(pack_rows(orders, 0, ratio=1000)) == 1
    strangers = [Input((1, *range(number, number + 60))) for number in (100, 200, 300)]
    assert len(pack_rows(strangers, 0, ratio=1000)) == 3  # one token in common is not worth the attention to 60 others


def test_batches_hold_all_rows_and_no_more_tokens_than_allowed():
    inputs = [Input(tuple(range(number, number + length))) for number, length in enumerate([5, 9, 40, 12, 33, 40, 7] * 5)]
    rows = pack_rows(inputs, 0, None)
    batches = list(batch_rows(rows, 4))
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    assert all(len(batch) * max(len(row.tokens) for row in batch) <= 4 * 40 for batch in batches)
    assert [len(row.tokens) for row in batches[0]] == [40] * 4  # the largest come first: what does not fit is known at once


def test_common_tokens_are_counted_like_one_by_one():
    rng = random.Random(0)
    for _ in range(300):
        one, other = (tuple(rng.choices(range(2), k=rng.randint(0, 9))) for _ in range(2))
        plain = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        assert count_common(one, other) == plain
