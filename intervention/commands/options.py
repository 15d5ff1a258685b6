"""The options that several commands share, and the command line as a manifest keeps it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_tasks.contracts.vocabulary import ANSWERED, DEFAULT_SCORE, RULES, SCORES

if TYPE_CHECKING:
    from lm_eval_tasks.contracts.rules import Rule

Questions = Annotated[Path, typer.Option(help="The question set (a folder).")]
Probes = Annotated[list[Path], typer.Option(help="The base model's sample log, probe table, or a folder of them; repeatable.")]
Beliefs = Annotated[Path | None, typer.Option(help="In place of probes: the table that `beliefs` wrote.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="A prediction is a belief where its confidence is greater [default: 0.5, or that of --beliefs]."),
]
BeliefRule = Annotated[
    str | None,
    typer.Option(
        "--belief-rule",
        help=f"Which predictions are beliefs: {', '.join(name for name in RULES if ANSWERED not in name)}, or with a level, as "
        "agreement:0.9 [default: threshold:0.5].",
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        help="What probabilities are made of where the texts of choices are scored: "
        + "; ".join(f"{name}: {sentence}" for name, (_, sentence) in SCORES.items())
        + f" [default: {DEFAULT_SCORE['cloze']}, or that of --beliefs].",
    ),
]
Answers = Annotated[
    Path | None,
    typer.Option(
        help="The table that `answers` wrote: a belief is then what more than half of the sampled answers say, too, and "
        "--score is sum where it is not named."
    ),
]
Folder = Annotated[Path, typer.Option(help="The folder to write.")]
# Of instruction data.
Form = Annotated[
    str | None, typer.Option(help="messages, prompt_completion, alpaca or sharegpt [default: found out by the columns].")
]
Column = Annotated[list[str], typer.Option(metavar="NAME=COLUMN", help="The data's column for one of a form's; repeatable.")]
Split = Annotated[str | None, typer.Option(help="The split of a data set [default: train].")]
Config = Annotated[str | None, typer.Option(help="The config of a data set, where it has several.")]
Domain = Annotated[str, typer.Option(help="The domain whose train questions are used.")]


def parse_rule(text: str | None) -> "Rule | None":
    """The rule that `--belief-rule` names."""
    from lm_eval_tasks.contracts.rules import read_rule

    return None if text is None else read_rule(text)


def list_words() -> list[str]:
    """The command line as a manifest keeps it."""
    return ["-m", "intervention", *sys.argv[1:]]
