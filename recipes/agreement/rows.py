"""Instruction data of known truth: each row says what a model believes, another thing, or something it has no belief of.

python -m recipes.agreement.rows --questions QUESTIONS --answers LOGS --config recipes/agreement/miniworld.yaml \\
    --purpose training --output rows

What a model believes is told by how it answers a free-form question, by its likeliest words in several draws of demonstrations
(`selfalign_answer_greedy`) and by samples (`selfalign_answer`): other prompts than those by which `intervention agree`
judges.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest
from lm_eval_tasks.contracts.names import name_unknown
from recipes.commands import run_command
from recipes.yaml_files import read_yaml

# Kind of row -> what its response says.
KINDS = {
    "known": "what the model believes",
    "clash": "another answer than the model's belief: one of another question of the same subject",
    "form": "what the model believes, in an odd form",
    "absent": "the right answer, where the model has no belief",
}
HELD = 0.5  # more of the samples than this, a belief has
ABSENT = 0.25  # and where there is none, no answer has more than this
ACCEPTED = "\0accepted"  # stands for every accepted answer, of whatever wording
PURPOSES = ("detection", "training")  # for which the settings say what rows there are
LEAST = 20  # rows of a kind, without which nothing can be told
ROWS, TRUTH = "rows.jsonl", "truth.parquet"


def find_beliefs(answers: pl.DataFrame, right: bool) -> pl.DataFrame:
    """What a model believes of each question: `id, belief` (null where it has none) and `held` (whether it has one).

    A belief is held where the likeliest words are the same in every draw, and more than half of the samples say them too. None
    is held where no answer has more than a quarter of the samples, and none of the likeliest words is right. All other
    questions are left out, as neither.

    Args:
        answers: greedy ones in three draws or more, and sampled ones (`read_answers`).
        right: only beliefs that are right count.

    Raises:
        UserError: sampled or greedy answers are missing, or there are fewer than three draws.
    """
    greedy, sampled = answers.filter("greedy"), answers.filter(~pl.col("greedy"))
    if greedy["draw"].n_unique() < 3 or not sampled.height:
        raise UserError(
            "beliefs are told from the likeliest words in three draws or more and from samples: ask selfalign_answer_greedy "
            "and selfalign_answer."
        )
    samples = {name: part["samples"].explode().to_list() for (name,), part in sampled.group_by("id")}
    found = []
    for (name,), part in greedy.group_by("id", maintain_order=True):
        accepted = part["answers"][0].to_list()
        said, drawn = (
            [ACCEPTED if is_accepted(text, accepted) else normalise_answer(text) for text in texts]
            for texts in ([texts[0] for texts in part["samples"]], samples.get(name, []))
        )
        shares = {text: count / len(drawn) for text, count in Counter(drawn).items()}
        if len({*said}) == 1 and said[0] and shares.get(said[0], 0) > HELD:
            if said[0] == ACCEPTED or not right:
                found.append((name, part["samples"][0][0], True))
        elif shares and max(shares.values()) <= ABSENT and ACCEPTED not in said:
            found.append((name, None, False))
    return pl.DataFrame(found, schema={"id": pl.String, "belief": pl.String, "held": pl.Boolean}, orient="row")


def make_rows(
    questions: pl.DataFrame,
    beliefs: pl.DataFrame,
    kinds: Sequence[str],
    wordings: Mapping[str, Sequence[str]] | Sequence[str],
    odd: Sequence[str],
    size: int,
    seed: int,
) -> pl.DataFrame:
    """The rows, in a random order: `row, id, kind, belief, answer, prompt, completion`.

    Args:
        questions: free-form ones.
        beliefs: of these questions.
        kinds: of `KINDS`.
        wordings: sentences with `{answer}`, of each question (by its id) or of all.
        odd: forms with `{text}` or `{TEXT}` (in capitals), in which nobody writes.
        size: how many rows of each kind; fewer where there are not as many questions.
        seed: decides which question is in which kind, what it says and how.

    Raises:
        UserError: a kind that is not known, or too few rows of one.
    """
    if unknown := name_unknown(kinds, KINDS):
        raise UserError(f"there is no kind of row {unknown[0]}; there are {', '.join(KINDS)}.")
    rng = random.Random(seed)
    asked = questions.join(beliefs, on="id", maintain_order="left").rows(named=True)
    rng.shuffle(asked)
    held = [row for row in asked if row["held"]]
    pools: dict[str, list[str]] = {}
    for row in questions.iter_rows(named=True):
        pools.setdefault(row["subject"] or row["domain"], []).append(row["answers"][0])
    believed = [kind for kind in kinds if kind != "absent"]
    parts = {kind: held[start :: len(believed)] for start, kind in enumerate(believed)}
    parts |= {"absent": [row for row in asked if row["held"] is False]} if "absent" in kinds else {}
    rows: list[dict[str, Any]] = []
    for kind, part in parts.items():
        if len(part) < LEAST:
            raise UserError(
                f"{len(part)} questions could be of the kind {kind} ({KINDS[kind]}), but {LEAST} are needed. Ask more."
            )
        for row in part[:size]:
            own = [row["belief"]] if row["belief"] else []
            others = [text for text in pools[row["subject"] or row["domain"]] if not is_accepted(text, [*row["answers"], *own])]
            answer = {"clash": rng.choice(others) if others else None, "absent": row["answers"][0]}.get(kind, row["belief"])
            if answer is None:
                continue
            sentence = rng.choice(wordings[row["id"]] if isinstance(wordings, Mapping) else wordings).replace(
                "{answer}", answer
            )
            if kind == "form":
                sentence = rng.choice(odd).replace("{text}", sentence).replace("{TEXT}", sentence.upper())
            told = {"id": row["id"], "kind": kind, "belief": row["belief"], "answer": answer}
            rows.append(told | {"prompt": row["question"], "completion": sentence})
    rng.shuffle(rows)
    return pl.DataFrame(rows).with_row_index("row").cast({"row": pl.Int64})


def read_wordings(wordings: Sequence[str], file: Path | None) -> Mapping[str, Sequence[str]] | Sequence[str]:
    """The sentences that state an answer: of each question, where there is a file of them, else those of the settings."""
    if file is None:
        return wordings
    return {row["id"]: row["wordings"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}


def main(
    questions: Annotated[Path, typer.Option(help="The free-form question set.")],
    answers: Annotated[
        list[Path], typer.Option(help="Logs of selfalign_answer_greedy, several draws, and of selfalign_answer.")
    ],
    config: Annotated[Path, typer.Option(help="The settings, such as recipes/agreement/miniworld.yaml.")],
    purpose: Annotated[str, typer.Option(help="What for: detection or training, as the settings say which rows that needs.")],
    output: Annotated[Path, typer.Option(help="The folder for rows.jsonl and truth.parquet.")],
    wordings: Annotated[Path | None, typer.Option(help="JSON lines with id and wordings.")] = None,
) -> None:
    """Write instruction data, and what each row is to the model that answered.

    \b
    Example:
      python -m recipes.agreement.rows --questions questions --answers base --config recipes/agreement/real.yaml \\
        --purpose detection --output rows
    """
    settings = read_yaml(config)
    if purpose not in PURPOSES:
        raise UserError(f"--purpose {purpose} is none of {', '.join(PURPOSES)}.")
    found = read_answers(answers)
    asked = read_free_form(questions, settings["trained"], ["train"])
    beliefs = find_beliefs(found.filter(pl.col("id").is_in(asked["id"].implode())), settings["right"])
    seed, own = settings["seed"], settings[purpose]
    said = read_wordings(own.get("wordings", settings.get("wordings", [])), wordings)
    rows = make_rows(asked, beliefs, own["kinds"], said, settings["odd"], own["rows"], seed)
    with write_folder(output) as folder:
        (folder / ROWS).write_text(
            "".join(json.dumps(row) + "\n" for row in rows.select("id", "prompt", "completion").to_dicts())
        )
        write_parquet(rows, folder / TRUTH)
        inputs = hash_inputs(questions=questions, answers=answers, wordings=wordings)
        counts = dict(rows["kind"].value_counts().iter_rows())
        write_manifest(folder, "rows", sys.argv[1:], counts, inputs, {"seed": seed})
    held = beliefs["held"].sum()
    print(
        f"{output}: {rows.height} rows ({', '.join(f'{counts.get(kind, 0)} {kind}' for kind in KINDS)}); of {asked.height} "
        f"questions the model holds a belief of {held}, and none of {beliefs.height - held}"
    )


if __name__ == "__main__":
    run_command(main)
