"""The comparison of two logs says the same of all questions, and of those of each split, domain, subject and belief."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from test_consistency import REFERENCE, compare_plainly, make_table

from analysis.compare import compare_logs, write_comparison
from analysis.intervals import LEVEL
from intervention.released import convert_released
from lm_eval_tasks.questions import hash_questions
from lm_eval_tasks.samples import write_probes

PARTS = ("by_split", "by_domain", "by_subject", "by_belief")


def write_sides(folder: Path, before: pl.DataFrame, after: pl.DataFrame) -> tuple[list[Path], list[Path]]:
    for name, table in (("before", before), ("after", after)):
        write_probes(table, folder / f"{name}.parquet")
    return [folder / "before.parquet"], [folder / "after.parquet"]


def place_questions(table: pl.DataFrame) -> pl.DataFrame:
    """Every fourth question in each of four places; the last of them has no subject."""
    place = pl.int_range(pl.len()) % 4
    table = table.with_columns(
        domain=pl.when(place < 2).then(pl.lit("herbs")).otherwise(pl.lit("stars")),
        split=pl.when(place == 0).then(pl.lit("train")).otherwise(pl.lit("test")),
        subject=pl.when(place < 3).then(pl.lit("right")),  # which is also the name of a belief
        correct=pl.col("prediction") == pl.col("answer"),
    )
    return table.with_columns(hash_questions(table))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    before, after = (place_questions(make_table(rng.dirichlet(np.full(4, 0.6), 80).tolist())) for _ in range(2))
    return before, after.with_columns(phase=pl.lit("tuned_chat"), run=pl.lit("r"))


def check_part(part: dict, before: pl.DataFrame, after: pl.DataFrame) -> None:
    """A part of a comparison against a plain loop over its questions."""
    rows = np.array([compare_plainly(p, q) for p, q in zip(before["probs"], after["probs"], strict=True)])
    assert part["n"] == len(rows) > 1
    for column, name in ((0, "kl_nats"), (1, "rank_pearson"), (2, "spearman")):
        values = rows[:, column]
        assert part[name] == pytest.approx(values.mean(), abs=1e-12)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
        assert part["intervals"][name] == pytest.approx([max(low, 0 if name == "kl_nats" else -1), high], abs=1e-9)
    assert part["top1_agreement"] == pytest.approx((before["prediction"] == after["prediction"]).mean())
    assert part["rank_undefined"] == rows[:, 3].sum()


def test_each_part_is_a_plain_loop_over_its_questions(sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path):
    before, after = sides
    report = compare_logs(*write_sides(tmp_path, before, after))
    check_part(report, before, after)
    state = pl.Series(
        ["unsure" if max(row["probs"]) <= 0.5 else "right" if row["correct"] else "wrong" for row in before.to_dicts()]
    )
    for key, values in zip(PARTS, (*(before[n] for n in ("split", "domain", "subject")), state), strict=True):
        assert set(report[key]) == set(values.drop_nulls())
        for name, part in report[key].items():
            chosen = (values == name).fill_null(False)
            check_part(part, before.filter(chosen), after.filter(chosen))
    assert list(report["by_belief"]) == ["right", "wrong", "unsure"]
    assert [sum(part["n"] for part in report[key].values()) for key in PARTS] == [80, 80, 60, 80]


def test_the_terminal_names_each_part_and_json_holds_only_numbers(sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path):
    report = compare_logs(*write_sides(tmp_path, *sides))
    text = write_comparison(report)
    lines = [line.split("  ")[0] for line in text.splitlines()]
    for name in ("all", "split train", "domain stars", "belief unsure"):
        assert name in lines
    assert "subject right" not in lines  # there is one only
    json.dumps(report, allow_nan=False)


def test_an_infinite_divergence_is_counted_and_no_part_of_the_mean(tmp_path: Path):
    before = place_questions(make_table([[0.7, 0.3], [0.5, 0.5], [0.6, 0.4], [0.2, 0.8]]))
    after = place_questions(make_table([[1.0, 0.0], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]]))
    report = compare_logs(*write_sides(tmp_path, before, after))
    assert (report["n"], report["kl_infinite"], report["rank_undefined"]) == (4, 1, 1)
    assert report["kl_nats"] == pytest.approx(stats.entropy([0.5, 0.5], [0.6, 0.4]) / 3)
    assert (report["by_split"]["train"]["kl_nats"], report["by_split"]["train"]["kl_infinite"]) == (None, 1)
    assert "KL infinite for 1 questions" in write_comparison(report)
    json.dumps(report, allow_nan=False)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the paper's released groups are not at {REFERENCE}")
def test_two_released_models_compare_as_a_plain_loop_says(tmp_path: Path):
    tables = {}
    for model in ("mistral-7b", "llama-2-7b"):
        convert_released(REFERENCE.resolve() / model / "engineering", tmp_path / model)
        tables[model] = pl.read_parquet(tmp_path / model / "probes.parquet")
    report = compare_logs(*([tmp_path / model / "probes.parquet"] for model in tables))
    before, after = tables.values()
    both = before.join(after, on="id", suffix="_after").sort("id")
    assert report["n"] == both.height > 100
    after = both.select(probs="probs_after", prediction="prediction_after")
    finite = [np.isfinite(compare_plainly(*pair)[0]) for pair in zip(both["probs"], after["probs"], strict=True)]
    assert report["kl_infinite"] == both.height - sum(finite) == 0
    check_part(report, both, after)
    assert set(report["by_belief"]) <= {"right", "wrong", "unsure"}
    assert sum(part["n"] for part in report["by_belief"].values()) == both.height
