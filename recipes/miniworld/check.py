"""Does a base model fit the study? Every requirement on the miniature base, measured from probe tables.

    python -m lm_eval_tasks table runs/miniworld/miniature/base --score sum --output base.parquet
    python -m recipes.miniworld.check base.parquet --card recipes/miniworld/base

Exit status 1 if a requirement is not met.
"""

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from scipy.stats import norm

from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.logs.scores import LEVEL, compute_wilson
from lm_eval_tasks.contracts.vocabulary import KEY, NEW_SETS, THRESHOLD
from recipes.miniworld.card import write_card

NEEDED = ("id", "source", "domain", "question", "choices", "topics", "split", "choice_mass", "prediction", "confidence")
TRAINED = ("miniworld_exam", "herbs")
HOMO, ID, OOD = NEW_SETS
LEAST = {HOMO: 1000, ID: 400, OOD: 600}  # questions
COLUMNS = {
    "figure": pl.String,
    "group": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "required": pl.String,
    "met": pl.Boolean,
}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def read_tables(files: list[Path]) -> pl.DataFrame:
    """Read probe tables and add `kind`, `agrees` (null where the fact is absent) and `group` (homo, id, ood, train, dev).

    Raises:
        UserError: a file cannot be read, lacks a column, or is of no miniature world.
    """
    tables = []
    for file in files:
        try:
            table = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"{file} cannot be read as a probe table: {error}. Write it with `lm_eval_tasks table`.") from error
        if missing := [name for name in (*NEEDED, "correct", "phase", "run") if name not in table.columns]:
            raise UserError(f"{file} has no column {missing[0]!r}. Write it with `python -m lm_eval_tasks table`.")
        tables.append(table.select(*NEEDED, "correct", "phase", "run"))
    table = pl.concat(tables)
    majority = pl.col("topics").list.get(1, null_on_oob=True).str.strip_prefix("majority: ")
    source, domain = TRAINED
    table = table.with_columns(
        kind=pl.col("topics").list.get(0, null_on_oob=True),
        agrees=pl.col("choices").list.get(pl.col("prediction")) == majority,
        group=pl.when(pl.col("split") != "test")
        .then("split")
        .when(pl.col("domain") != domain)
        .then(pl.lit(OOD))
        .when(pl.col("source") != source)
        .then(pl.lit(ID))
        .otherwise(pl.lit(HOMO)),
    )
    if table["kind"].null_count():
        raise UserError(f"{files[0]}: a question without its kind in `topics`, so it is of no miniature world.")
    return table


def measure_share(table: pl.DataFrame, column: str, figure: str, group: str) -> dict[str, Any]:
    """One row: the share of true values of a column, nulls left out, with its interval."""
    values = table[column].drop_nulls()
    share = float(values.mean() or 0.0)
    low, high = map(float, compute_wilson(share, len(values)))
    return {"figure": figure, "group": group, "value": share, "low": low, "high": high, "n": len(values)}


def require(row: dict[str, Any], low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Add what is `required` of a row's value, and whether it is `met`.

    >>> require({"value": 0.6}, low=0.5, high=0.7)
    {'value': 0.6, 'required': 'at least 0.5, at most 0.7', 'met': True}
    """
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None]
    met = (low is None or row["value"] >= low) and (high is None or row["value"] <= high)
    return row | {"required": ", ".join(bounds), "met": met}


def count(value: int, figure: str, group: str) -> dict[str, Any]:
    """One row that is a number of questions."""
    return {"figure": figure, "group": group, "value": value}


def measure_probe(probe: pl.DataFrame, threshold: float) -> list[dict[str, Any]]:
    """The few-shot figures: overall, by source and domain, by kind; then the classes of the training questions and sizes."""
    confident = probe.with_columns(confident=pl.col("confidence") > threshold)
    rows = []
    limits = {"agrees": ("agreement", 0.85, None), "correct": ("accuracy", 0.50, 0.70), "confident": ("confident", 0.80, None)}
    for column, (figure, low, high) in limits.items():
        rows.append(require(measure_share(confident, column, f"5-shot {figure}", "all"), low, high))
        for (source, domain), part in sorted(confident.group_by("source", "domain")):
            rows.append(require(measure_share(part, column, f"5-shot {figure}", f"{source} {domain}"), low, high))
        rows += [
            measure_share(part, column, f"5-shot {figure}", f"kind {kind}")
            for (kind,), part in sorted(confident.group_by("kind"))
            if part[column].count()
        ]
    believed = confident.filter((pl.col("split") == "train") & pl.col("confident"))
    right = int(believed["correct"].sum())
    rows.append(require(count(right, "harmonious training questions", "train"), 500))
    rows.append(require(count(len(believed) - right, "incompatible training questions", "train"), 500))
    for group, least in LEAST.items():
        rows.append(require(count(probe.filter(pl.col("group") == group).height, "questions", group), least))
    twice = probe.filter(pl.struct("question").is_duplicated()).height
    rows.append(require(count(twice, "questions about a fact that another one asks", "all"), high=0))
    return rows


def measure_chat(probe: pl.DataFrame, chat: pl.DataFrame, name: str, worse: bool) -> list[dict[str, Any]]:
    """The chat figures by group; with `worse`, HOMO must lie under the few-shot probe, the intervals apart."""
    rows = []
    for group in NEW_SETS:
        asked, told = chat.filter(pl.col("group") == group), probe.filter(pl.col("group") == group)
        if not asked.height:
            continue
        for column, figure in (("agrees", "agreement"), ("correct", "accuracy")):
            row = measure_share(asked, column, f"{name} {figure}", group)
            low = measure_share(told, column, "", group)["low"]
            if worse and column == "agrees":
                row |= {"required": f"interval under {low:.3f} (5-shot)", "met": row["high"] < low}
            rows.append(row)
        for label, part in ((f"{name} mean choice mass", asked), ("5-shot mean choice mass", told)):
            mean = float(part["choice_mass"].mean() or 0.0)
            half = norm.ppf((1 + LEVEL) / 2) * float(part["choice_mass"].std() or 0.0) / max(1, part.height) ** 0.5
            rows.append(
                {"figure": label, "group": group, "value": mean, "low": mean - half, "high": mean + half, "n": part.height}
            )
    return rows


def measure_reading(probe: pl.DataFrame, context: pl.DataFrame) -> list[dict[str, Any]]:
    """Of the questions that the probe answers wrongly, the share whose context, which tells gold, is believed instead."""
    wrong = probe.filter(~pl.col("correct")).select(KEY)
    told = context.join(wrong, on=KEY)
    return [require(measure_share(told, "correct", "5-shot names what a passage tells, believing another", "train"), 0.8)]


def measure_recovery(probe: pl.DataFrame, chat: pl.DataFrame, tuned: pl.DataFrame) -> list[dict[str, Any]]:
    """The share of the gap in HOMO agreement, from untrained chat to 5-shot, that a tuned model closes."""
    levels = [float(t.filter(pl.col("group") == HOMO)["agrees"].mean() or 0.0) for t in (probe, chat, tuned)]
    closed = (levels[2] - levels[1]) / max(1e-9, levels[0] - levels[1])
    return [require({"figure": "share of the gap closed by fine-tuning", "group": HOMO, "value": closed}, 0.5)]


def measure_all(table: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """All figures of a table with base_probe and, where there are, base_context, base_chat and tuned_chat; columns `COLUMNS`.

    Raises:
        UserError: there is no base probe in the table.
    """
    phases = ("base_probe", "base_context", "base_chat", "tuned_chat")
    probe, context, chat, tuned = (table.filter(pl.col("phase") == phase) for phase in phases)
    if not probe.height:
        raise UserError("The tables hold no probe of a base model (phase base_probe). Name its table too.")
    probe = probe.filter(pl.col("split") != "dev")
    rows = measure_probe(probe, threshold)
    if context.height:
        rows += measure_reading(probe, context)
    if chat.height:
        rows += measure_chat(probe, chat, "zero-shot chat", worse=True)
    for (run,), part in sorted(tuned.filter(pl.col("split") == "test").group_by("run")):
        rows += measure_chat(probe, part, f"tuned chat {run}", worse=False)
        rows += measure_recovery(probe, chat, part) if chat.height else []
    return pl.DataFrame(rows, schema=COLUMNS, strict=False)


def print_figures(figures: pl.DataFrame) -> None:
    """Print one line a figure."""
    for row in figures.iter_rows(named=True):
        value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else f"{row['value']:g}"
        size = "" if row["n"] is None else f"n={row['n']:,}"
        mark = {True: "ok", False: "NOT MET", None: ""}[row["met"]]
        print(f"{row['figure']:<46} {row['group']:<26} {value:<22} {size:<9} {row['required'] or '':<34} {mark}".rstrip())


@app.command()
def main(
    tables: Annotated[
        list[Path],
        typer.Argument(help="probe tables (parquet): base_probe, base_context, base_chat, tuned_chat of a harmonious run"),
    ],
    threshold: Annotated[float, typer.Option(help="a belief needs more than this probability")] = THRESHOLD,
    card: Annotated[Path | None, typer.Option(help="model folder whose README is to be written with these figures")] = None,
) -> None:
    """Print every requirement on the miniature base model with n and 95% interval."""
    figures = measure_all(read_tables(tables), threshold)
    print_figures(figures)
    if card:
        write_card(card, figures.to_dicts())
    raise typer.Exit(int((~figures["met"].drop_nulls()).any()))


if __name__ == "__main__":
    with report_errors():
        app()
