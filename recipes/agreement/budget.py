"""Data sets of equally many response tokens, so that what is trained on them differs in what it says and not in how long it is.

python -m recipes.agreement.budget DATA --of WHOLE --epochs 2 --tokenizer MODEL --seed 1 --output seed-1.jsonl
"""

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.commands import run_command
from recipes.training.arguments import RecipeArguments
from recipes.training.conversations import WEIGHT
from recipes.training.masks import IGNORED, MASKED
from recipes.training.rows import read_rows
from recipes.training.tokens import load_tokenizer, prepare_rows

if TYPE_CHECKING:
    from datasets import Dataset

LONGEST = 2048  # tokens of a row


def count_tokens(rows: "Dataset", tokenizer: Any) -> list[int]:
    """How many tokens of each row carry a loss."""
    return [sum(label != IGNORED for label in labels) for labels in prepare_rows(tokenizer, rows, LONGEST)["labels"]]


def fill_budget(counts: list[int], tokens: int, rng: random.Random) -> list[tuple[int, int]]:
    """Rows, and the how-manieth time each comes, so that their tokens are as near to `tokens` as whole rows allow.

    All rows come before one comes again; those without a token never do.

    Args:
        counts: tokens of each row.
        tokens: how many all together.
        rng: decides the order.

    Raises:
        UserError: no row has a token.

    >>> fill_budget([2, 0, 2], 9, random.Random(0))
    [(0, 0), (2, 0), (0, 1), (2, 1), (2, 2)]
    """
    if not any(counts):
        raise UserError("no row has a token that carries a loss.")
    chosen: list[tuple[int, int]] = []
    left, times = tokens, 0
    while True:
        order = [row for row, count in enumerate(counts) if count]
        rng.shuffle(order)
        for row in order:
            if counts[row] > 2 * left:
                return chosen
            chosen.append((row, times))
            left -= counts[row]
        times += 1


def main(
    data: Annotated[Path, typer.Argument(help="The data set, as `agree --action` writes it.")],
    of: Annotated[Path, typer.Option(help="The data set whose tokens, --epochs times, are the budget.")],
    epochs: Annotated[int, typer.Option(min=1, help="How often the whole data set would be trained.")],
    tokenizer: Annotated[str, typer.Option(help="The tokenizer: a model's folder, or a name on the Hub.")],
    seed: Annotated[int, typer.Option(help="Decides the order of the rows, and which are left out.")],
    output: Annotated[Path, typer.Option(help="The file to write (JSON lines).")],
    as_many_as: Annotated[Path | None, typer.Option(help="Take only as many rows as this data set has, by chance.")] = None,
) -> None:
    """Write a data set again and again, until it has as many response tokens as another has in some epochs.

    \b
    Example:
      python -m recipes.agreement.budget agreement/drop/data --of agreement/keep/data --epochs 2 --tokenizer MODEL --seed 1 \\
        --output seed-1.jsonl
    """
    loaded = load_tokenizer(tokenizer)
    loaded.chat_template = CHAT_TEMPLATE.read_text()
    rows, whole = (read_rows(RecipeArguments(dataset_name=str(folder))) for folder in (data, of))
    rng = random.Random(f"{seed} budget")
    if as_many_as:
        kept = len(read_rows(RecipeArguments(dataset_name=str(as_many_as))))
        rows = rows.select(sorted(rng.sample(range(len(rows)), kept)))
    counts, budget = count_tokens(rows, loaded), epochs * sum(count_tokens(whole, loaded))
    if WEIGHT in rows.column_names:
        counts = [count if weight else 0 for count, weight in zip(counts, rows[WEIGHT], strict=True)]
    chosen = fill_budget(counts, budget, rng)
    names = [name for name in ("prompt", "completion", WEIGHT, MASKED) if name in rows.column_names]
    lines = []
    for row, times in chosen:
        values = rows[row]
        lines.append(json.dumps({"id": f"{values['id']}#{times}"} | {name: values[name] for name in names}) + "\n")
    with write_file(output) as file:
        file.write_text("".join(lines), encoding="utf-8")
    used, distinct = sum(counts[row] for row, _ in chosen), len({row for row, _ in chosen})
    print(f"{output}: {len(chosen)} rows ({distinct} different ones) of {used} response tokens, of a budget of {budget}")


if __name__ == "__main__":
    run_command(main)
