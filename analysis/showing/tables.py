"""A small model of a table, and its forms as markdown and plain text (LaTeX: analysis/latex.py). All cells are escaped."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from analysis.chapters.contrasts import REFERENCE, is_found
from analysis.measures.intervals import limit_difference
from analysis.showing.labels import BASE, METRICS, PHASES, SPLITS, name_condition, name_split

DASH = "–"
DETECTABLE = (
    "Detectable: where p (Holm) is not significant, the smallest true difference that this design finds in 80% of repetitions "
    "(before correction); none: none that is possible."
)
_MARKDOWN = {c: f"\\{c}" for c in "\\`*_[]|#~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}


@dataclass(frozen=True)
class Table:
    """A table of text: the first `left` columns are words, the others numbers."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]] = field(repr=False)
    note: str = ""
    left: int = 1


def escape_markdown(text: str) -> str:
    """Text that markdown shows as it is."""
    return text.translate(str.maketrans(_MARKDOWN))


def write_markdown(table: Table) -> str:
    """A table as markdown, with its title in bold and its note below."""
    rules = [":--" if i < table.left else "--:" for i in range(len(table.header))]
    lines = [[escape_markdown(cell) for cell in row] for row in (table.header, *table.rows)]
    body = [f"| {' | '.join(row)} |" for row in (lines[0], rules, *lines[1:])]
    note = ["", escape_markdown(table.note)] if table.note else []
    return "\n".join([f"**{escape_markdown(table.title)}**", "", *body, *note]) + "\n"


def write_text(table: Table) -> str:
    """A table for a terminal, columns aligned."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]

    def align(row: Iterable[str]) -> str:
        cells = (c.ljust(w) if i < table.left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(cells).rstrip()

    lines = [align(table.header), "  ".join("-" * width for width in widths), *map(align, table.rows)]
    return "\n".join([table.title, "", *lines, *(["", table.note] if table.note else [])]) + "\n"


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for readers: fixed digits, a true minus sign, a dash where there is none."""
    if value is None or value != value:
        return DASH
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def format_interval(row: dict, low: str = "low", high: str = "high", digits: int = 3, sign: bool = False) -> str:
    """An interval for readers, in brackets."""
    return f"[{format_number(row[low], digits, sign)}, {format_number(row[high], digits, sign)}]"


def format_p(p: float | None) -> str:
    """A p-value for readers."""
    return DASH if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def format_detectable(row: dict) -> str:
    """The smallest difference that a design finds (`mde`), for readers; "none" where it is larger than any that is possible."""
    if row["mde"] is not None and row["mde"] > limit_difference(row["metric"]):
        return "none"
    return format_number(row["mde"])


def format_count(seeds: int) -> str:
    """A number of seeds; none for the base model, which has no seed."""
    return str(seeds) if seeds else DASH


def tabulate_summary(summary: pl.DataFrame, name: str = "summary") -> Table:
    """The compact result table of one study: a row a condition and split, in the chat prompt; the base model first."""
    base = summary.filter(pl.col("condition") == BASE, pl.col("phase").is_in(["base_probe", "base_chat"]))
    shown = pl.concat([base, summary.filter(phase="tuned_chat")])
    keys = ["condition", "ratio", "phase", "split"]
    cells: dict[tuple, dict[str, dict]] = {}
    for row in shown.iter_rows(named=True):
        cells.setdefault(tuple(row[key] for key in keys), {})[row["metric"]] = row
    rows = []
    for (condition, ratio, phase, split), by in cells.items():
        label = PHASES[phase] if condition == BASE else name_condition(condition, ratio)
        if not (accuracy := by.get("accuracy")):
            continue
        kept = [_write_value(by.get(metric), accuracy["n"]) for metric in ("kl_nats", "rank_pearson", "top1_agreement")]
        both = [format_interval(accuracy), format_interval(accuracy, "low_questions", "high_questions")]
        counts = [f"{accuracy['n']:,}", format_count(accuracy["seeds"])]
        rows.append([label, name_split(split), format_number(accuracy["value"]), *both, *kept, *counts])
    header = [
        "trained on",
        "split",
        "accuracy",
        "95% interval",
        "over questions",
        "KL, nats",
        "rank corr.",
        "same answer",
        "n",
        "seeds",
    ]
    note = (
        "Mean over seeds. The interval is over questions, and over seeds where there are several (crossed bootstrap, or t over "
        "the seeds where that is wider); the one over questions takes the seeds as given. KL, rank correlation and same answer "
        "compare with the base model's few-shot probe (their intervals: see their own tables). n: questions."
    )
    return Table(name, f"Results by condition and split{_name_study(summary)}", header, rows, note, left=2)


def _write_value(row: dict | None, n: int) -> str:
    """A mean, and its number of questions where that is not the row's `n`: not asked of the base model, or an infinite KL."""
    if row is None:
        return DASH
    return format_number(row["value"]) + ("" if row["n"] == n else f" (n = {row['n']:,})")


def tabulate_metric(summary: pl.DataFrame, metric: str, phase: str) -> Table:
    """One metric of the tuned models in one phase, below the base model's: a column a split, mean and interval."""
    base = pl.col("phase").is_in(["base_probe", "base_chat"]) & (pl.col("condition") == BASE)
    part = summary.filter(base | (pl.col("phase") == phase), metric=metric)
    splits = [split for split in SPLITS if split in set(part["split"])]
    rows: dict[str, dict[str, str]] = {}
    for row in part.sort(~base, maintain_order=True).iter_rows(named=True):
        label = PHASES[row["phase"]] if row["condition"] == BASE else name_condition(row["condition"], row["ratio"])
        rows.setdefault(label, {})[row["split"]] = f"{format_number(row['value'])} {format_interval(row)}"
    n = {split: part.filter(split=split)["n"] for split in splits}
    header = [
        f"{name_split(s)} (n = {n[s].min():,}{'' if n[s].min() == n[s].max() else f' to {n[s].max():,}'})" for s in splits
    ]
    body = [[label, *(cells.get(split, DASH) for split in splits)] for label, cells in rows.items()]
    title = f"{_capitalise(METRICS[metric])}, {PHASES[phase]}{_name_study(summary)}"
    return Table(f"{metric}-{phase}", title, ["trained on", *header], body, "Mean over seeds with its 95% interval.")


def tabulate_contrasts(contrasts: pl.DataFrame, metric: str, phase: str = "tuned_chat") -> Table:
    """All contrasts of one metric in one phase."""
    header = [
        "contrast",
        "split",
        "difference",
        "95% interval",
        "over questions",
        "effect",
        "p",
        "p (Holm)",
        "p (BH)",
        "detectable",
        "n",
        "seeds",
        "paired",
    ]
    rows = []
    for row in contrasts.filter(metric=metric, phase=phase).iter_rows(named=True):
        label = f"{name_condition(row['condition'], row['ratio'])} − {row['reference']}"
        n = f"{row['n']:,}" if row["n"] == row["n_reference"] else f"{row['n']:,} / {row['n_reference']:,}"
        intervals = [format_interval(row, sign=True), format_interval(row, "low_questions", "high_questions", sign=True)]
        detectable = DASH if is_found(row) else format_detectable(row)
        tests = [format_p(row["p"]), format_p(row["p_holm"]), format_p(row["p_bh"]), detectable]
        counts = [n, str(row["seeds"]), "yes" if row["paired"] else "no"]
        sizes = [format_number(row["difference"], sign=True), *intervals, format_number(row["effect"], 2, sign=True)]
        rows.append([label, name_split(row["split"]), *sizes, *tests, *counts])
    note = (
        "Interval: over questions, and over seeds where there are several. Over questions: the seeds taken as given. p (Holm) "
        "and p (BH): Holm's and Benjamini and Hochberg's corrections over all contrasts of this metric and phase. "
        f"{DETECTABLE} Effect: Cohen's h for shares, elsewhere d_z (paired) or Cohen's d. Paired: the same questions on both "
        "sides."
    )
    title = f"{_capitalise(METRICS[metric])} against {REFERENCE} training, {PHASES[phase]}{_name_study(contrasts)}"
    return Table(f"contrasts-{metric}-{phase}", title, header, rows, note, left=2)


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name_study(table: pl.DataFrame) -> str:
    models, domains = table["model"].unique(), table["domain"].unique()
    return f" ({models[0]}, {domains[0]})" if len(models) == len(domains) == 1 else ""
