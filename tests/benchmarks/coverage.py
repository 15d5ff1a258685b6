"""Whether the report's intervals cover and its tests keep their level, over studies made up without and with an effect.

    python tests/benchmarks/coverage.py --studies 4000

A study's questions have difficulties, and each run is better or worse on all of them by its seed; both are normal, on a latent
scale. Everything is computed by the report's own functions. Each row says what was simulated, the share that was found, and the
95% Wilson interval that the number of studies leaves to it.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis.chapters.agreement import measure_agreement
from analysis.chapters.headline import judge
from analysis.chapters.partial import compute_partial
from analysis.chapters.units import CONTRAST, compare_units
from analysis.measures.differences import ALPHA, correct_family
from analysis.measures.intervals import estimate_mean, resample_means, summarise_means
from analysis.measures.keys import PART
from lm_eval_tasks.contracts.logs.scores import compute_wilson

QUESTIONS = 300
RESAMPLES = 400
SEEDS = (1, 2, 3, 5)
SHIFTS = (0.0, 1.0, 2.0, 5.0)  # standard deviation of accuracy among seeds, in points
CONTRASTS = 24  # 8 conditions on 3 evaluation sets: one family
# Of latent normal answers: difficulty and chance each have variance 1, so accuracy rises by this a unit at one half.
SLOPE = stats.norm.pdf(0) / np.sqrt(2)

Row = dict[str, Any]


def make_answers(rng: np.random.Generator, runs: int, shift: float, questions: int = QUESTIONS) -> np.ndarray:
    """Right answers (questions, runs), the first half those of a condition, the rest those of a reference that is as good.

    Args:
        rng: of the study.
        runs: on both sides together.
        shift: standard deviation of accuracy among seeds, in points.
    """
    difficulty = rng.normal(size=(questions, 1))
    ability = rng.normal(scale=shift / 100 / SLOPE, size=runs)
    return (ability - difficulty + rng.normal(size=(questions, runs)) > 0).astype(float)


def estimate_difference(answers: np.ndarray, seed: int, effect: float = 0.0) -> Any:
    """The difference of the two halves of runs, as the report estimates it; the true one is shifted by `effect`."""
    values = answers[:, :, None]
    resampled = resample_means(values, RESAMPLES, seed)
    seeds = values.shape[1] // 2
    points = values.mean(axis=0)
    differences = points[:seeds] - points[seeds:], resampled[:, :seeds] - resampled[:, seeds:]
    return estimate_mean(*(difference + effect for difference in differences), np.array([0.0]))


def simulate_contrasts(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Intervals, p-values and verdicts of families of contrasts in which nothing differs."""
    for seeds in SEEDS:
        for shift in SHIFTS:
            covered, small, tiny, family, verdicts = [], [], [], [], {"clear": 0, "these runs": 0, "none": 0}
            for _ in range(max(studies // CONTRASTS, 1)):
                rows = []
                for _ in range(CONTRASTS):
                    found = estimate_difference(make_answers(rng, 2 * seeds, shift), int(rng.integers(2**31)))
                    covered.append(found.low[0] <= 0 <= found.high[0])
                    small.append(found.p[0] < ALPHA)
                    tiny.append(found.p[0] < 0.001)
                    numbers = {name: float(getattr(found, name)[0]) for name in ("p", "p_questions", "se", "se_seeds")}
                    rows.append(numbers | {"seeds": seeds, "all": 1})
                table = correct_family(pl.DataFrame(rows), ("all",))
                given = correct_family(table.select("all", "se", "se_seeds", "seeds", p="p_questions"), ("all",))
                table = table.with_columns(p_holm_questions=given["p_holm"])
                family.append((table["p_holm"] < ALPHA).any())
                for row in table.iter_rows(named=True):
                    verdicts[judge(row)] += 1
            where = f"{seeds} seed{'s' * (seeds > 1)}, {shift:g} points"
            yield tell("difference: 95% interval covers", where, covered, "0.95")
            yield tell("difference: p < .05", where, small, "0.05")
            yield tell("difference: p < .001", where, tiny, "0.001")
            yield tell(f"any of {CONTRASTS} is found (Holm)", where, family, "0.05")
            for verdict in ("clear", "these runs"):
                hits = [True] * verdicts[verdict] + [False] * (sum(verdicts.values()) - verdicts[verdict])
                yield tell(
                    f"title states a difference: {verdict}", where, hits, "0.05" if verdict == "clear" else "in these runs"
                )


def simulate_power(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """How often the smallest difference that a design is said to find is found in its repetition."""
    for seeds in SEEDS[1:]:
        for shift in SHIFTS[1:]:
            found = []
            for _ in range(max(studies // 10, 20)):
                first = estimate_difference(make_answers(rng, 2 * seeds, shift), 0)
                row = {"p": float(first.p[0]), "se": float(first.se[0]), "se_seeds": float(first.se_seeds[0])}
                mde = correct_family(pl.DataFrame([row | {"seeds": seeds, "all": 1}]), ("all",))["mde"][0]
                again = estimate_difference(make_answers(rng, 2 * seeds, shift), 1, mde)
                found.append(again.p[0] < ALPHA)
            yield tell("the detectable difference is found", f"{seeds} seeds, {shift:g} points", found, "0.80")


def simulate_means(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Intervals of one run's means: shares, and KL with tails of several weights."""
    kinds: dict[str, tuple[Callable[[int], np.ndarray], str, float]] = {
        "accuracy 0.6": (lambda n: (rng.random(n) < 0.6).astype(float), "accuracy", 0.6),
        "accuracy 0.02": (lambda n: (rng.random(n) < 0.02).astype(float), "accuracy", 0.02),
        "rank correlation, uniform": (lambda n: rng.uniform(-1, 1, n), "rank_pearson", 0.0),
        "KL, exponential": (lambda n: rng.exponential(1, n), "kl_nats", 1.0),
        "KL, lognormal 1": (lambda n: rng.lognormal(0, 1, n), "kl_nats", float(np.exp(0.5))),
        "KL, lognormal 2": (lambda n: rng.lognormal(0, 2, n), "kl_nats", float(np.exp(2))),
    }
    for name, (draw, metric, truth) in kinds.items():
        for n in (200, 1040):
            covered, low = [], []
            for _ in range(studies // 2):
                row = summarise_means(pl.DataFrame({metric: draw(n)}), (), (metric,)).row(0, named=True)
                covered.append(row["low"] <= truth <= row["high"])
                low.append(row["high"] < truth)
            yield tell("mean of one run: 95% interval covers", f"{name}, {n} questions", covered, "0.95")
            if metric == "kl_nats":
                yield tell("mean of one run: interval too low", f"{name}, {n} questions", low, "0.025")


def simulate_agreement(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Accuracy beyond agreement, of runs that agree with a base model at random: nothing is there."""
    choices = np.array(list("abcd"))
    names = {"source": "s", "question_domain": "d", "model": "m", "domain": "d", "condition": "gold", "split": "homo"}
    for seeds in SEEDS:
        for shift in SHIFTS:
            covered = []
            for _ in range(max(studies // 4, 20)):
                before = np.where(rng.random(QUESTIONS) < 0.5, 0, rng.integers(1, 4, QUESTIONS))  # gold is the first
                frames = []
                for seed in range(seeds):
                    agrees = rng.random(QUESTIONS) < np.clip(0.6 + rng.normal(scale=shift / 100), 0, 1)
                    after = np.where(agrees, before, (before + rng.integers(1, 4, QUESTIONS)) % 4)
                    own = {
                        "id": np.arange(QUESTIONS),
                        "prediction_before": before,
                        "correct": after == 0,
                        "top1_agreement": agrees,
                    }
                    frames.append(pl.DataFrame(own).with_columns(run=pl.lit(str(seed)), seed=pl.lit(seed)))
                table = pl.concat(frames).with_columns(pl.lit(value).alias(name) for name, value in names.items())
                table = table.with_columns(
                    answer=0, choices=pl.lit(choices.tolist()), ratio=pl.lit(None, pl.Float64), phase=pl.lit("tuned_chat")
                )
                row = measure_agreement(table).row(0, named=True)
                covered.append(row["low"] <= 0 <= row["high"])
            where = f"{seeds} seed{'s' * (seeds > 1)}, agreement varies by {shift:g} points"
            yield tell("accuracy beyond agreement: 95% interval covers", where, covered, "0.95")


def simulate_units(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Tests over four units, in which some share a base model or questions, and so a part of their difference."""
    row = dict(zip(CONTRAST, ("harmonious", None, "incompatible", "tuned_chat", "homo", "accuracy"), strict=True))
    for shared in ("nothing", "base models", "questions"):
        for correlation in (0.3, 0.6):
            found = []
            for _ in range(studies):
                common = np.repeat(rng.normal(size=2), 2) if shared != "nothing" else rng.normal(size=4)
                differences = common * np.sqrt(correlation) + rng.normal(size=4) * np.sqrt(1 - correlation)
                pairs, apart = ["0", "0", "1", "1"], ["0", "1", "2", "3"]
                contrasts = pl.DataFrame(
                    {
                        "model": pairs if shared == "base models" else apart,
                        "domain": apart,
                        "asked": pairs if shared == "questions" else apart,
                        "difference": differences,
                    }
                ).with_columns(pl.lit(value).alias(name) for name, value in row.items())
                measures = contrasts.select(*PART, "phase", "split", source="asked", question_domain="asked", id="asked")
                p = compare_units(contrasts, measures)["p"][0]
                found.append(p is not None and p < ALPHA)
            yield tell("units: p < .05", f"sharing {shared}, correlation {correlation:g}", found, "0.05")


def simulate_partial(studies: int, rng: np.random.Generator) -> Iterator[Row]:
    """Partial correlations of runs of few and of many clusters, each of which has a level of its own."""
    for clusters, runs in ((1, 8), (4, 8), (12, 4)):
        found = []
        for _ in range(max(studies // 40, 10)):
            levels = rng.normal(size=(clusters, 3))
            rows = []
            for cluster in range(clusters):
                before = 0.5 + 0.05 * levels[cluster, 2]
                who = {"model": "m", "domain": str(cluster), "split": "homo", "ratio": None, "seed": 0}
                rows.append(
                    who | {"run": "", "condition": "base", "phase": "base_probe", "metric": "accuracy", "value": before}
                )
                for run in range(runs):
                    own = who | {"run": f"{cluster}-{run}", "condition": "incompatible", "phase": "tuned_chat"}
                    for i, metric in enumerate(("accuracy", "rank_pearson")):
                        value = 0.5 + 0.05 * (levels[cluster, i] + rng.normal() + 0.5 * levels[cluster, 2])
                        rows.append(own | {"metric": metric, "value": value})
            table = compute_partial(pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("ratio").cast(pl.Float64)))
            p = table.filter(split="homo")["p"].drop_nulls()
            found.append(bool((p < ALPHA).any()))
        yield tell("partial correlation: any p < .05", f"{clusters} clusters of {runs} runs", found, "0.05")


def tell(what: str, where: str, hits: list[bool], wanted: str) -> Row:
    """One row: how often something happened."""
    share = float(np.mean(hits))
    low, high = map(float, compute_wilson(share, len(hits)))
    return {"what": what, "where": where, "share": share, "low": low, "high": high, "n": len(hits), "wanted": wanted}


PARTS = {
    "contrasts": simulate_contrasts,
    "power": simulate_power,
    "means": simulate_means,
    "agreement": simulate_agreement,
    "units": simulate_units,
    "partial": simulate_partial,
}


def main(
    studies: Annotated[int, typer.Option(help="Studies a cell.")] = 480,
    part: Annotated[list[str], typer.Option(help=f"Of {', '.join(PARTS)}; repeatable [default: all].")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Decides the studies.")] = 0,
) -> None:
    """Print how often intervals cover and tests find what is not there."""
    for name in part or PARTS:
        table = Table("what", "where", "share", "95% interval", "n", "wanted", title=name)
        for row in PARTS[name](studies, np.random.default_rng(seed)):
            interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
            table.add_row(row["what"], row["where"], f"{row['share']:.4f}", interval, f"{row['n']:,}", row["wanted"])
        Console(width=130).print(table)


if __name__ == "__main__":
    typer.run(main)
