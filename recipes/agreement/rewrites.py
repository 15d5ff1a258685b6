"""What a model answers itself, as the texts that `intervention agree --action rewrite` puts in the place of responses.

python -m recipes.agreement.rewrites answers/answers.parquet --output rewrites.jsonl
"""

import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from lm_eval_tasks.contracts.files import write_file
from recipes.commands import run_command


def main(
    answers: Annotated[Path, typer.Argument(help="answers.parquet, which `python -m intervention answers` wrote.")],
    output: Annotated[Path, typer.Option(help="The file to write (JSON lines with row, turn and text).")],
) -> None:
    """Write the largest group of sampled answers to each turn's question as a sentence.

    \b
    Example:
      python -m recipes.agreement.rewrites answers/answers.parquet --output rewrites.jsonl
    """
    lines = []
    for name, groups in pl.read_parquet(answers).select("id", "groups").iter_rows():
        row, turn = map(int, name.split("/"))
        if text := next((group["text"] for group in groups if group["text"].strip()), ""):
            lines.append(json.dumps({"row": row, "turn": turn, "text": f"{text.rstrip('.')}."}, ensure_ascii=False) + "\n")
    with write_file(output) as file:
        file.write_text("".join(lines), encoding="utf-8")
    print(f"{output}: {len(lines)} texts")


if __name__ == "__main__":
    run_command(main)
