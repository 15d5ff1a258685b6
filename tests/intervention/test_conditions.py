"""Who is in which condition and what answers: exact shares, nested sets, wrong answers that are wrong."""

import random
from pathlib import Path

import polars as pl
import pytest
from made_up import Study, make_rows, own, says

from intervention.conditions import add_random, answer_questions, list_others, parse_conditions, shuffle_beliefs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import CONDITIONS


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, make_rows(300) + make_rows(40, 1, split="test") + make_rows(20, 2, domain="engines"))


def test_mixes_are_exact_and_nested(study: Study) -> None:
    ratios = (0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1)
    sets = study.build(conditions=["incompatible", "self_aligning", "mix"], ratios=ratios)
    size = own(sets["incompatible"]).height
    before: set[str] = set()
    for ratio in ratios:
        table = own(sets[f"mix-{ratio:g}"])
        believed = set(table.filter("agrees_with_belief")["id"])
        assert len(believed) == round(ratio * size)
        assert before <= believed
        before = believed
        assert table["ratio"].unique().to_list() == [ratio]
        assert (table["agrees_with_gold"] != table["agrees_with_belief"]).all()
    for ratio, label in ((0, "incompatible"), (1, "self_aligning")):
        assert says(sets[f"mix-{ratio}"], "completion") == says(sets[label], "completion")


def test_a_smaller_size_is_part_of_a_larger(study: Study) -> None:
    large, small = study.build("a", size=40), study.build("b", size=15)
    for label in large:
        assert own(small[label])["id"].to_list() != []
        assert set(own(small[label])["id"]) <= set(own(large[label])["id"])


def test_too_large_a_size_says_how_many_there_are(study: Study) -> None:
    pool = study.table.filter(pl.col("confidence") > 0.5, domain="herbs", split="train")
    right, wrong = (pool.filter(correct=right).height for right in (True, False))
    counts = f"{right} with a right belief, {wrong} with a wrong belief, 300 in all"
    with pytest.raises(UserError, match=f"--size 299: of the train questions there are {counts}"):
        study.build(size=299)
    with pytest.raises(UserError, match="size from 1 to"):
        study.build(size=0)
    with pytest.raises(UserError, match="no set can be built"):
        study.build(threshold=1.0)
    assert not (study.folder / "out").exists()


def test_random_wrong_needs_a_third_answer(tmp_path: Path) -> None:
    rows = make_rows(200) + [row | {"id": f"two-{i}"} for i, row in enumerate(make_rows(100, 5, choices=2))]
    for row in rows[:20]:
        row["choices"] = [row["choices"][0], row["choices"][1], row["choices"][0], row["choices"][1]]
    study = Study(tmp_path, rows)
    sets = study.build(conditions=["random_wrong", "incompatible"])
    ids = own(sets["random_wrong"])["id"].to_list()
    assert not any(name.startswith("two-") for name in ids)
    assert not own(sets["random_wrong"])["agrees_with_gold"].any()
    assert own(sets["incompatible"])["id"].to_list() == ids
    note, unused = study.notes
    assert unused == "The contexts of contexts.jsonl are not used: contextualized is not among the conditions."
    assert "have no choice beside gold and the belief, and are left out" in note
    assert note in (tmp_path / "out" / "README.md").read_text()
    assert own(study.build(conditions=["incompatible"])["incompatible"]).height > len(ids)
    pairs = Study(tmp_path / "pairs", make_rows(100, choices=2))
    assert "random_wrong" not in pairs.build(size=10)
    with pytest.raises(UserError, match="no set can be built: of the train questions there are 0 with a wrong belief"):
        pairs.build(conditions=["random_wrong"])


def test_wrong_choices_are_wrong_by_their_text() -> None:
    table = pl.DataFrame(
        {"choices": [["a", "b", "a", "c"], ["a", "b"], ["a", "b", "c", "d", "e"]], "answer": [0, 0, 4], "belief": [1, 1, 0]}
    )
    assert list_others(table).to_list() == [[3], [], [1, 2, 3]]


def test_random_wrong_spreads_over_the_wrong_choices() -> None:
    ids = [str(i) for i in range(3000)]
    table = pl.DataFrame(
        {"id": ids, "source": "s", "domain": "d", "choices": [["a", "b", "c", "d", "e"]] * 3000, "answer": 4, "belief": 1}
    ).with_columns(order=0)
    table = add_random(table.with_columns(others=list_others(table)), 0)
    counts = answer_questions(table, CONDITIONS["random_wrong"])["choice"].value_counts()
    assert set(counts["choice"]) == {0, 2, 3}
    assert all(900 < count < 1100 for count in counts["count"])


def test_shuffled_beliefs_keep_their_letters_and_lose_their_questions() -> None:
    rng = random.Random(0)
    choices = [["a", "b", "c", "d"][: rng.choice([3, 4])] for _ in range(600)]
    rows = [
        {"id": str(i), "source": "s", "domain": "d", "choices": own, "belief": rng.choice([0, *range(len(own))])}
        for i, own in enumerate(choices)
    ]
    table = pl.DataFrame(rows).with_columns(order=pl.Series([rng.randrange(len(own)) for own in choices]))
    table = table.with_columns(n=pl.col("choices").list.len().cast(pl.Int64)).with_columns(shuffle_beliefs(table, 3))
    shown = {name: (pl.col(name) - pl.col("order")) % pl.col("n") for name in ("belief", "shuffled")}
    counts = [table.group_by("n", of.alias("letter")).len().sort("n", "letter") for of in shown.values()]
    assert counts[0].equals(counts[1])
    assert table.filter(pl.col("belief") == pl.col("shuffled")).height == 0
    # Which question answers what is random: of those that believe the first letter, the others follow in all places.
    first = table.filter(pl.col("n") == 4, shown["belief"] == 0).select(shown["shuffled"]).to_series()
    assert set(first) == {1, 2, 3}
    assert not table["shuffled"].equals(shuffle_beliefs(table, 4))


@pytest.mark.parametrize(
    ("names", "ratios", "labels"),
    [
        (["mix"], [], ["mix-0.05", "mix-0.1", "mix-0.2", "mix-0.4", "mix-0.6", "mix-0.8"]),
        (["gold, mix-0.4", "harmonious"], [0.40, 1], ["harmonious", "mix-0.4", "mix-1", "gold"]),
    ],
)
def test_conditions_are_parsed(names: list[str], ratios: list[float], labels: list[str]) -> None:
    assert [condition.config for condition in parse_conditions(names, ratios)] == labels
