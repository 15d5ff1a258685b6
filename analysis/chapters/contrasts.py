"""Conditions against each other, and conditions by themselves, over questions and seeds: numbers, tables and the figure."""

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from analysis.chapters.chapter import AGAINST, Chapter, Computed, Part, Whole
from analysis.measures.blocks import Block, compute_floor, compute_skew, cut_blocks, group_runs
from analysis.measures.differences import compute_mcnemar, correct_family, correct_tests, cut_differences, measure_effect
from analysis.measures.groups import MEAN_SCHEMA, summarise_group
from analysis.measures.intervals import estimate_mean
from analysis.measures.keys import BLOCK, CONDITION, PART, sort_by_words
from analysis.measures.metrics import CONTRASTED, METRICS, SHARES
from analysis.measures.tails import TAIL_SCHEMA, summarise_tails
from analysis.reading.gaps import find_unsummarised
from analysis.showing.figures import Sketch
from analysis.showing.formats import (
    DETECTABLE,
    format_detectable,
    format_interval,
    format_number,
    format_p,
    format_sizes,
)
from analysis.showing.labels import PRIMARY, name_contrast, name_part, tell_primary
from analysis.showing.panels import ARROW, BARS, SEEDS, find_rows, make_axes, plot_intervals, plot_seeds, write_beside
from analysis.showing.tables import Table
from lm_eval_tasks.contracts.style import INK, STYLE, find_look
from lm_eval_tasks.contracts.vocabulary import BASE, PHASES, REFERENCE, Primary, name_set, read_ratio, write_primary

SUMMARY_SCHEMA = pl.Schema(dict(MEAN_SCHEMA) | {name: kind for name, kind in TAIL_SCHEMA.items() if name != "metric"})
CONTRAST_SCHEMA = pl.Schema(
    dict.fromkeys(("model", "domain", "condition"), pl.String)
    | {"ratio": pl.Float64}
    | dict.fromkeys(("reference", "phase", "split", "metric"), pl.String)
    | dict.fromkeys(("difference", "low", "high", "low_questions", "high_questions", "p", "p_holm", "mde"), pl.Float64)
    | {"n": pl.Int64, "n_reference": pl.Int64, "seeds": pl.Int64, "paired": pl.Boolean, "method": pl.String}
    | {"p_bh": pl.Float64, "effect": pl.Float64, "effect_name": pl.String}
    | dict.fromkeys(("p_questions", "p_holm_questions", "se", "se_seeds"), pl.Float64)
    | {"family": pl.Int64, "primary": pl.Boolean}
)
CAPTION = (
    f"Accuracy minus that of {REFERENCE.label} training: the same seeds paired, and the same questions wherever they are the "
    f"same. {SEEDS} Large marks: their means. {BARS} (two make them very wide). {ARROW}"
)


def compare_conditions(measures: pl.DataFrame, primary: Primary | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Summaries over seeds, and contrasts of every condition with the reference.

    Args:
        measures: as `study.read_study` gives them.
        primary: the contrast that was named beforehand, and is corrected apart from the others.

    Returns:
        `SUMMARY_SCHEMA`: a row for each condition, phase, evaluation set and metric; `least` and `greatest`: of single seeds'
        means; the columns of `summarise_tails` where a metric has no greatest value. `CONTRAST_SCHEMA`: a row for each
        condition other than the reference, with p-values corrected over all contrasts of one phase and metric, and an effect
        size: Cohen's h of the two mean shares, or what `measure_effect` gives.
    """
    metrics = tuple(METRICS)
    summary, contrasts = [], []
    for block in cut_blocks(measures, metrics):
        groups = list(group_runs(block))
        for condition, ratio, runs in groups:
            summary += summarise_group(block, metrics, condition, ratio, list(runs.values()))
        reference = next((runs for condition, _, runs in groups if condition == REFERENCE.name), None)
        for condition, ratio, runs in groups if reference else ():
            if condition not in (BASE, REFERENCE.name) and (seeds := [seed for seed in runs if seed in reference]):
                pairs = [(runs[seed], reference[seed]) for seed in seeds]
                contrasts += _contrast_groups(block, metrics, condition, ratio, pairs)
    key = (*BLOCK, *CONDITION)
    tails = summarise_tails(measures, key, metrics)
    means = pl.DataFrame(summary, schema=MEAN_SCHEMA)
    return (
        sort_by_words(means.join(tails, on=(*key, "metric"), how="left", nulls_equal=True).select(SUMMARY_SCHEMA.names())),
        sort_by_words(
            correct_contrasts(mark_primary(cut_differences(pl.DataFrame(contrasts, schema=CONTRAST_SCHEMA)), primary))
        ),
    )


def _contrast_groups(
    block: Block, metrics: tuple[str, ...], condition: str, ratio: float | None, pairs: list[tuple[int, int]]
) -> list[dict]:
    """One row a metric: the runs of a condition minus those of the reference, seed by seed."""
    from statsmodels.stats.proportion import proportion_effectsize

    these, those = (list(side) for side in zip(*pairs, strict=True))
    n, n_reference = (np.min([block.count(run) for run in side], axis=0) for side in (these, those))
    known = np.isfinite(block.values)
    paired = (known[:, these] == known[:, those]).all(axis=(0, 1))
    estimate = estimate_mean(
        block.points[these] - block.points[those],
        block.resampled[:, these] - block.resampled[:, those],
        compute_floor(metrics, np.minimum(n, n_reference)),
        compute_skew(block, metrics, these, those),
    )
    effects = measure_effect(block.values[:, these], block.values[:, those], paired)
    rows = []
    for m in (m for m, name in enumerate(metrics) if name in CONTRASTED and min(n[m], n_reference[m]) > 1):
        p, method = estimate.p[m], estimate.method[m]
        if len(pairs) == 1 and paired[m] and metrics[m] in SHARES:
            a, b = (block.values[known[:, run, m], run, m] > 0 for run in pairs[0])
            p, method = compute_mcnemar(a, b), "exact McNemar; interval: bootstrap over questions"
        row = {
            "condition": condition,
            "ratio": ratio,
            "reference": REFERENCE.name,
            "metric": metrics[m],
            "difference": estimate.value[m],
        }
        row |= {key: getattr(estimate, key)[m] for key in ("low", "high", "low_questions", "high_questions", "se", "se_seeds")}
        row |= {
            "p": p,
            "p_questions": estimate.p_questions[m],
            "method": method,
            "n": n[m],
            "n_reference": n_reference[m],
            "seeds": len(pairs),
            "paired": bool(paired[m]),
        }
        if metrics[m] in SHARES:
            # By Cohen's conventions 0.2 is small and 0.8 large.
            kind, effect = "Cohen's h", proportion_effectsize(*(block.points[side, m].mean() for side in (these, those)))
        else:
            kind, effect = "d_z" if paired[m] else "Cohen's d", effects[m]
        row |= {"effect": effect if np.isfinite(effect) else None, "effect_name": kind}
        rows.append(block.names | row)
    return rows


def mark_primary(contrasts: pl.DataFrame, primary: Primary | None) -> pl.DataFrame:
    """Say of each contrast whether it is the one that was named beforehand (one a base model and domain)."""
    if primary is None:
        return contrasts.with_columns(primary=pl.lit(value=False))
    ratio = read_ratio(primary.condition)
    named = pl.col("condition") == (primary.condition if ratio is None else "mix")
    named &= pl.col("ratio").eq_missing(pl.lit(ratio, pl.Float64))
    where = (pl.col("split") == primary.split) & (pl.col("phase") == primary.phase) & (pl.col("metric") == "accuracy")
    return contrasts.with_columns(primary=named & where)


def correct_contrasts(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Correct p-values over all contrasts of one phase and metric, and say what could have been found.

    A contrast that was named beforehand is none of these: it is corrected over the base models and domains that have it.

    `p_holm_questions` is Holm's correction of the p-values that take the seeds as given.
    """
    family = ("phase", "metric", "primary")
    given = [
        part.with_columns(correct_tests(part["p_questions"].fill_nan(None))["p_holm"].alias("p_holm_questions"))
        for _, part in correct_family(contrasts, family).group_by(family, maintain_order=True)
    ]
    return pl.concat([contrasts.clear(), *given]).select(CONTRAST_SCHEMA.names())


def tabulate_contrasts(contrasts: pl.DataFrame, metric: str, phase: str = "tuned_chat") -> Table:
    """All contrasts of one metric in one phase."""
    header = ["contrast", "split", "difference", "95% interval", "over questions", "effect", "p", "p (Holm)", "p (BH)"]
    header += ["detectable", "n", "seeds", "paired"]
    rows = []
    for row in contrasts.filter(metric=metric, phase=phase).iter_rows(named=True):
        intervals = [format_interval(row, sign=True), format_interval(row, "low_questions", "high_questions", sign=True)]
        tests = [*(format_p(row[name]) for name in ("p", "p_holm", "p_bh")), format_detectable(row)]
        counts = [format_sizes(row), str(row["seeds"]), "yes" if row["paired"] else "no"]
        sizes = [format_number(row["difference"], sign=True), *intervals, format_number(row["effect"], 2, sign=True)]
        rows.append([name_contrast(row) + PRIMARY * row["primary"], name_set(row["split"]), *sizes, *tests, *counts])
    note = (
        "Interval: over questions, and over seeds where there are several. Over questions: the seeds taken as given. p (Holm) "
        "and p (BH): Holm's and Benjamini and Hochberg's corrections over all contrasts of this metric and phase. "
        f"{tell_primary(contrasts)}"
        f"{DETECTABLE} Effect: Cohen's h for shares, elsewhere d_z (paired) or Cohen's d. Paired: the same questions on both "
        "sides."
    )
    title = f"{METRICS[metric].title} against {REFERENCE.label} training, {PHASES[phase]}{name_part(contrasts)}"
    return Table(f"contrasts-{metric}-{phase}", title, header, rows, note, left=2)


@mpl.rc_context(STYLE)
def plot_contrasts(contrasts: pl.DataFrame, results: pl.DataFrame, title: str) -> Figure:
    """Differences from the reference with both intervals, and those of single seeds.

    The axis holds the seeds and every interval over questions; arrows go beyond.
    """
    seeds = list_differences(contrasts, results)
    figure, axes, conditions, evaluations = make_axes(contrasts, 1, title)
    ends = pl.max_horizontal(pl.col("difference", "low_questions", "high_questions").abs())
    for axis, name in zip(axes[0], evaluations, strict=True):
        seen = name == "seen"
        # The trained questions have an axis of their own.
        own = (pl.col("split") == "seen") == seen
        held = pl.concat([contrasts.filter(own).select(ends).to_series(), seeds.filter(own)["difference"].abs()])
        here = (1.15 if seen else 1.6) * max(held.max(), 0.05)
        axis.set_xlim(-here, here)
        axis.axvline(0, color=INK, lw=1)
        rows = find_rows(contrasts.filter(split=name), conditions)
        plot_intervals(axis, rows, (-here, here))
        for y, row in rows.items():
            condition, ratio = conditions[y]
            colour, marker = find_look(condition)
            axis.plot(row["difference"], y, marker=marker, ms=7, color=colour, mec=INK, mew=0.6, zorder=4)
            single = seeds.filter(pl.col("ratio").eq_missing(ratio), condition=condition, split=name)
            plot_seeds(axis, single["difference"], y + 0.3, condition)
            write_beside(axis, y, _write_points(row["difference"]))
        axis.xaxis.set_major_formatter(lambda x, _: _write_points(x))
        axis.set_xlabel("points of accuracy", fontsize=8)
    return figure


def list_differences(contrasts: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The rows of `results` that are contrasted, with their `difference` from the reference's run of the same seed."""
    key = (*BLOCK, "metric", "seed")
    reference = results.filter(condition=REFERENCE.name).select(*key, _reference="value")
    shown = results.join(contrasts, on=(*BLOCK, *CONDITION, "metric"), how="semi", nulls_equal=True)
    return shown.join(reference, on=key, nulls_equal=True).with_columns(difference=pl.col("value") - pl.col("_reference"))


def _write_points(share: float) -> str:
    points = round(100 * share)
    return f"{points:+d}".replace("-", "−") if points else "0"


def sketch_contrasts(part: Part) -> list[Sketch]:
    """Accuracy in the chat prompt against the reference."""
    shown = part.frames["contrasts"].filter(phase="tuned_chat", metric="accuracy")
    title = f"Accuracy against {REFERENCE.label} training"
    return [Sketch("contrasts", title, CAPTION, plot_contrasts(shown, part.frames["results"], title))] if shown.height else []


def compute_chapter(whole: Whole) -> Computed:
    """Both tables of `compare_conditions`; its gaps are the conditions that have no mean over seeds."""
    study = whole.study
    summary, contrasts = compare_conditions(study.measures, study.primary)
    gaps = find_unsummarised(whole.frames["results"], summary)
    if study.primary:
        made = contrasts.filter("primary").select(PART).rows()
        gaps += [
            f"The contrast that was named beforehand, {write_primary(study.primary)}, cannot be made of {model} in {domain}."
            for model, domain in study.runs.select(PART).unique(maintain_order=True).rows()
            if (model, domain) not in made
        ]
    return Computed({"summary": summary, "contrasts": contrasts}, gaps)


CHAPTER = Chapter(
    compute=compute_chapter,
    heading=AGAINST,
    tables=lambda part: [tabulate_contrasts(part.frames["contrasts"], m, phase) for m in CONTRASTED for phase in part.phases],
    figures=sketch_contrasts,
    shown=("contrasts", "results"),
)
