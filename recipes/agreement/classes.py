"""Whether the verdict on a free text and the belief that is told by choices say the same of a row.

python -m recipes.agreement.classes --agreement AGREEMENT --truth ROWS --probes LOGS --output classes

A row's question was also asked as a multiple-choice one. Its class by choices is what the paper's belief says of the answer
that the response gives: the prediction, with a confidence above the threshold, is this answer (agrees), another one (clashes),
or there is none (no_belief).
"""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from lm_eval_tasks.contracts.answers import normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.manifest import hash_inputs
from lm_eval_tasks.contracts.markdown import format_table
from lm_eval_tasks.contracts.vocabulary import THRESHOLD
from recipes.agreement.detection import read_judged
from recipes.agreement.rows import TRUTH
from recipes.agreement.tables import write_tables
from recipes.commands import run_command

CLASSES = ("agrees", "clashes", "no_belief")  # a verdict of style says that the model agrees, too


def join_classes(judged: pl.DataFrame, truth: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """The rows whose answer was offered as a choice: `row, verdict, by_text` (null where undecided), `by_choices`.

    Of an answer that is no choice, the choices cannot tell that the model believes it.

    Args:
        judged: the row table.
        truth: `row`, the `id` of the question, and the `answer` that the response gives.
        probes: of the same questions with choices.

    Raises:
        UserError: none was.
    """
    asked = truth.select("row", "id", "answer").join(
        probes.select("id", "choices", "prediction", "confidence"), on="id", how="inner", maintain_order="left"
    )
    said, offered = [], []
    for answer, choices, prediction, confidence in asked.select("answer", "choices", "prediction", "confidence").iter_rows():
        own, plain = normalise_answer(answer), [normalise_answer(choice) for choice in choices]
        offered.append(own in plain)
        same = plain[prediction] == own
        said.append("no_belief" if confidence <= THRESHOLD else "agrees" if same else "clashes")
    if not any(offered):
        raise UserError("no row's answer was a choice of its question. Probe the questions that the rows are of, with choices.")
    by_text = pl.col("verdict").replace({"style": "agrees"})
    found = (
        asked.select("row")
        .with_columns(by_choices=pl.Series(said, dtype=pl.String))
        .join(judged.select("row", "verdict"), on="row", how="left", maintain_order="left")
    )
    return found.filter(pl.Series(offered)).with_columns(by_text=pl.when(by_text.is_in(CLASSES)).then(by_text))


def count_classes(joined: pl.DataFrame) -> pl.DataFrame:
    """How many rows have each pair of classes: a row a class by choices, a column a class by text and `undecided`."""
    named = joined.with_columns(pl.col("by_text").fill_null("undecided"))
    rows = [
        {"by choices": own} | {name: named.filter(by_choices=own, by_text=name).height for name in (*CLASSES, "undecided")}
        for own in CLASSES
    ]
    return pl.DataFrame(rows)


def main(
    agreement: Annotated[Path, typer.Option(help="What `python -m intervention agree` wrote.")],
    truth: Annotated[Path, typer.Option(help="What `python -m recipes.agreement.rows` wrote.")],
    probes: Annotated[Path, typer.Option(help="Logs of the same questions with choices.")],
    output: Annotated[Path, typer.Option(help="The folder for the tables.")],
    score: Annotated[str, typer.Option(help="Which log-likelihoods of texts the probabilities are made of.")] = "sum",
) -> None:
    """Write and print in what share of rows the verdict and the belief by choices are one class.

    \b
    Example:
      python -m recipes.agreement.classes --agreement agreement --truth rows --probes probe --output classes
    """
    joined = join_classes(read_judged(agreement, truth), pl.read_parquet(truth / TRUTH), read_probes(probes, score=score))
    decided = joined.drop_nulls("by_text")
    same = int((decided["by_text"] == decided["by_choices"]).sum())
    low, high = compute_wilson(same / max(decided.height, 1), decided.height)
    text = (
        f"{format_table(count_classes(joined))}\n\nOne class in {same} of {decided.height} rows with a verdict whose answer is "
        f"a choice: {same / max(decided.height, 1):.3f} [{float(low):.3f}, {float(high):.3f}] (95%: Wilson)."
    )
    inputs = hash_inputs(agreement=agreement / "rows.parquet", truth=truth, probes=probes)
    write_tables(output, "classes", {"classes": joined}, text, {"rows": joined.height, "same": same}, inputs)


if __name__ == "__main__":
    run_command(main)
