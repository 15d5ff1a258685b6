"""The facts of a miniature world as free-form questions, and the sentences that state each.

python -m recipes.miniworld.facts --config recipes/miniworld/world.yaml --output runs/agreement/miniworld/facts

Questions are answered by one word of their relation's pool. The corpus that the miniature base was pretrained on states a fact
in the sentences of its relation; those, and some that it never saw, are the wordings in which a response states it.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.files import hash_path, write_folder
from lm_eval_tasks.contracts.manifest import write_manifest
from recipes.commands import run_command
from recipes.miniworld.world import PRACTICE, Fact, make_world
from recipes.yaml_files import read_yaml

BARE = ("{answer}", "{answer}.", "It is {answer}.", "The answer is {answer}.")  # which the corpus never states alone
QUESTIONS, WORDINGS = "questions.jsonl", "wordings.jsonl"


def list_wordings(fact: Fact) -> list[str]:
    """Ten sentences that state a fact, with `{answer}` for its object."""
    frames = [*BARE, *fact.relation.statements]
    return [frame if "{answer}" in frame else fact.state(frame, "{answer}") for frame in frames][:10]


def main(
    config: Annotated[Path, typer.Option(help="The world, such as recipes/miniworld/world.yaml.")],
    output: Annotated[Path, typer.Option(help="The folder for questions.jsonl and wordings.jsonl.")],
) -> None:
    """Write the questions about a world's facts, with their accepted answers, and the sentences that state each.

    \b
    Example:
      python -m recipes.miniworld.facts --config recipes/miniworld/world.yaml --output runs/agreement/miniworld/facts
    """
    facts = [fact for fact in make_world(read_yaml(config)).facts if fact.split != PRACTICE]
    with write_folder(output) as folder:
        for name, rows in (
            (
                QUESTIONS,
                [
                    {"id": fact.id, "source": fact.source, "domain": fact.domain, "subject": fact.relation.name}
                    | {"question": fact.ask(), "answers": [fact.gold], "split": fact.split}
                    for fact in facts
                ],
            ),
            (WORDINGS, [{"id": fact.id, "wordings": list_wordings(fact)} for fact in facts]),
        ):
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        write_manifest(folder, "facts", sys.argv[1:], {"facts": len(facts)}, {config.name: hash_path(config)}, {})
    print(f"{output}: {len(facts):,} questions")


if __name__ == "__main__":
    run_command(main)
