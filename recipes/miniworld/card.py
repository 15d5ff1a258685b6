"""The model card of the miniature base model, written from `card.md` and the record that pretraining left in its folder."""

import json
from pathlib import Path
from typing import Any

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file
from lm_eval_tasks.contracts.markdown import escape_text, make_environment

TEMPLATE = Path(__file__).with_name("card.md")
RECORD = "pretraining.json"
WEIGHTS = "model.safetensors"


def write_card(folder: str | Path, figures: list[dict[str, Any]] | None) -> None:
    """Write README.md into a model folder.

    Args:
        folder: a folder of `python -m recipes.miniworld.pretrain`.
        figures: the rows that `recipes.miniworld.check` measured; None where nothing is measured yet.

    Raises:
        UserError: the folder is not one of pretrain's.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no readable {RECORD} ({error}). Name a folder that pretrain wrote.") from error
    template = make_environment(TEMPLATE.parent, escape_text).get_template(TEMPLATE.name)
    size = (folder / WEIGHTS).stat().st_size
    with write_file(folder / "README.md") as file:
        file.write_text(template.render(record=record, figures=figures, size=size))
