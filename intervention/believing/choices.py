"""From answers to choices: a free-form question as a multiple-choice one between what the model itself answers and gold.

Then all that takes multiple-choice questions takes it: the text scorer gives the exact probability of each answer
(selfalign_probe_cloze), and beliefs, conditions, training and evaluation follow as from any other question.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from intervention.believing.answers import GROUP_SCHEMA
from intervention.believing.tables import read_table
from intervention.conditions import number_rows
from intervention.publishing.licences import read_terms
from intervention.sources.origin import Origin, find_all_terms
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.answers import normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.manifest import hash_inputs, read_manifest, write_manifest
from lm_eval_tasks.contracts.public import make_public
from lm_eval_tasks.contracts.questions import MAX_CHOICES, MIN_CHOICES, QUESTION_SCHEMA, hash_questions, name_question
from lm_eval_tasks.contracts.vocabulary import KEY

MOST = MAX_CHOICES - 1  # groups that become choices: gold may have to be added
TABLE, CHOICES = "answers.parquet", "choices"  # what the command writes
# The table that the command writes: of groups, and of what became of them.
ANSWERS_SCHEMA = pl.Schema(
    dict(GROUP_SCHEMA)
    | {
        "left_out": pl.Int64,  # groups beyond `MOST`, which are no choices
        "left_out_share": pl.Float64,  # of the samples
        "choices_hash": pl.String,  # the `question_hash` of the question with choices
    }
)
_MADE = pl.Schema(
    {
        "choices": pl.List(pl.String),
        "answer": pl.Int64,
        "left_out": pl.Int64,
        "left_out_share": pl.Float64,
        "filled": pl.Int64,  # choices that are gold of another question
    }
)


def make_choices(table: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """Free-form questions with choices (`QUESTION_SCHEMA`), then `split, left_out, left_out_share, filled, choices_hash`.

    The choices are the texts of up to `MOST` groups of answers, the largest first (no answer is none of them), and the answer
    to train on, last, where gold's group is not among these. A question with one choice, or that nobody asked, gets gold
    of another question of its domain too, and of its subject where it has one: chosen by a hash, and never one that says the
    same as a choice or an accepted answer. `filled` says how many those are.

    Args:
        table: what `answers.group_answers` gives.
        questions: the question set, as `free_form.read_free_form` gives it.

    Raises:
        UserError: a question has one choice, and no other question of its domain has another answer.
    """
    asked = questions.join(table.select(*KEY, "groups"), on=KEY, how="left", maintain_order="left")
    asked = asked.with_columns(_number=number_rows(asked, 0, "choice"))
    fillers = _Fillers(questions)
    made = pl.DataFrame([_choose(row, fillers) for row in asked.iter_rows(named=True)], _MADE)
    made = questions.drop("question_hash").hstack(made)
    made = made.with_columns(hash_questions(made).alias("choices_hash"))
    return made.select(*QUESTION_SCHEMA, "split", "left_out", "left_out_share", "filled", "choices_hash")


def _choose(row: Mapping[str, Any], fillers: "_Fillers") -> dict[str, Any]:
    """The columns of `_MADE` of one question."""
    groups = [group for group in row["groups"] or () if group["text"]]
    choices = [group["text"] for group in groups[:MOST]]
    answer = next((i for i, group in enumerate(groups[:MOST]) if group["gold"]), len(choices))
    if answer == len(choices):
        choices.append(row["answers"][0])
    others = fillers.find(row, choices) if len(choices) < MIN_CHOICES else []
    left = [group["share"] for group in groups[MOST:] if not group["gold"]]
    return {
        "choices": choices + others,
        "answer": answer,
        "left_out": len(left),
        "left_out_share": math.fsum(left),
        "filled": len(others),
    }


class _Fillers:
    """Gold of all questions, by domain and subject, in the order of a hash."""

    def __init__(self, questions: pl.DataFrame) -> None:
        golds = questions.select(*KEY, "subject", text=pl.col("answers").list.first())
        golds = golds.with_columns(_number=number_rows(golds, 0, "choices")).sort("_number", *KEY)
        self.texts: dict[tuple[str, str | None], list[str]] = {}
        for subject in ("subject", pl.lit(None, pl.String).alias("subject")):
            parts = golds.group_by("domain", subject, maintain_order=True).agg("text")
            self.texts |= {(domain, name): texts for domain, name, texts in parts.iter_rows()}

    def find(self, row: Mapping[str, Any], choices: Sequence[str]) -> list[str]:
        """A text that says neither what a choice nor what an accepted answer of the question says."""
        said = {normalise_answer(text) for text in (*choices, *row["answers"])}
        for subject in dict.fromkeys((row["subject"], None)):
            texts = self.texts[row["domain"], subject]
            for i in range(len(texts)):  # from one on that the question's key decides
                if normalise_answer(text := texts[(row["_number"] + i) % len(texts)]) not in said:
                    return [text]
        raise UserError(
            f"{name_question(row)} has the one choice {choices[0]!r}, and no other question of the domain {row['domain']} has "
            "an answer to put beside it. Add questions to the domain, or leave this one out."
        )


def write_answers(
    table: pl.DataFrame,
    questions: pl.DataFrame,
    folder: str | Path,
    logs: Sequence[str | Path],
    output: str | Path,
    command: Sequence[str] = (),
    entailments: Sequence[str | Path] = (),
    judge: str | None = None,
) -> pl.DataFrame:
    """Write what a model answers (`ANSWERS_SCHEMA`), the questions with its answers as choices, and a manifest.

    Args:
        table: what `answers.group_answers` gives.
        questions: the question set, as `free_form.read_free_form` gives it.
        folder: its folder.
        logs: those that the answers are of.
        output: the folder to write: `answers.parquet` and `choices`, a question set.
        command: the command line, for the manifests.
        entailments: logs of which answers entail which, where groups were joined by them.
        judge: the model that says so.

    Returns:
        The table that is written.

    Raises:
        UserError: as `make_choices`, or the folder cannot be written.
    """
    made = make_choices(table, questions)
    columns = made.select(*KEY, "left_out", "left_out_share", "choices_hash")
    table = table.join(columns, on=KEY, how="left", maintain_order="left").select(list(ANSWERS_SCHEMA))
    known = (read_manifest(folder) or {}).get("config", {})
    terms = read_terms(known) or find_all_terms(questions)
    model, temperature = table.select("model", "temperature").row(0)
    config = {"model": model, "temperature": temperature, "questions": table.height, "samples": int(table["samples"].sum())}
    if judge:
        config["entailment_model"] = judge
    notes = [
        f"Free-form questions: the choices are what {make_public(model)} answered (in its most frequent wording, the most "
        f"frequent answer first) and gold. {made['filled'].sum()} questions that were not asked, or have one choice, have the "
        "answer to another question as a second one. Ask them with selfalign_probe_cloze: the order of the choices "
        "tells how often they were sampled."
    ]
    hashes = hash_inputs(questions=folder, answers=logs, entailments=entailments)
    with write_folder(output) as scratch:
        write_parquet(table, scratch / TABLE)
        origin = Origin(terms, notes, config=config)
        write_questions(made.select(*QUESTION_SCHEMA, "split"), scratch / CHOICES, list(command), hashes, origin)
        write_manifest(scratch, "answers", list(command), config, hashes, {})
    return table


def read_answers_table(file: Path) -> pl.DataFrame:
    """What `write_answers` wrote (`ANSWERS_SCHEMA`), as `--answers` names it.

    Raises:
        UserError: it is no such table.
    """
    again = f"Name the {TABLE} that `python -m intervention answers` wrote."
    return read_table(file, ANSWERS_SCHEMA, "--answers", "a table of answers", again)
