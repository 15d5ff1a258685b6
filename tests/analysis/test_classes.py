"""By class of question: a plain loop over questions and seeds says the same, and the counts are of different questions."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from answers import bound_skewed
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from studies import write_study

from analysis.chapters.classes import CLASS_SCHEMA, MEASURED, PARTS, compute_classes, tabulate_classes
from analysis.measures.metrics import BOUNDS
from analysis.measures.seeds import summarise_seeds
from analysis.measures.states import add_states
from analysis.reading.study import read_study
from analysis.showing.tables import write_markdown

GROUP = ("condition", "ratio", "phase", "split")


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder: Path = tmp_path_factory.mktemp("study")
    write_study(folder, n=30)
    table = read_study(folder).measures
    # Every third question has no subject.
    has = pl.col("id").str.split("-").list.last().cast(pl.Int64) % 3 > 0
    return table.with_columns(subject=pl.when(has).then(pl.col("question_domain") + "-lore"))


@pytest.fixture(scope="module")
def classes(measures: pl.DataFrame) -> pl.DataFrame:
    return compute_classes(measures)


def summarise_plainly(answers: list[dict], metric: str) -> tuple[float, float, float]:
    """A mean and its interval of answers of several seeds to the same questions, in a plain loop."""
    questions: dict[tuple, list[float]] = {}
    for row in answers:
        key = row["source"], row["question_domain"], row["id"]
        questions.setdefault(key, []).append(float(row[metric]))
    means = [sum(values) / len(values) for values in questions.values()]
    if metric in ("accuracy", "top1_agreement"):
        return np.mean(means), *proportion_confint(sum(means), len(means), method="wilson")
    low, high = bound_skewed(means)
    least, most = BOUNDS[metric]
    return np.mean(means), max(low, least), min(high, most)


def test_every_class_is_a_plain_loop_over_its_answers(measures: pl.DataFrame, classes: pl.DataFrame):
    assert classes.schema == CLASS_SCHEMA
    answers = add_states(measures).filter(pl.col("phase") != "base_probe").to_dicts()
    expected = 0
    for part, column in PARTS.items():
        groups: dict[tuple, list[dict]] = {}
        for row in answers:
            if row[column] is not None:
                groups.setdefault((*(row[name] for name in GROUP), row[column]), []).append(row)
        found = {}
        for row in classes.filter(part=part).iter_rows(named=True):
            found[*(row[name] for name in GROUP), row["class"], row["metric"]] = row
        for key, group in groups.items():
            n = len({(row["source"], row["question_domain"], row["id"]) for row in group})
            for metric in MEASURED:
                row = found.pop((*key, metric))
                assert (row["n"], row["seeds"]) == (n, 0 if key[0] == "base" else 2)
                expected += 1
                value, low, high = summarise_plainly(group, metric)
                assert row["value"] == pytest.approx(value)
                if n == 1 and metric in ("kl_nats", "rank_pearson"):
                    assert (row["low"], row["high"]) == (None, None)
                else:
                    assert (row["low"], row["high"]) == pytest.approx((low, high), nan_ok=True)
        assert not found
    assert expected == classes.height > 200
    assert classes["class"].null_count() == 0


def test_classes_have_an_order_and_what_was_right_stays_right_as_often_as_it_stays(classes: pl.DataFrame):
    belief = classes.filter(part="belief", metric="accuracy", condition="harmonious", phase="tuned_chat", split="homo")
    assert belief["class"].to_list() == ["right", "wrong", "unsure"]
    right = classes.filter(pl.col("class") == "right", part="belief").pivot(
        "metric", index=["condition", "ratio", "phase", "split"], values="value"
    )
    assert right.height > 10
    np.testing.assert_allclose(right["accuracy"], right["top1_agreement"])
    wrong = classes.filter(pl.col("class") == "wrong", part="belief", metric="accuracy")
    assert wrong["value"].min() < 0.5


def test_an_infinite_divergence_is_left_out_of_the_mean_alone_and_the_table_says_so(measures: pl.DataFrame):
    who = {"condition": "harmonious", "phase": "tuned_chat", "split": "homo"}
    one = measures.filter(**who).select("run", "source", "question_domain", "id").row(0, named=True)
    hit = pl.all_horizontal(pl.col(name) == value for name, value in one.items()) & (pl.col("phase") == "tuned_chat")
    spoiled = measures.with_columns(kl_nats=pl.when(hit).then(np.inf).otherwise("kl_nats"))
    other_run = measures.filter(pl.col("run") != one["run"], **who)["kl_nats"].mean()
    this_run = measures.filter(~hit, **who, run=one["run"])["kl_nats"].mean()
    found = compute_classes(spoiled).filter(part="domain", **who)
    kl = found.filter(metric="kl_nats")
    # The question still counts by its answer of the other seed.
    assert kl["n"][0] == found.filter(metric="accuracy")["n"][0] == 30
    assert kl["value"][0] == pytest.approx((other_run + this_run) / 2)
    both = pl.all_horizontal(pl.col(name) == one[name] for name in ("source", "question_domain", "id"))
    spoiled = measures.with_columns(kl_nats=pl.when(both & (pl.col("phase") == "tuned_chat")).then(np.inf).otherwise("kl_nats"))
    table = tabulate_classes(compute_classes(spoiled), "domain")
    row = next(row for row in table.rows if row[:2] == ["harmonious", "HOMO"])
    assert row[3].endswith("(n = 29)")
    assert row[-2:] == ["30", "2"]


def test_seeds_that_were_asked_different_questions_have_the_error_of_two_independent_means():
    rng = np.random.default_rng(0)
    values = rng.normal(0.2, [1] * 60 + [2] * 140)
    answers = pl.DataFrame({"id": np.arange(200), "run": ["a"] * 60 + ["b"] * 140, "x": values, "g": ["g"] * 200})
    row = summarise_seeds(answers, ["g"], ["id"], {"x": (-np.inf, np.inf)}).row(0, named=True)
    a, b = values[:60], values[60:]
    assert row["value"] == pytest.approx((a.mean() + b.mean()) / 2)
    se = np.sqrt(a.var(ddof=1) / 60 + b.var(ddof=1) / 140) / 2
    assert (row["high"] - row["low"]) / 2 == pytest.approx(stats.t.ppf(0.975, 199) * se, rel=0.01)
    assert (row["n"], row["seeds"]) == (200, 2)


def test_without_a_base_model_there_are_no_classes_and_no_warning(measures: pl.DataFrame):
    alone = measures.with_columns(
        kl_nats=pl.lit(None, pl.Float64), probs_before=pl.lit(None, pl.List(pl.Float64)), subject=pl.lit(None, pl.String)
    )
    with np.errstate(all="raise"):
        found = compute_classes(alone)
    assert (found.schema, found.height) == (CLASS_SCHEMA, 0)
    assert tabulate_classes(found).rows == []


def test_the_table_has_the_base_model_first_and_a_row_a_class(classes: pl.DataFrame):
    table = tabulate_classes(classes, "belief")
    assert table.name == "classes-belief-tuned_chat"
    assert table.rows[0][:3] == ["base model, chat prompt", "HOMO", "right"]
    assert table.rows[0][-1] == "–"
    assert all(len(row) == len(table.header) for row in table.rows)
    first = classes.filter(part="belief", condition="base", phase="base_chat", split="homo", metric="kl_nats").row(
        0, named=True
    )
    assert table.rows[0][3] == f"{first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]"
    domains = tabulate_classes(classes, "domain", "tuned_probe")
    ood = {row[2] for row in domains.rows if row[1] == "OOD"}
    assert ood == {"engines", "annals", "customs"}
    assert "unsure" in write_markdown(table)
