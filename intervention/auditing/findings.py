"""What the audit found, counted: by domain and in all, as a table, as text, and as JSON with every question."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import chisquare

from intervention.auditing.audit import NAME
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.manifest import hash_inputs
from lm_eval_tasks.contracts.markdown import format_table
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.vocabulary import SPLITS

CLEAR = 0.05  # the p-value below which, corrected, letters are said not to be equally frequent
FINDING_SCHEMA = pl.Schema(
    {
        "finding": pl.String,
        "domain": pl.String,
        "split": pl.String,  # `all`: over the splits of the domain
        "n": pl.Int64,
        "of": pl.Int64,
        "share": pl.Float64,
        "low": pl.Float64,  # of the 95% Wilson interval of the share
        "high": pl.Float64,
        "example": pl.String,  # the first: source/domain/id
    }
)
# Findings about questions and texts, counted once however often one occurs: column, the column of those among which it is
# counted (all where None), and the column that tells the first of each.
TEXTS = {
    "repeated questions": ("repeats", None, "first"),
    "repeated questions with different answers": ("different", "repeats", "first"),
    "shared stems": ("stem", None, "first_text"),
    "shared passages": ("passage", None, "first_text"),
    "nearly repeated questions": ("near", None, "first_text"),
    "questions of several domains": ("several", None, "first"),
    "train questions that are in test": ("train_in_test", "could_be_in_test", "first"),
    "train questions that are in dev": ("train_in_dev", "could_be_in_dev", "first"),
    "dev questions that are in test": ("dev_in_test", "dev_could_be_in_test", "first"),
}
# Findings about rows.
ROWS = {
    "train questions nearly in test or dev, with the same answer": ("nearly_held_out", "could_be_held_out"),
    "repeated choices": ("repeated", None),
    "right choices that are repeated": ("repeated_right", None),
    "answers in the question": ("given_away", None),
    "explanations of another choice": ("contradicts", "states"),
    "explanations of another letter": ("contradicts_letter", "lettered"),
}


def list_findings(marked: pl.DataFrame) -> pl.DataFrame:
    """One row a finding and domain, and split where it is about rows (`FINDING_SCHEMA`); those that cannot occur are left out.

    Args:
        marked: what `audit_questions` gives.
    """
    every = marked.with_columns(split=pl.lit("all"))
    counts = [count_findings(every.filter(first), name, column, among) for name, (column, among, first) in TEXTS.items()]
    counts += [count_findings(marked, name, column, among) for name, (column, among) in ROWS.items()]
    table = pl.concat(counts).filter(pl.col("of") > 0)
    if marked["domain"].n_unique() == 1:
        table = table.filter(pl.col("finding") != "questions of several domains")
    return add_shares(table)


def list_totals(findings: pl.DataFrame) -> pl.DataFrame:
    """One row a finding, and split where it is about rows, over all domains (`FINDING_SCHEMA`).

    Args:
        findings: what `list_findings` gives.
    """
    found = pl.col("example").filter(pl.col("n") > 0).first()
    totals = findings.group_by("finding", "split", maintain_order=True).agg(pl.col("n", "of").sum(), example=found)
    return add_shares(totals.with_columns(domain=pl.lit("all")))


def add_shares(table: pl.DataFrame) -> pl.DataFrame:
    """`FINDING_SCHEMA` of counts: `n` of `of` as shares, with their 95% Wilson intervals."""
    table = table.with_columns(share=pl.col("n") / pl.col("of"))
    low, high = compute_wilson(table["share"].to_numpy(), table["of"].to_numpy())
    return table.with_columns(low=low, high=high).select(pl.col(name).cast(kind) for name, kind in FINDING_SCHEMA.items())


def count_findings(rows: pl.DataFrame, finding: str, column: str, among: str | None) -> pl.DataFrame:
    """How many rows of each domain and split a column marks, among all or those that another column marks."""
    rows = rows if among is None else rows.filter(among)
    order = pl.col("split").replace_strict({split: i for i, split in enumerate(SPLITS)}, default=-1, return_dtype=pl.Int64)
    return (
        rows.group_by("domain", "split")
        .agg(n=pl.col(column).sum(), of=pl.len(), example=NAME.filter(pl.col(column)).first())
        .sort("domain", order)
        .select(pl.lit(finding).alias("finding"), "domain", "split", "n", "of", "example")
    )


def balance_letters(table: pl.DataFrame) -> pl.DataFrame:
    """The letters of gold by domain and split: `n`, their shares, and a chi-squared test that all letters are as frequent.

    A question with k choices counts 1/k at each of its letters among what is expected.
    """
    rows = []
    widest = table["choices"].list.len().max() or 0
    for (domain, split), part in table.group_by("domain", "split", maintain_order=True):
        sizes = part["choices"].list.len()
        found = [int((part["answer"] == i).sum()) for i in range(widest)]
        expected = [float((1 / sizes.filter(sizes > i)).sum()) for i in range(widest)]
        used = [i for i in range(widest) if expected[i] > 0]
        test = chisquare([found[i] for i in used], [expected[i] for i in used])
        shares: dict[str, Any] = {f"gold {LETTERS[i]}": found[i] / part.height for i in range(widest)}
        tested = {"chi_squared": float(test.statistic), "p": float(test.pvalue)}
        rows.append({"domain": domain, "split": split, "n": part.height} | shares | tested)
    return pl.DataFrame(rows)


def list_flaws(marked: pl.DataFrame) -> pl.DataFrame:
    """Every question with a finding: `finding, source, domain, split, id, set`, in the order of findings and questions."""
    columns = ["source", "domain", "split", "id", "set"]
    found = [
        marked.filter(column).select(pl.lit(finding).alias("finding"), *columns)
        for finding, (column, *_) in (TEXTS | ROWS).items()
    ]
    return pl.concat(found)


def describe_findings(findings: pl.DataFrame) -> str:
    """What is printed of the findings: totals, then those of each domain where there are several, without what was not found.

    Args:
        findings: what `list_findings` gives.
    """
    totals = list_totals(findings)
    found = set(totals.filter(pl.col("n") > 0)["finding"])
    nothing = [name for name in totals["finding"].unique(maintain_order=True) if name not in found]
    parts = [format_findings(totals)] if found else []
    parts += [f"Not found: {'; '.join(nothing)}."] if nothing else []
    if findings["domain"].n_unique() > 1 and found:
        parts.append(f"By domain:\n{format_findings(findings)}")
    return "\n\n".join(parts)


def format_findings(findings: pl.DataFrame) -> str:
    """The table of what was found, as it is printed: shares and their intervals in percent."""
    found = findings.filter(pl.col("n") > 0)
    percents = [
        pl.Series(name, [f"{100 * value:.2f}%" for value in found[name]], pl.String) for name in ("share", "low", "high")
    ]
    interval = pl.col("low") + " to " + pl.col("high")
    columns = ("finding", "domain", "split", "n", "of", "share", interval.alias("95% interval"), "example")
    return format_table(found.with_columns(percents).select(columns))


def describe_letters(table: pl.DataFrame, letters: pl.DataFrame) -> str:
    """What is printed of the letters: over all domains, and of those domains in which they are clearly not as frequent.

    Args:
        table: questions with their `split`.
        letters: what `balance_letters` gives for them.
    """
    if letters["domain"].n_unique() == 1:
        return _format_letters(letters)
    unequal = letters.filter(pl.col("p") < CLEAR / letters.height)
    say = (
        f"The letters of gold are not equally frequent in {unequal.height} of {letters.height} splits of domains "
        f"(p < {CLEAR:g} after Bonferroni)"
    )
    parts = [_format_letters(balance_letters(table.with_columns(domain=pl.lit("all"))))]
    return "\n\n".join([*parts, f"{say}:\n{_format_letters(unequal)}" if unequal.height else f"{say}."])


def _format_letters(letters: pl.DataFrame) -> str:
    return format_table(letters.with_columns(pl.Series("p", [f"{p:.2g}" for p in letters["p"]], pl.String)))


def write_report(
    file: str | Path, folders: Sequence[str | Path], config: dict[str, float], marked: pl.DataFrame, letters: pl.DataFrame
) -> None:
    """Write what was found as JSON: the question sets and options, `totals`, `findings`,
    `letters`, and `questions`, of each finding."""
    report = {"inputs": hash_inputs(questions=folders), "config": config}
    findings = list_findings(marked)
    tables = {"totals": list_totals(findings), "findings": findings, "letters": letters, "questions": list_flaws(marked)}
    with write_file(file) as scratch:
        text = json.dumps(report | {name: table.to_dicts() for name, table in tables.items()}, indent=1, ensure_ascii=False)
        scratch.write_text(text + "\n", encoding="utf-8")
