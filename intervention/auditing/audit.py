"""What is wrong with the questions of a set, before a model is asked them or trained on them: every question marked.

A question is repeated where its text and its choices are, in any order. A text alone ("Which of these is true?") can be the
stem of many questions, and a passage can be asked about many times: these are other findings. All are looked for within a
domain, since a model is trained and tested on one. Every finding is a column of the table of questions, so that what `findings`
counts is what `cleaning` drops.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.auditing.duplicates import find_near_pairs, find_passages
from intervention.sources.normalising import normalise_choices, normalise_texts
from intervention.texts.statements import find_statements
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import KEY, SPLITS

NAME = pl.concat_str(KEY, separator="/")


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
    """Mark every question: a Boolean column a finding (`findings.TEXTS`, `findings.ROWS`), and what they were found by.

    Args:
        table: questions with their `split`.
        similarity: from which Jaccard similarity on (of the runs of five characters) texts are nearly alike.
        seed: of the sketches by which such texts are looked for.

    Returns:
        The table with the columns of findings; `text`, `whole` and `says` (the question's text, its text and choices, and its
        answer, as they are compared), `first` and `first_text` (the row that comes first in its domain of a question, and of a
        text), `like` (the held-out question to which a train question is nearly equal).

    Raises:
        UserError: a similarity that is none.
    """
    if not 0 < similarity <= 1:
        raise UserError(f"--similarity {similarity:g} is not above 0 and up to 1. 0.8 finds questions that differ in a word.")
    table = table.with_row_index("_row").with_columns(
        text=normalise_texts(pl.col("question")), _choices=pl.col("choices").list.eval(normalise_choices(pl.element()))
    )
    table = table.with_columns(
        says=pl.col("_choices").list.get(pl.col("answer")),
        _shown=pl.col("_choices").list.sort().list.join("\n"),
    ).with_columns(whole=pl.col("text") + "\n" + pl.col("_shown"))
    table = _mark_choices(_mark_near(_mark_repeated(table), similarity, seed))
    return _mark_explanations(table).drop("_row", "_choices", "_shown")


def _mark_repeated(table: pl.DataFrame) -> pl.DataFrame:
    same, stem = ["domain", "whole"], ["domain", "text"]
    marks = {split: (pl.col("split") == split).any().over(same).alias(f"in_{split}") for split in SPLITS}
    table = table.with_columns(
        *marks.values(),
        repeats=pl.len().over(same) > 1,
        different=pl.col("says").n_unique().over(same) > 1,
        several=pl.col("domain").n_unique().over("whole") > 1,
        first=pl.int_range(pl.len()).over(same) == 0,
        stem=pl.col("_shown").n_unique().over(stem) > 1,
        first_text=pl.int_range(pl.len()).over(stem) == 0,
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
    texts = table.filter("first_text").select("domain", "text", "question")
    pairs = [pl.DataFrame(schema=dict.fromkeys(("domain", "text", "other"), pl.String) | {"passage": pl.Boolean})]
    for (domain,), part in texts.group_by("domain", maintain_order=True):
        own = find_near_pairs(part["text"], similarity, seed)
        own = own.with_columns(passage=find_passages(own, part["question"]), domain=pl.lit(domain))
        for one, two in (("left", "right"), ("right", "left")):
            found = own.with_columns(text=part["text"][own[one]], other=part["text"][own[two]])
            pairs.append(found.select("domain", "text", "other", "passage"))
    found = pl.concat(pairs)
    near = found.group_by("domain", "text").agg(near=(~pl.col("passage")).any(), passage=pl.col("passage").any())
    held_out = table.filter(~pl.col("is_train")).select("domain", "says", shown="_shown", other="text", like=NAME)
    # What has the text and the answer of a held-out question gives it away, whatever its other choices are.
    equal = texts.select("domain", "text", other="text", passage=pl.lit(False))
    leaks = (
        table.filter("is_train", ~pl.col("in_test"), ~pl.col("in_dev"))
        .select("_row", "domain", "text", "says", "_shown")
        .join(pl.concat([found, equal]), on=["domain", "text"], how="inner")
        .join(held_out, on=["domain", "says", "other"], how="inner")
        # Of one passage much can be asked; what has the same choices is asked again.
        .filter(~pl.col("passage") | (pl.col("_shown") == pl.col("shown")))
        .group_by("_row")
        .agg(pl.col("like").min())
    )
    return (
        table.join(near, on=["domain", "text"], how="left", maintain_order="left")
        .join(leaks, on="_row", how="left", maintain_order="left")
        .with_columns(pl.col("near", "passage").fill_null(False), nearly_held_out=pl.col("like").is_not_null())
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
