"""What the units of a study say of the paper's claims."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analysis.chapters.chapter import Whole
from analysis.chapters.claims import CLAIM_SCHEMA, CLAIMS, HOLDS, OPEN, REVERSED, examine_claims, tabulate_claims


class MadeStudy:
    """As much of a study as the chapter looks at: units that were asked different questions, or the same."""

    bases: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, models: list[str], shared: bool = False):
        self.measures = pl.DataFrame(
            {
                "model": models,
                "domain": "herbs",
                "phase": "tuned_chat",
                "split": "homo",
                "source": "s",
                "question_domain": "herbs",
            }
        ).with_columns(id=pl.lit("1") if shared else pl.col("model"))


def make_frames(gaps: dict[str, float], noise: float = 0.0, seed: int = 1) -> dict[str, pl.DataFrame]:
    """Frames of a unit each, whose harmonious training beats incompatible by so much, and runs whose KL tells what is lost."""
    rng, results, fits, contrasts, optima = np.random.default_rng(seed), [], [], [], []
    for model, gap in gaps.items():
        part = {"model": model, "domain": "herbs"}
        kept = {"phase": "tuned_chat", "split": "homo"}
        own = {"condition": "harmonious", "reference": "incompatible", "metric": "accuracy", "difference": gap}
        contrasts.append(part | kept | own)
        optima.append(part | kept | {"gain": -gap})
        results.append(
            part | {"run": "", "condition": "base", "phase": "base_probe", "split": "homo", "metric": "accuracy", "value": 0.6}
        )
        for number in range(6):
            run = part | {"run": f"{model}-{number}", "condition": "mix", "ratio": number / 10, "seed": 1}
            told = {
                ("tuned_probe", "homo", "accuracy"): 0.6 - number / 50,
                ("tuned_chat", "homo", "accuracy"): 0.3 + number / 50,
                ("tuned_chat", "homo", "rank_pearson"): number / 10 + noise * rng.normal(),
                ("tuned_chat", "seen", "kl_nats"): float(number),
            }
            results += [
                run | dict(zip(("phase", "split", "metric"), key, strict=True)) | {"value": x} for key, x in told.items()
            ]
            fits.append(part | {"run": run["run"], "given": float(rng.random())})
    return {name: pl.DataFrame(rows) for name, rows in zip(
        ("results", "fit", "contrasts", "optima"), (results, fits, contrasts, optima), strict=True)}  # fmt: skip


def get(claims: pl.DataFrame, number: int) -> dict:
    return claims.filter(number=number, split="homo").row(0, named=True)


def test_a_claim_over_units_is_a_t_test_over_them():
    gaps = {"a": 0.30, "b": 0.33, "c": 0.28, "d": 0.31, "e": 0.29}
    claims = examine_claims(Whole(MadeStudy([*gaps]), make_frames(gaps)))
    assert claims.schema == CLAIM_SCHEMA
    row, values = get(claims, 1), np.array([*gaps.values()])
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 4, values.mean(), stats.sem(values)))
    assert row["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert (row["value"], row["n"], row["above"], row["verdict"]) == (pytest.approx(0.302), 5, 5, HOLDS)
    assert get(claims, 4)["verdict"] == REVERSED
    assert claims["number"].to_list() == [1, 4, 5, 6]  # no unit has the other conditions


def test_a_claim_that_units_differ_about_is_not_decided():
    gaps = {"a": 0.3, "b": -0.2, "c": 0.1}
    row = get(examine_claims(Whole(MadeStudy([*gaps]), make_frames(gaps))), 1)
    assert (row["verdict"], row["above"]) == (OPEN, 2)
    assert (row["least"], row["greatest"]) == (-0.2, 0.3)


def test_correlations_are_within_units():
    gaps = {"a": 0.30, "b": 0.33, "c": 0.28}
    frames = make_frames(gaps)
    shifted = frames["results"].with_columns(
        value=pl.col("value") - pl.when(pl.col("model") == "b", pl.col("metric") == "rank_pearson").then(5).otherwise(0)
    )  # a unit that is less consistent throughout changes nothing
    claims = examine_claims(Whole(MadeStudy([*gaps]), frames | {"results": shifted}))
    assert get(claims, 5)["value"] == pytest.approx(1)
    kl = get(claims, 6)
    given = [
        abs(stats.spearmanr(part.sort("run")["given"], range(6)).statistic)
        for _, part in frames["fit"].group_by("model", maintain_order=True)
    ]
    assert kl["value"] == pytest.approx(1 - np.mean(given))


def test_units_that_share_questions_are_not_tested():
    gaps = {"a": 0.30, "b": 0.33, "c": 0.28}
    row = get(examine_claims(Whole(MadeStudy([*gaps], shared=True), make_frames(gaps))), 1)
    assert (row["low"], row["p"], row["verdict"]) == (None, None, OPEN)
    assert "questions" in row["note"]


def test_one_unit_says_nothing_of_others():
    claims = examine_claims(Whole(MadeStudy(["a"]), make_frames({"a": 0.3})))
    assert claims.schema == CLAIM_SCHEMA
    assert not claims.height


def test_null_units_are_rarely_taken_for_a_finding():
    rng, times, found = np.random.default_rng(3), 60, 0
    for _ in range(times):
        gaps = dict(zip("abcde", rng.normal(0, 0.1, 5), strict=True))
        frames = make_frames(gaps, noise=10, seed=int(rng.integers(1e9)))
        frames["results"] = frames["results"].filter(pl.col("phase") != "tuned_probe")  # its KL tells what is lost by design
        found += any(verdict != OPEN for verdict in examine_claims(Whole(MadeStudy([*gaps]), frames))["verdict"])
    assert found / times < 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


def test_the_table_has_a_row_a_claim_and_says_which():
    gaps = {"a": 0.30, "b": 0.33, "c": 0.28, "d": 0.31, "e": 0.29}
    table = tabulate_claims(examine_claims(Whole(MadeStudy([*gaps]), make_frames(gaps))))
    assert [row[0][:2] for row in table.rows] == ["1.", "4.", "5.", "6."]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert {claim.number for claim in CLAIMS} == {1, 2, 3, 4, 5, 6}
