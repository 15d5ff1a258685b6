"""The comparison of two logs says the same of all questions, and of those of each split, domain, subject and belief."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from answers import bound_skewed
from scipy import stats
from test_consistency import REFERENCE, compare_plainly, make_table
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.reporting.consistency import QUESTION_COLUMNS, compare_logs, write_comparison
from intervention.released import convert_released
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import write_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import hash_questions

PARTS = ("by_split", "by_domain", "by_subject", "by_belief")


def write_sides(folder: Path, before: pl.DataFrame, after: pl.DataFrame) -> tuple[list[Path], list[Path]]:
    for name, table in (("before", before), ("after", after)):
        write_probes(table, folder / f"{name}.parquet")
    return [folder / "before.parquet"], [folder / "after.parquet"]


def spread_questions(table: pl.DataFrame) -> pl.DataFrame:
    """Every fourth question in each of four parts; the last of them has no subject."""
    number = pl.int_range(pl.len()) % 4
    table = table.with_columns(
        domain=pl.when(number < 2).then(pl.lit("herbs")).otherwise(pl.lit("stars")),
        split=pl.when(number == 0).then(pl.lit("train")).otherwise(pl.lit("test")),
        subject=pl.when(number < 3).then(pl.lit("right")),  # which is also the name of a belief
        correct=pl.col("prediction") == pl.col("answer"),
    )
    return table.with_columns(hash_questions(table))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    before, after = (spread_questions(make_table(rng.dirichlet(np.full(4, 0.6), 80).tolist())) for _ in range(2))
    return before, after.with_columns(phase=pl.lit("tuned_chat"), run=pl.lit("r"))


def check_part(part: dict, before: pl.DataFrame, after: pl.DataFrame) -> None:
    """A part of a comparison against a plain loop over its questions."""
    rows = np.array([compare_plainly(p, q) for p, q in zip(before["probs"], after["probs"], strict=True)])
    assert part["n"] == len(rows) > 1
    for column, name in ((0, "kl_nats"), (1, "rank_pearson"), (2, "spearman")):
        values = rows[:, column]
        assert part[name] == pytest.approx(values.mean(), abs=1e-12)
        low, high = bound_skewed(values)
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
    before = spread_questions(make_table([[0.7, 0.3], [0.5, 0.5], [0.6, 0.4], [0.2, 0.8]]))
    after = spread_questions(make_table([[1.0, 0.0], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]]))
    report = compare_logs(*write_sides(tmp_path, before, after))
    assert (report["n"], report["kl_infinite"], report["rank_undefined"]) == (4, 1, 1)
    assert report["kl_nats"] == pytest.approx(stats.entropy([0.5, 0.5], [0.6, 0.4]) / 3)
    assert (report["by_split"]["train"]["kl_nats"], report["by_split"]["train"]["kl_infinite"]) == (None, 1)
    assert "KL infinite for 1 questions" in write_comparison(report)
    json.dumps(report, allow_nan=False)


def test_the_file_of_questions_holds_every_comparison_most_moved_first(
    sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
):
    before, after = sides
    after = after.with_columns(question=pl.col("question") + ', "a" <b>\n')
    after = after.with_columns(hash_questions(after))
    before = before.with_columns(after.select("question", "question_hash"))
    before, after = (table.with_columns(choices=pl.lit(['x, "y"', "é", "[", "\\"])) for table in (before, after))
    before, after = (table.with_columns(hash_questions(table)) for table in (before, after))
    logs = write_sides(tmp_path, before, after)
    report = compare_logs(*logs, questions=tmp_path / "deep/q.parquet")
    compare_logs(*logs, questions=tmp_path / "q.csv")
    table = pl.read_parquet(tmp_path / "deep/q.parquet")
    assert table.columns == [*QUESTION_COLUMNS]
    assert table.height == report["n"] == 80
    assert table["kl_nats"].is_sorted(descending=True)
    assert table["kl_nats"].mean() == pytest.approx(report["kl_nats"])
    both = before.join(after, on="id", suffix="_after")
    expected = {row["id"]: row for row in both.iter_rows(named=True)}
    for row in table.iter_rows(named=True):
        by = expected[row["id"]]
        assert row["probs_before"] == by["probs"]
        assert row["probs"] == by["probs_after"]
        for state, probs, first in (("state_before", "probs", "prediction"), ("state", "probs_after", "prediction_after")):
            assert row[state] == ("unsure" if max(by[probs]) <= 0.5 else "right" if by[first] == by["answer"] else "wrong")
    flipped = table.filter(state_before="wrong", state="right")
    assert flipped.height > 0
    text = pl.read_csv(tmp_path / "q.csv", schema_overrides={"id": pl.String})
    for name in ("choices", "probs_before", "probs"):
        assert [json.loads(cell) for cell in text[name]] == table[name].to_list()
    assert text.drop("choices", "probs_before", "probs").equals(table.drop("choices", "probs_before", "probs"))
    assert not [*tmp_path.glob(".q*"), *tmp_path.glob("deep/.q*")]


def test_a_file_of_questions_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"--questions q\.json: name a file that ends in \.parquet or \.csv"):
        compare_logs([tmp_path / "nowhere"], [tmp_path / "nowhere"], questions=Path("q.json"))


def test_the_command_writes_the_file_and_still_prints_only_json(sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path):
    (before,), (after,) = write_sides(tmp_path, *sides)
    words = ("consistency", "--before", before, "--after", after, "--questions", tmp_path / "q.csv", "--json")
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["n"] == pl.read_csv(tmp_path / "q.csv").height == 80
    assert {"kl_nats", "rank_pearson", "spearman", "top1_agreement", "by_split", "by_domain", "by_subject"} <= report.keys()


def test_splits_are_named_by_what_the_tuned_model_was_trained_on(sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path):
    before, after = sides
    model = tmp_path / "model"
    config = {"domain": "herbs", "source": "s"}
    run = write_manifest(model, "train", ["sft.py"], config, {}, {})
    number = pl.int_range(pl.len()) % 4
    before, after = (
        table.with_columns(source=pl.when(number == 2).then(pl.lit("other")).otherwise("source"), domain=pl.lit(domain))
        for table, domain in ((before, "herbs"), (after, "herbs"))
    )
    before, after = (
        table.with_columns(domain=pl.when(number == 3).then(pl.lit("stars")).otherwise("domain")) for table in (before, after)
    )
    kept = pl.when(pl.col("id") == "1").then(pl.lit("dev")).otherwise("split")  # which is not evaluated
    after = after.with_columns(kept.alias("split"), run=pl.lit(run), model=pl.lit(str(model)))
    report = compare_logs(*write_sides(tmp_path, before, after))
    assert report["trained_on"] == config
    sizes = {name: part["n"] for name, part in report["by_split"].items()}
    assert sizes == {"dev": 1, "homo": 19, "id": 20, "ood": 20, "seen": 20}
    check_part(report["by_split"]["id"], before.filter(number == 2), after.filter(number == 2))
    assert "Splits are relative to what --after was trained on: s/herbs." in write_comparison(report)
    # Of another run in that folder nothing is known: the question set's own splits, and a line that says so.
    other = after.with_columns(run=pl.lit("another"))
    report = compare_logs(*write_sides(tmp_path, before, other))
    assert report["trained_on"] is None
    assert set(report["by_split"]) == {"train", "dev", "test"}
    assert f"{model} is no folder with the manifest of run another" in write_comparison(report)


def test_questions_asked_with_another_prompt_are_counted_where_the_same_is_expected(
    sides: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
):
    before, after = (
        pl.concat([table.with_columns(order=pl.lit(order, pl.Int64)) for order in range(4)]).with_columns(
            prompt_hash=pl.format("{} in order {}", "id", "order")
        )
        for table in sides
    )
    phases = {"phase": pl.lit("tuned_probe")}
    report = compare_logs(*write_sides(tmp_path, before, after.with_columns(**phases)))
    assert report["prompts_differ"] == {"n": 0, "first": None}
    assert "prompt" not in write_comparison(report)
    hit = pl.col("id").is_in(["12", "7"]) & (pl.col("order") > 1)
    changed = after.with_columns(prompt_hash=pl.when(hit).then(pl.lit("x")).otherwise("prompt_hash"))
    report = compare_logs(*write_sides(tmp_path, before, changed.with_columns(**phases)))
    assert report["prompts_differ"] == {"n": 2, "first": "s/herbs id '12'"}
    assert "2 questions were asked with another prompt before than after (the first: s/herbs id '12')" in write_comparison(
        report
    )
    # A chat prompt differs from a few-shot one by its nature, and released tables tell no prompts.
    assert compare_logs(*write_sides(tmp_path, before, changed))["prompts_differ"] is None
    unknown = changed.with_columns(**phases, prompt_hash=pl.lit(None, pl.String))
    assert compare_logs(*write_sides(tmp_path, before, unknown))["prompts_differ"] is None


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
