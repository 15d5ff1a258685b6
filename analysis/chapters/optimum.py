"""Whether accuracy peaks at a mix: the bootstrap distribution of the best consistency ratio, and the gain of the best mix.

The best of several noisy means looks better than it is. So the mix is chosen on one half of the questions and estimated on the
other, and, where there are several seeds, chosen on all but one seed and estimated on that one. The better end is taken on all
data, which looks a little better than it is too. Both errors make the gain smaller: on average it is never more than the truth.
"""

from typing import Any

import numpy as np
import polars as pl

from analysis.chapters.chapter import RATIO, Chapter, Computed, Frames
from analysis.chapters.curves import ENDS, ON_CURVE, PHASE
from analysis.measures.blocks import Block, cut_blocks, group_runs
from analysis.measures.differences import correct_family, cut_differences
from analysis.measures.intervals import RESAMPLES, RULE_OF_THREE, SEED, estimate_mean, resample_weights
from analysis.measures.keys import PART, sort_by_words
from analysis.showing.formats import DASH, DETECTABLE, format_detectable, format_interval, format_number, format_p
from analysis.showing.tables import Notes, Table
from lm_eval_tasks.contracts.logs.scores import LEVEL
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, NEW_SETS, name_set

METRIC = "accuracy"
HALVINGS = 200  # the estimate is their mean
FEWEST_QUESTIONS = 20
FEWEST_SEEDS = 5
OPTIMUM_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "phase", "split", "metric"), pl.String)
    | dict.fromkeys(("best", "best_mix", "likeliest", "p_likeliest", "p_inner", "p_inner_flat"), pl.Float64)
    | {"best_set": pl.String}
    | dict.fromkeys(("gain", "low", "high", "low_questions", "high_questions", "p", "p_holm", "p_bh", "mde"), pl.Float64)
    | dict.fromkeys(("se", "se_seeds"), pl.Float64)
    | {"gain_same": pl.Float64, "n": pl.Int64, "seeds": pl.Int64, "ratios": pl.Int64, "note": pl.String}
)


class Undefined(Exception):  # noqa: N818
    """No test of an optimum; the message says why."""


def find_optima(measures: pl.DataFrame) -> pl.DataFrame:
    """Test each domain and new evaluation set (on `seen` the answers trained on decide) for an optimum of accuracy at a mix.

    Args:
        measures: as `study.read_study` gives them.

    Returns:
        `OPTIMUM_SCHEMA`, a row a base model, domain and evaluation set. `best`: the ratio with the best mean. `likeliest` and
        `p_likeliest`: the ratio that is best in most bootstrap resamples of questions (the same for all ratios) and seeds, and
        their share; ties are shared out. `best_set`: the fewest ratios that are best in 95% of resamples, most frequent first.
        `p_inner`: the share in which a mix is best (no p-value: were all ratios alike, it would be `p_inner_flat` on average).
        `gain`, its interval, `p` (corrected over all rows) and `mde`: best mix minus better end, the mix chosen and estimated
        apart. `best_mix`: the mix with the best mean; `gain_same`: its lead over the better end, which is overstated. What
        cannot be computed is null, and `note` says why.
    """
    kept = measures.filter(pl.col("condition").is_in(ON_CURVE), pl.col("split").is_in(NEW_SETS), phase=PHASE)
    rows = []
    for block in cut_blocks(kept, (METRIC,)):
        try:
            found = examine_block(block)
        except Undefined as error:
            found = {"ratios": len(list(group_runs(block))), "note": f"not computed: {error}"}
        rows.append(block.names | {"metric": METRIC} | found)
    table = cut_differences(pl.DataFrame(rows, schema=OPTIMUM_SCHEMA))
    return sort_by_words(correct_family(table, ("metric",)).select(OPTIMUM_SCHEMA.names()))


def examine_block(block: Block) -> dict[str, Any]:
    """The numbers of one row.

    Raises:
        Undefined: an end or every mix lacks, or no seed or too few questions are common to all ratios.
    """
    ratios, seeds, values, note = arrange_curve(block)
    halves = halve_means(values, HALVINGS, resample=False)
    resampled, means = halve_means(values, RESAMPLES, resample=True), values.mean(axis=0)
    floor = np.array([RULE_OF_THREE / len(values)])
    points = estimate_gain(halves).mean(axis=0)
    gain = estimate_mean(points[:, None], estimate_gain(resampled)[:, :, None], floor)
    shares = count_best(resampled)
    overall = means.mean(axis=1)
    order = np.argsort(-shares, kind="stable")
    held = order[: np.searchsorted(np.cumsum(shares[order]), LEVEL - 1e-9) + 1]
    keys = ("low", "high", "low_questions", "high_questions", "p", "se", "se_seeds")
    return {
        "best": ratios[overall.argmax()],
        "best_mix": ratios[1 + overall[1:-1].argmax()],
        "likeliest": ratios[order[0]],
        "p_likeliest": shares[order[0]],
        "p_inner": shares[1:-1].sum(),
        "p_inner_flat": (len(ratios) - 2) / len(ratios),
        "best_set": ", ".join(f"{ratios[k]:g}" for k in held),
        "gain": gain.value[0],
        "gain_same": overall[1:-1].max() - overall[[0, -1]].max(),
        "n": len(values),
        "seeds": len(seeds),
        "ratios": len(ratios),
        "note": note,
    } | {key: getattr(gain, key)[0] for key in keys}


def arrange_curve(block: Block) -> tuple[list[float], list[int], np.ndarray, str]:
    """Ratios (K), seeds (S) and answers (Q, K, S) that are common to a whole curve, and what had to be left out."""
    groups = [(ENDS.get(condition, ratio), condition, runs) for condition, ratio, runs in group_runs(block)]
    lacking = [CONDITIONS[name].label for name in ENDS if name not in {condition for _, condition, _ in groups}]
    # A mix at ratio 0 or 1 is an end by another name.
    curve = {ratio: runs for ratio, condition, runs in groups if condition in ENDS or 0 < ratio < 1}
    if lacking or len(curve) < 3:
        ends = ", ".join(CONDITIONS[name].label for name in ENDS)
        raise Undefined(f"it takes {ends} and a mix, and there is no {' and no '.join(lacking) or 'mix'}")
    ratios = sorted(curve)
    every = set().union(*curve.values())
    seeds = sorted(set.intersection(*map(set, curve.values())))
    if not seeds:
        raise Undefined("the ratios have no seed in common")
    runs = np.array([[curve[ratio][seed] for seed in seeds] for ratio in ratios])
    values = block.values[:, runs, 0]
    known = np.isfinite(values).all(axis=(1, 2))
    if known.sum() < FEWEST_QUESTIONS:
        raise Undefined(f"{known.sum()} questions common to all ratios, fewer than {FEWEST_QUESTIONS}")
    notes = [f"{len(groups) - len(curve)} mixes of ratio 0 or 1 left out"] if len(groups) > len(curve) else []
    notes += (
        [f"{len(every) - len(seeds)} of {len(every)} seeds left out, which some ratios lack"] if len(every) > len(seeds) else []
    )
    notes += [f"{(~known).sum():,} of {len(known):,} questions left out, which some runs lack"] if not known.all() else []
    notes += ["one seed: nothing is said of other seeds"] if len(seeds) == 1 else []
    if 1 < len(seeds) < FEWEST_SEEDS:
        notes.append(f"{len(seeds)} seeds, too few to resample: the shares speak of these runs, not of seeds in general")
    return ratios, seeds, values[known], "; ".join(notes)


def halve_means(values: np.ndarray, times: int, resample: bool) -> np.ndarray:
    """Means over the two halves of the questions, (times, 2, K, S), halved at random each time.

    Args:
        values: (Q, K, S).
        times: how often.
        resample: take the questions anew each time, with replacement; all copies of a question fall in one half.
    """
    questions, flat = len(values), values.reshape(len(values), -1)
    rng = np.random.default_rng(SEED)
    means = np.empty((times, 2, flat.shape[1]))
    step = max(1, 4_000_000 // questions)  # 32 MB of weights at a time
    for start in range(0, times, step):
        part = slice(start, min(start + step, times))
        size = (part.stop - part.start, questions)
        weights = resample_weights(rng, *size) if resample else np.ones(size)
        first = rng.random(size) < 0.5
        for half, mask in enumerate((first, ~first)):
            here = weights * mask
            means[part, half] = here @ flat / np.maximum(here.sum(axis=1, keepdims=True), 1)
    return means.reshape(times, 2, *values.shape[1:])


def estimate_gain(halves: np.ndarray) -> np.ndarray:
    """Mix minus better end at each seed, (T, S), of means (T, 2, K, S); the mix is chosen on the other half and other seeds."""
    seeds = halves.shape[-1]
    others = (halves.sum(axis=-1, keepdims=True) - halves) / (seeds - 1) if seeds > 1 else halves
    chosen = 1 + others[:, :, 1:-1].argmax(axis=2)
    mix = np.take_along_axis(halves[:, ::-1], chosen[:, :, None], axis=2)[:, :, 0].mean(axis=1)
    ends = halves.mean(axis=1)[:, [0, -1]]
    better = ends.mean(axis=-1).argmax(axis=1)
    return mix - ends[np.arange(len(ends)), better]


def count_best(halves: np.ndarray) -> np.ndarray:
    """How often each ratio is the best, (K,), over resampled questions (T, 2, K, S) and seeds; ties shared out."""
    times, _, _, seeds = halves.shape
    weights = np.random.default_rng(SEED).multinomial(seeds, np.full(seeds, 1 / seeds), times) / seeds
    means = np.einsum("tks,ts->tk", halves.mean(axis=1), weights)
    best = means >= means.max(axis=1, keepdims=True) - 1e-12
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)


def tabulate_optima(optima: pl.DataFrame) -> Table:
    """The tests of an optimum at a mix; notes are numbered, and stand below the table."""
    notes, several = Notes(), optima.select(PART).n_unique() > 1
    rows = []
    for row in optima.iter_rows(named=True):
        words = [*([row["model"], row["domain"]] if several else []), name_set(row["split"])]
        mark = notes.mark(row["note"])
        if row["gain"] is None:
            rows.append([*words, *[DASH] * 10, str(row["ratios"]), mark])
            continue
        best = [f"{row['best']:g}", f"{row['likeliest']:g} ({row['p_likeliest']:.0%})", row["best_set"]]
        inner = [f"{row['p_inner']:.0%} ({row['p_inner_flat']:.0%})"]
        gain = [format_number(row["gain"], sign=True), format_interval(row, sign=True), format_p(row["p_holm"])]
        counts = [format_detectable(row), f"{row['n']:,}", str(row["seeds"]), str(row["ratios"])]
        rows.append([*words, *best, *inner, *gain, *counts, mark])
    header = [*(["base model", "domain"] if several else []), "split", "best ratio", "most often best", "95% set"]
    header += ["a mix is best (if flat)", "gain of the mix", "95% interval", "p (Holm)", "detectable", "n", "seeds", "ratios"]
    note = (
        "Accuracy in the chat prompt over the share of the answers that are the model's own wrong ones. Most often best, 95% "
        "set, a mix is best: shares of bootstrap resamples of questions (the same for all ratios) and seeds; in brackets, the "
        "share of mixes among the ratios, about what a flat curve gives. Gain: best mix minus the better end, the mix chosen "
        "and estimated on different halves of the questions and on different seeds, which on average never overstates it. p "
        "(Holm): corrected over all rows of the study. " + DETECTABLE
    )
    title = "Is a mix better than either end?"
    return Table("optima", title, [*header, "note"], rows, note + notes.write(), left=3 if several else 1)


def tabulate_across(frames: Frames) -> list[Table]:
    """The tests of all parts in one table, where there are several parts."""
    return [tabulate_optima(frames["optima"])] if frames["contrasts"].select(PART).n_unique() > 1 else []


CHAPTER = Chapter(
    compute=lambda whole: Computed({"optima": find_optima(whole.study.measures)}),
    heading=RATIO,
    tables=lambda part: [tabulate_optima(part.frames["optima"])],
    across=tabulate_across,
)
