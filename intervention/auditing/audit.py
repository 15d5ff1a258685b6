"""What is wrong with the questions of a set, before a model is asked them or trained on them.

Duplicates are looked for within a domain, since a model is trained and tested on one. Every finding is a column of the table of
questions, so that what is counted here is what `cleaning` drops.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import chisquare

from intervention.auditing.duplicates import find_near_pairs, normalise_choices, normalise_texts
from intervention.texts.statements import find_statements
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.manifest import hash_inputs
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY, SPLITS

NAME = pl.concat_str(KEY, separator="/")
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
# Findings about texts, counted once however often a text occurs: column, and the column of those among which it is counted.
TEXTS = {
    "duplicate questions": ("duplicate", None),
    "duplicates with different answers": ("different", "duplicate"),
    "nearly duplicate questions": ("near", None),
    "questions of several domains": ("several", None),
    "train questions that are in test": ("train_in_test", "could_be_in_test"),
    "train questions that are in dev": ("train_in_dev", "could_be_in_dev"),
    "dev questions that are in test": ("dev_in_test", "dev_could_be_in_test"),
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


def read_sets(folders: Sequence[str | Path]) -> pl.DataFrame:
    """The questions of one or several question sets that are used together; `set` says from which.

    Raises:
        UserError: none is named, or one is no question set.
    """
    if not folders:
        raise UserError("no question set is named. Name the folder of one, or of several that are used together.")
    names = [Path(folder).name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return pl.concat(read_questions(folder).with_columns(set=pl.lit(name)) for folder, name in zip(folders, names, strict=True))


def audit_questions(table: pl.DataFrame, similarity: float = 0.8, seed: int = 0) -> pl.DataFrame:
    """Mark every question: a Boolean column a finding (`TEXTS`, `ROWS`), and what they were found by.

    Args:
        table: questions with their `split`.
        similarity: from which Jaccard similarity on (of the runs of five characters) texts are nearly alike.
        seed: of the sketches by which such texts are looked for.

    Returns:
        The table with the columns of findings; `text` and `says` (question and answer as they are compared), `first` (the row
        of a text that comes first in its domain), `like` (the held-out question to which a train question is nearly equal).

    Raises:
        UserError: a similarity that is none.
    """
    if not 0 < similarity <= 1:
        raise UserError(f"--similarity {similarity:g} is not above 0 and up to 1. 0.8 finds questions that differ in a word.")
    table = table.with_row_index("_row").with_columns(
        text=normalise_texts(pl.col("question")), _choices=pl.col("choices").list.eval(normalise_choices(pl.element()))
    )
    table = table.with_columns(says=pl.col("_choices").list.get(pl.col("answer")))
    table = _mark_choices(_mark_near(_mark_duplicates(table), similarity, seed))
    return _mark_explanations(table).drop("_row", "_choices")


def _mark_duplicates(table: pl.DataFrame) -> pl.DataFrame:
    same = ["domain", "text"]
    marks = {split: (pl.col("split") == split).any().over(same).alias(f"in_{split}") for split in SPLITS}
    table = table.with_columns(
        *marks.values(),
        duplicate=pl.len().over(same) > 1,
        different=pl.col("says").n_unique().over(same) > 1,
        several=pl.col("domain").n_unique().over("text") > 1,
        first=pl.int_range(pl.len()).over(same) == 0,
        is_train=pl.col("split") == "train",
    )
    has_dev, has_test = ((pl.col("split") == split).any().over("domain") for split in ("dev", "test"))
    return table.with_columns(
        could_be_in_test=pl.col("in_train") & has_test,
        could_be_in_dev=pl.col("in_train") & has_dev,
        dev_could_be_in_test=pl.col("in_dev") & has_test,
        could_be_held_out=pl.col("is_train") & (has_test | has_dev),
        train_in_test=pl.col("in_train") & pl.col("in_test"),
        train_in_dev=pl.col("in_train") & pl.col("in_dev"),
        dev_in_test=pl.col("in_dev") & pl.col("in_test"),
    )


def _mark_near(table: pl.DataFrame, similarity: float, seed: int) -> pl.DataFrame:
    texts = table.select("domain", "text").unique(maintain_order=True)
    pairs = [pl.DataFrame(schema=dict.fromkeys(("domain", "text", "other"), pl.String))]
    for (domain,), part in texts.group_by("domain", maintain_order=True):
        own = find_near_pairs(part["text"], similarity, seed)
        one, two = part["text"][own["left"]], part["text"][own["right"]]
        pairs += [pl.DataFrame({"text": a, "other": b}).select(domain=pl.lit(domain), text="text", other="other")
                  for a, b in ((one, two), (two, one))]  # fmt: skip
    found = pl.concat(pairs)
    near = found.select("domain", "text", near=pl.lit(True)).unique()
    held_out = table.filter(~pl.col("is_train")).select("domain", "says", other="text", like=NAME)
    leaks = (
        table.filter("is_train")
        .select("_row", "domain", "text", "says")
        .join(found, on=["domain", "text"], how="inner")
        .join(held_out, on=["domain", "says", "other"], how="inner")
        .group_by("_row")
        .agg(pl.col("like").min())
    )
    return (
        table.join(near, on=["domain", "text"], how="left", maintain_order="left")
        .join(leaks, on="_row", how="left", maintain_order="left")
        .with_columns(pl.col("near").fill_null(False), nearly_held_out=pl.col("like").is_not_null())
    )


def _mark_choices(table: pl.DataFrame) -> pl.DataFrame:
    """Repeated choices; and answers that the question gives away: it has their words, and those of no other choice."""
    widest = table["choices"].list.len().max() or 0
    question = " " + pl.col("text") + " "
    occurs = []
    for i in range(widest):
        choice = normalise_texts(pl.col("choices").list.get(i, null_on_oob=True))
        told = (choice.str.len_chars() > 2) & choice.str.contains(r"\p{L}")
        word = told & question.str.contains(" " + choice + " ", literal=True)
        chinese = choice.str.contains(r"^\p{Han}{2,}") & question.str.contains(choice, literal=True)
        occurs.append((word | chinese).fill_null(False).alias(f"_occurs_{i}"))
    right = pl.any_horizontal((pl.col("answer") == i) & pl.col(f"_occurs_{i}") for i in range(widest))
    same = [(pl.col("_choices").list.get(i, null_on_oob=True) == pl.col("says")).cast(pl.Int64) for i in range(widest)]
    alone = pl.sum_horizontal(pl.col(f"_occurs_{i}").cast(pl.Int64) for i in range(widest)) == 1
    return (
        table.with_columns(occurs)
        .with_columns(
            repeated=pl.col("_choices").list.n_unique() < pl.col("_choices").list.len(),
            repeated_right=pl.sum_horizontal(same) > 1,
            given_away=right & alone,
        )
        .drop(f"_occurs_{i}" for i in range(widest))
    )


def _mark_explanations(table: pl.DataFrame) -> pl.DataFrame:
    stated = find_statements(table, "explanation")
    table = table.with_columns(stated["states"].alias("_stated"), stated["lettered"].fill_null(False))
    other = pl.col("_choices").list.get(pl.col("_stated"), null_on_oob=True) != pl.col("says")
    table = table.with_columns(states=pl.col("_stated").is_not_null(), contradicts=other.fill_null(False))
    return table.with_columns(contradicts_letter=pl.col("contradicts") & pl.col("lettered")).drop("_stated")


def list_findings(marked: pl.DataFrame) -> pl.DataFrame:
    """One row a finding and domain, and split where it is about rows (`FINDING_SCHEMA`); those that cannot occur are left out.

    Args:
        marked: what `audit_questions` gives.
    """
    texts = marked.filter("first").with_columns(split=pl.lit("all"))
    counts = [_count(texts, *names) for names in ((name, *columns) for name, columns in TEXTS.items())]
    counts += [_count(marked, *names) for names in ((name, *columns) for name, columns in ROWS.items())]
    table = pl.concat(counts).filter(pl.col("of") > 0)
    if marked["domain"].n_unique() == 1:
        table = table.filter(pl.col("finding") != "questions of several domains")
    table = table.with_columns(share=pl.col("n") / pl.col("of"))
    low, high = compute_wilson(table["share"].to_numpy(), table["of"].to_numpy())
    return table.with_columns(low=low, high=high).select(pl.col(name).cast(kind) for name, kind in FINDING_SCHEMA.items())


def _count(rows: pl.DataFrame, finding: str, column: str, among: str | None) -> pl.DataFrame:
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
        for finding, (column, _) in (TEXTS | ROWS).items()
    ]
    return pl.concat(found)


def format_findings(findings: pl.DataFrame) -> pl.DataFrame:
    """The table of findings as it is printed: shares and their intervals in percent."""
    percents = [
        pl.Series(name, [f"{100 * value:.2f}%" for value in findings[name]], pl.String) for name in ("share", "low", "high")
    ]
    shown = findings.with_columns(percents)
    interval = pl.col("low") + " to " + pl.col("high")
    return shown.select(
        "finding", "domain", "split", "n", "of", "share", interval.alias("95% interval"), pl.col("example").fill_null("")
    )


def write_report(
    file: str | Path, folders: Sequence[str | Path], config: dict[str, float], marked: pl.DataFrame, letters: pl.DataFrame
) -> None:
    """Write what was found as JSON: the question sets and options, `findings`, `letters`, and `questions`, of each finding."""
    report = {"inputs": hash_inputs(questions=folders), "config": config}
    tables = {"findings": list_findings(marked), "letters": letters, "questions": list_flaws(marked)}
    with write_file(file) as scratch:
        text = json.dumps(report | {name: table.to_dicts() for name, table in tables.items()}, indent=1, ensure_ascii=False)
        scratch.write_text(text + "\n", encoding="utf-8")
