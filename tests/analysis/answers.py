"""Made-up measures: the right answers of some conditions and seeds."""

import numpy as np
import polars as pl
from scipy import stats
from scipy.optimize import brentq

from analysis.measures.metrics import METRICS


def make_measures(answers: dict[tuple[str, int], np.ndarray], split: str = "homo", first: dict = {}) -> pl.DataFrame:  # noqa: B006
    """Measures with these right answers (0 or 1) for each condition and seed; `first`: a condition's first id."""
    parts = []
    for (condition, seed), right in answers.items():
        start = first.get(condition, 0)
        names = {
            "model": "base",
            "domain": "herbs",
            "condition": condition,
            "run": f"{condition}-{seed}",
            "phase": "tuned_chat",
        }
        part = pl.DataFrame({"id": [str(start + i) for i in range(len(right))], "accuracy": right.astype(float)})
        part = part.with_columns(**{key: pl.lit(value) for key, value in names.items()}, seed=pl.lit(seed, pl.Int64))
        parts.append(part.with_columns(split=pl.lit(split), source=pl.lit("s"), question_domain=pl.lit("herbs")))
    nulls = {m: pl.lit(None, pl.Float64) for m in METRICS if m != "accuracy"}
    return pl.concat(parts).with_columns(ratio=pl.lit(None, pl.Float64), **nulls)


def flip_coins(n: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(int)


def bound_skewed(values: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the mean of questions: which true means Hall's transformed error does not reject, by search."""
    mean, se, skew = np.mean(values), stats.sem(values), stats.skew(values) / np.sqrt(len(values))
    if not se > 0:
        return mean + se, mean + se  # NaN where there is one question

    def err(true: float, critical: float) -> float:
        t = (mean - true) / se
        return t + skew / 3 * t**2 + skew**2 / 27 * t**3 + skew / 6 - critical

    critical = stats.t.ppf(0.975, len(values) - 1)
    low, high = (brentq(err, mean - 1e6 * se, mean + 1e6 * se, (end,), xtol=1e-13) for end in (critical, -critical))
    return low, high
