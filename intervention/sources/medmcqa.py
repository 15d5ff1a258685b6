"""MedMCQA (Pal et al. 2022), the paper's questions of medicine: those with one right choice and an explanation.

`cop`, the right choice, counts from 0 on the Hub, where it is a ClassLabel (-1: no answer), and from 1 in the JSON files that
the authors publish. A ClassLabel counts from 0; else a 0 anywhere says from 0, a 4 from 1, and what holds both or neither is
refused. An id is the row's number in its split (`validation/5`, from 0), by which the paper names its test questions.
"""

import random
from pathlib import Path

import datasets
import polars as pl

from intervention.sources.jsonlines import read_jsonl
from intervention.sources.origin import Origin, drop_rows, find_all_terms, hash_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.published import load_split
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_questions, check_rows

HUB = "openlifescienceai/medmcqa"
SOURCE, DOMAIN = "medmcqa", "medicine"
OPTIONS = ("opa", "opb", "opc", "opd")
ROW_SCHEMA = pl.Schema(
    dict.fromkeys(("question", *OPTIONS, "choice_type", "exp", "subject_name", "topic_name"), pl.String) | {"cop": pl.Int64}
)
SPLITS_OF = {"train": "train", "test": "validation"}  # the set's split -> MedMCQA's, whose own test split has no answers
# What a file of the authors' is called -> the set's split.
RAW_NAMES = {"train": "train"} | dict.fromkeys(("validation", "valid", "val", "dev"), "test")
SEED, DEMONSTRATIONS = 42, 10
# The rows of the train split that the paper demonstrates with, in its order, and the SHA-256 over their `question_hash`.
PAPER_DEV = (70096, 78314, 110299, 63697, 116396, 113746, 170820, 485, 99581, 121178)
PAPER_DEV_HASH = "30f35265ebea7e66"


def read_medmcqa(path: str = HUB, first: int | None = None) -> tuple[pl.DataFrame, Origin]:
    """Read MedMCQA: the question columns and `split`, and their origin.

    Args:
        path: a Hub id, a folder of the same layout, a folder with the authors' JSON files, or one of these files.
        first: the number of the first choice in `cop`, 0 or 1; found out where None.

    Raises:
        UserError: it cannot be read, or `cop` is not what it should be.
    """
    rows, labelled = read_raw(path) or read_hub(path)
    first, how = find_first(rows["cop"], labelled, first, path)
    rows = rows.with_columns(_answer=pl.col("cop") - first)
    known = pl.col("cop").is_not_null() & (pl.col("cop") != -1)
    wrong = known & ~pl.col("_answer").is_between(0, len(OPTIONS) - 1)
    for split, theirs in SPLITS_OF.items():
        complaint = f"is no choice, where {first} is the first; mend or drop the row"
        check_rows(rows.filter(pl.col("split") == split), wrong, "cop", complaint, f"{path}, {theirs}")
    texts = [pl.col(name).fill_null("").str.strip_chars() == "" for name in ("question", *OPTIONS)]
    rows, dropped = drop_rows(
        rows,
        {
            "choice_type is not single": pl.col("choice_type").fill_null("") != "single",
            "no answer": ~known,
            "a text is missing": pl.any_horizontal(texts),
            "no explanation": pl.col("exp").fill_null("").str.strip_chars() == "",
        },
    )
    if not rows.height:
        raise UserError(f"{path} has no question with one right choice and an explanation. Name MedMCQA, such as {HUB}.")
    table = check_questions(
        rows.select(
            "question",
            "id",
            source=pl.lit(SOURCE),
            domain=pl.lit(DOMAIN),
            subject="subject_name",
            choices=pl.concat_list(OPTIONS),
            answer="_answer",
            explanation="exp",
            topics=pl.concat_list("topic_name").list.drop_nulls(),
        ),
        path,
    ).with_columns(rows["split"])
    notes = [how, "The test questions are MedMCQA's validation split, because its own test split has no answers."]
    if "train" in set(table["split"]):
        table, note = choose_demonstrations(table)
        notes.append(note)
    else:
        notes.append("There are no train questions, so there are no dev questions.")
    config = {"name": SOURCE, "first": first}
    return table, Origin(find_all_terms(table), notes, dropped, (SOURCE,), config, {"dev questions": SEED})


def read_raw(path: str) -> tuple[pl.DataFrame, bool] | None:
    """The rows of the authors' JSON files (`train.json`, `dev.json`), or None where there are none."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*.json*"))
    found: dict[str, Path] = {}
    for file in files:
        split = RAW_NAMES.get(file.name.partition(".")[0].lower())
        if split in found:
            raise UserError(f"{path} has two files of one split, {found[split].name} and {file.name}. Leave out one of them.")
        if split:
            found[split] = file
    if path.is_file() and not found:
        raise UserError(f"{path}: which split is this? Name the file train.json or dev.json (or .jsonl, .gz).")
    tables = [_number(read_jsonl(file, ROW_SCHEMA), split) for split, file in sorted(found.items())]
    return (pl.concat(tables), False) if tables else None


def read_hub(path: str) -> tuple[pl.DataFrame, bool]:
    """The rows of the Hub's layout, and whether `cop` is a ClassLabel."""
    tables, labelled = [], True
    for split, theirs in sorted(SPLITS_OF.items()):
        data = load_split(path, None, theirs)
        if missing := [name for name in ROW_SCHEMA if name not in data.column_names]:
            raise UserError(f"{path}, split {theirs!r} has no column {missing[0]!r}. Name a data set of the layout of {HUB}.")
        labelled = labelled and isinstance(data.features["cop"], datasets.ClassLabel)
        try:
            table = data.select_columns(list(ROW_SCHEMA)).to_polars().select(pl.col(n).cast(t) for n, t in ROW_SCHEMA.items())
        except pl.exceptions.PolarsError as error:
            raise UserError(f"{path}, split {theirs!r}: a column is not of MedMCQA's type. {error}") from error
        tables.append(_number(table, split))
    return pl.concat(tables), labelled


def _number(table: pl.DataFrame, split: str) -> pl.DataFrame:
    return table.with_columns(id=pl.format("{}/{}", pl.lit(SPLITS_OF[split]), pl.int_range(pl.len())), split=pl.lit(split))


def find_first(cop: pl.Series, labelled: bool, given: int | None, path: str) -> tuple[int, str]:
    """The number of the first choice in `cop`, and a sentence that says how it was found.

    Raises:
        UserError: it cannot be told, or what is said of it cannot be.
    """
    zero, four = bool((cop == 0).any()), bool((cop == len(OPTIONS)).any())
    if given is not None:
        if given not in (0, 1):
            raise UserError(f"--first {given} is neither 0 nor 1.")
        return given, f"`cop` counts the choices from {given}, as --first says."
    if labelled:
        return 0, "`cop` counts the choices from 0, as a ClassLabel does."
    if zero == four:
        what = "both 0 and 4" if zero else "neither 0 nor 4"
        raise UserError(
            f"{path}: cop holds {what}, so whether it counts the choices from 0 or 1 cannot be told. Say --first 0 or 1."
        )
    first = 0 if zero else 1
    return first, f"`cop` counts the choices from {first}, because it holds a {0 if zero else len(OPTIONS)}."


def choose_demonstrations(table: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Make some train questions the dev questions, of which MedMCQA has none: the paper's if they are there, else a draw.

    The paper does not say how it chose its own.
    """
    names = pl.DataFrame({"id": [f"train/{row}" for row in PAPER_DEV]})
    dev = names.join(table.filter(pl.col("split") == "train"), on="id", maintain_order="left")
    note = "The dev questions are the ten of MedMCQA's train split that the paper demonstrates with."
    if hash_table(dev) != PAPER_DEV_HASH:
        train = table.filter(pl.col("split") == "train")
        chosen = random.Random(SEED).sample(range(train.height), min(DEMONSTRATIONS, train.height))
        dev = train[chosen]
        note = (
            f"The {dev.height} dev questions are drawn from MedMCQA's train split with the seed {SEED}: the rows that the "
            "paper demonstrates with are not in it under their numbers."
        )
    rest = table.join(dev, on="id", how="anti", maintain_order="left")
    columns = [*QUESTION_SCHEMA, "split"]
    return pl.concat([rest.select(columns), dev.with_columns(split=pl.lit("dev")).select(columns)]), note
