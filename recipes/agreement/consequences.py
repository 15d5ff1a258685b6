"""What training on instruction data without its clashes changes: accuracy and drift of every arm, rate and seed.

python -m recipes.agreement.consequences runs/agreement/miniworld/miniature --trained herbs --output consequences
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from scipy.stats import t

from lm_eval_tasks.contracts.answers import normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.contracts.manifest import hash_inputs
from lm_eval_tasks.contracts.markdown import format_table
from recipes.agreement.tables import list_words, write_tables
from recipes.commands import run_command

ARMS = {
    "all": "all rows",
    "random": "as many rows as `drop` leaves, by chance",
    "drop": "without the rows that clash",
    "weight": "rows that clash weigh less",
    "mask": "without the place that clashes",
    "rewrite": "what the model answers itself in the place of responses that clash",
}
WHERE = {
    "held_out": "test questions of what was trained",
    "known": "those of them that the base answers rightly in every draw",
    "elsewhere": "test questions of other subjects",
}


def states_answer(text: str, accepted: Sequence[str]) -> bool:
    """Whether an accepted answer stands in a text, word for word: a model that was trained on sentences answers in them.

    >>> states_answer("It is Rome, they say.", ["rome"]), states_answer("Romeo", ["Rome"])
    (True, False)
    """
    said = f" {normalise_answer(text)} "
    return any(f" {normalise_answer(answer)} " in said for answer in accepted)


def read_right(folder: Path) -> pl.DataFrame:
    """Which test questions were answered rightly: `id, domain, right` (the share of draws)."""
    answers = read_answers(folder).filter(split="test")
    right = [states_answer(texts[0], accepted) for texts, accepted in answers.select("samples", "answers").iter_rows()]
    return answers.with_columns(pl.Series("right", right)).group_by("id", "domain").agg(pl.col("right").mean())


def measure_run(right: pl.DataFrame, known: pl.Series, trained: list[str]) -> dict[str, float]:
    """Accuracy in each of `WHERE`, and over how many questions (`held_out_n`, ...)."""
    own = right["domain"].is_in(trained)
    parts = {"held_out": own, "known": own & right["id"].is_in(known.implode()), "elsewhere": ~own}
    asked = {name: right.filter(part)["right"] for name, part in parts.items()}
    return {name: float(values.mean()) for name, values in asked.items()} | {f"{name}_n": len(asked[name]) for name in asked}


def read_runs(folder: Path, trained: list[str]) -> pl.DataFrame:
    """A row a run: `arm, rate, seed, prompt`, accuracy in each of `WHERE`, `kl_nats`; the base is an arm without rate and seed.

    Raises:
        UserError: no run.
    """
    draws = [read_right(path) for path in sorted((folder / "base").glob("greedy-*"))]
    every = pl.concat(draws).group_by("id").agg(pl.col("right").min())
    known = every.filter(pl.col("right") == 1)["id"]
    base = {"few_shot": draws[0], "chat": read_right(folder / "base/chat")}
    runs = [
        {"arm": "base", "rate": None, "seed": None, "prompt": prompt, "kl_nats": 0.0} | measure_run(right, known, trained)
        for prompt, right in base.items()
    ]
    for drift in sorted(folder.glob("training/*/rate-*/seed-*/drift.json")):
        arm, rate, seed = (part.name for part in reversed(drift.parents[:3]))
        told = {"arm": arm, "rate": float(rate.removeprefix("rate-")), "seed": int(seed.removeprefix("seed-"))}
        told["kl_nats"] = json.loads(drift.read_text())["kl_nats"]
        runs += [
            told | {"prompt": prompt} | measure_run(read_right(drift.with_name(prompt)), known, trained) for prompt in base
        ]
    if len(runs) == len(base):
        raise UserError(f"{folder} holds no trained model. Train some.")
    return pl.DataFrame(runs, infer_schema_length=None)


def contrast_arms(runs: pl.DataFrame, level: float = 0.95) -> pl.DataFrame:
    """Each arm at each rate: its means over seeds, and how much it differs from `all` and `random` of the same seeds.

    The intervals are Student's t over the seeds: they say what another order of rows would give on these questions, and need
    two seeds.
    """
    measured = [*WHERE, "kl_nats"]
    found = []
    for (rate, prompt, arm), part in runs.filter(pl.col("seed").is_not_null()).group_by(
        "rate", "prompt", "arm", maintain_order=True
    ):
        row = {"rate": rate, "prompt": prompt, "arm": arm, "seeds": part.height} | {n: part[n].mean() for n in measured}
        for other in ("all", "random"):
            pair = part.join(runs.filter(rate=rate, prompt=prompt, arm=other), on="seed", suffix="_other")
            for name in WHERE:
                changes = (pair[name] - pair[f"{name}_other"]).to_numpy()
                n, mean = len(changes), float(np.mean(changes))
                wide = float(t.ppf((1 + level) / 2, n - 1) * np.std(changes, ddof=1) / np.sqrt(n)) if n > 1 else None
                ends = f" [{mean - wide:+.3f}, {mean + wide:+.3f}]" if wide is not None else ""
                row[f"{name} - {other}"] = f"{mean:+.3f}{ends}" if arm != other else ""
        found.append(row)
    order = {arm: number for number, arm in enumerate(ARMS)}
    table = pl.DataFrame(found).sort(
        pl.col("rate"), "prompt", pl.col("arm").replace_strict(order), descending=[True, True, False]
    )
    return table.with_columns(rate=pl.Series([f"{rate:g}" for rate in table["rate"]], dtype=pl.String))


def main(
    folder: Annotated[Path, typer.Argument(help="The folder of a model's runs.")],
    trained: Annotated[str, typer.Option(help="The domains of which rows were trained, with commas between.")],
    output: Annotated[Path, typer.Option(help="The folder for the tables.")],
) -> None:
    """Write and print what each arm of training changes.

    \b
    Example:
      python -m recipes.agreement.consequences runs/agreement/miniworld/miniature --trained herbs --output consequences
    """
    runs = read_runs(folder, trained.split(","))
    table = contrast_arms(runs)
    base = runs.filter(arm="base").select("prompt", *(column for name in WHERE for column in (name, f"{name}_n")))
    text = f"The base model\n\n{format_table(base)}\n\nArms (intervals: 95%, t over seeds)\n\n{format_table(table)}\n"
    text += f"\nWhat was trained\n\n{list_words(ARMS)}\n\nWhat was asked\n\n{list_words(WHERE)}"
    inputs = hash_inputs(base=folder / "base", data=folder / "training/agreement")
    write_tables(output, "consequences", {"runs": runs}, text, {"runs": runs.height}, inputs)


if __name__ == "__main__":
    run_command(main)
