"""A cleaned copy of a question set: what `audit` found is dropped from train, and listed with its reason.

Test stays as it is, so that results on it can be compared with those of others; what is wrong with it is only reported. So are
shared stems and passages, near duplicates within train and answers in the question: they are often meant. From dev goes what is
asked in test too, as far as enough questions are left to demonstrate with.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.auditing.audit import NAME
from intervention.publishing.licences import Terms
from intervention.sources.origin import Origin, find_all_terms, join_words
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder
from lm_eval_tasks.contracts.manifest import hash_inputs, read_manifest
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_unique
from lm_eval_tasks.contracts.vocabulary import KEY

DROPPED = "dropped.jsonl"
DROPPED_SCHEMA = pl.Schema(
    {
        **dict.fromkeys((*KEY, "split", "set", "question"), pl.String),
        "dropped": pl.String,  # `question`, or `explanation` of a question that stays
        "why": pl.String,
        "like": pl.String,  # the question that it repeats: source/domain/id
    }
)
HELD_OUT = "asked in test or dev too"
NEARLY_HELD_OUT = "nearly asked in test or dev, with the same answer"
DIFFERENT = "asked more than once, with different answers"
DUPLICATE = "asked more than once"
REPEATED = "a choice is repeated"
CONTRADICTS = "the explanation states another choice than gold"
SHOWN = "a dev question that is asked in test too"
SHOTS = 5  # demonstrations that a task shows: as many dev questions of a source and domain stay


def clean_questions(marked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop from train what is wrong with it, and from dev what is asked in test too (`find_shown`).

    A train question goes where it is asked (the same text and choices) in test or dev too, or nearly so (nearly the same text,
    or the same and other choices) and with the same answer; where it is asked more than once: all of them if their answers
    differ, else all but the first that stays; where two of its choices are the same. One that does no more than share its stem
    or its passage with others stays. An explanation that states another choice than gold goes, and its question stays.

    Args:
        marked: what `audit_questions` gives.

    Returns:
        The questions that stay (question columns, `split`, `set`), and what was dropped (`DROPPED_SCHEMA`).
    """
    same = ["domain", "whole"]
    train = marked.filter("is_train")
    held_out = pl.col("in_test") | pl.col("in_dev")
    rules = ((held_out, HELD_OUT), (pl.col("nearly_held_out"), NEARLY_HELD_OUT), (pl.col("different"), DIFFERENT))
    why = pl.coalesce(pl.when(rule).then(pl.lit(name)) for rule, name in (*rules, (pl.col("repeated"), REPEATED)))
    train = train.with_columns(why=why)
    stays = train.filter(pl.col("why").is_null())
    again = stays.select(*KEY, "set", again=pl.int_range(pl.len()).over(same) > 0, kept=NAME.first().over(same))
    train = train.join(again, on=[*KEY, "set"], how="left", maintain_order="left").with_columns(
        why=pl.when("again").then(pl.lit(DUPLICATE)).otherwise("why")
    )
    held = marked.filter(~pl.col("is_train")).sort(pl.col("split") == "dev", maintain_order=True)  # dev may leave
    train = train.join(held.group_by(same).agg(asked=NAME.first()), on=same, how="left", maintain_order="left").with_columns(
        like=pl.when(why=HELD_OUT).then("asked").when(why=NEARLY_HELD_OUT).then("like").when(why=DUPLICATE).then("kept")
    )
    shown = find_shown(marked).filter("leaves").with_columns(dropped=pl.lit("question"), why=pl.lit(SHOWN))
    gone = train.filter(pl.col("why").is_not_null()).with_columns(dropped=pl.lit("question"))
    unexplained = train.filter(pl.col("why").is_null(), "contradicts").with_columns(
        dropped=pl.lit("explanation"), why=pl.lit(CONTRADICTS)
    )
    dropped = pl.concat(
        part.select(pl.col(name).cast(kind) for name, kind in DROPPED_SCHEMA.items()) for part in (gone, shown, unexplained)
    )
    key = [*KEY, "set", "split"]
    left = marked.join(dropped.filter(dropped="question"), on=key, how="anti", maintain_order="left")
    wrong = pl.col("is_train") & pl.col("contradicts")
    left = left.with_columns(explanation=pl.when(~wrong).then("explanation"))
    return left.select(*QUESTION_SCHEMA, "split", "set"), dropped


def find_shown(marked: pl.DataFrame) -> pl.DataFrame:
    """The dev questions that are test questions too (the same text and choices), in their order.

    Args:
        marked: what `audit_questions` gives.

    Returns:
        Them, with `leaves` (whether one can leave dev: `SHOTS` others of its source and domain stay) and `like` (the test
        question).
    """
    group, same = ["source", "domain"], ["domain", "whole"]
    spare = pl.len().over(group).cast(pl.Int64) - SHOTS
    dev = marked.filter(split="dev").with_columns(leaves=pl.col("dev_in_test").cum_sum().over(group) <= spare)
    asked = marked.filter(split="test").group_by(same).agg(like=NAME.first())
    return dev.filter("dev_in_test").drop("like").join(asked, on=same, how="left", maintain_order="left")


def describe_shown(marked: pl.DataFrame) -> list[str]:
    """What is said of the dev questions that are asked in test too: which leave dev, and which stay."""
    shown = find_shown(marked).select("leaves", name=NAME)
    told = {True: "left dev", False: f"stay, because fewer than {SHOTS} dev questions of their domain would be left"}
    parts = ((what, shown.filter(leaves=leaves)["name"]) for leaves, what in told.items())
    return [
        f"{len(names)} dev question(s) asked in test too {what}: {join_words(names)}." for what, names in parts if len(names)
    ]


def write_clean(
    marked: pl.DataFrame,
    folders: Sequence[str | Path],
    output: str | Path,
    similarity: float,
    seed: int,
    command: Sequence[str] = (),
) -> pl.DataFrame:
    """Write a cleaned copy of question sets as one question set, with the list of what was dropped (dropped.jsonl).

    Args:
        marked: what `audit_questions` gives.
        folders: the question sets that it was given.
        output: the folder to write.
        similarity: that of the audit, for the manifest.
        seed: likewise.
        command: the command line, for the manifest.

    Returns:
        What was dropped (`DROPPED_SCHEMA`).

    Raises:
        UserError: nothing is left, one question is in two of the sets, or the folder cannot be written.
    """
    questions, dropped = clean_questions(marked)
    if not questions.height:
        raise UserError(f"{', '.join(map(str, folders))}: no question is left once what is wrong is dropped. See `audit`.")
    check_unique(questions, ", ".join(map(str, folders)))
    counts = dict(dropped.group_by("dropped", "why").len().sort("dropped", "why").select(
        pl.col("dropped") + ": " + pl.col("why"), pl.col("len").cast(pl.Int64)).iter_rows())  # fmt: skip
    notes = [f"A cleaned copy: {DROPPED} lists what was dropped from train and dev and why. Test is as it was."]
    notes += describe_shown(marked)
    origin = Origin(
        find_terms_of(folders, questions), notes, counts, config={"similarity": similarity}, seeds={"sketches": seed}
    )
    with write_folder(output) as folder:
        write_questions(questions, folder, list(command), hash_inputs(questions=folders), origin)
        (folder / DROPPED).write_text(dropped.write_ndjson(), encoding="utf-8")
    return dropped


def find_terms_of(folders: Sequence[str | Path], questions: pl.DataFrame) -> list[Terms]:
    """The terms that the manifests of question sets name; those that are known of a source where no manifest names them."""
    named = [part for folder in folders for part in (read_manifest(folder) or {"config": {}})["config"].get("terms", ())]
    terms = list(dict.fromkeys(Terms(**part) for part in named))
    rest = questions.filter(~pl.col("source").is_in([part.source for part in terms]))
    return terms + (find_all_terms(rest) if rest.height else [])
