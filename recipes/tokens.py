"""The tokens that a row trains: the one place where training texts become ids and labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lm_eval_tasks.manifest import UserError

if TYPE_CHECKING:
    from datasets import Dataset

TEMPLATE = Path(__file__).parents[1] / "lm_eval_tasks/templates/vicuna.jinja"
IGNORED = -100  # the label of a token without loss


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{name} is no folder of a tokenizer and none on the Hub: {' '.join(str(error).split())}") from error


def prepare_rows(tokenizer: PreTrainedTokenizerBase, rows: "Dataset", max_length: int) -> "Dataset":
    """What is trained of rows: `input_ids`, and `labels`, which are those of the response and its end of sequence.

    Args:
        tokenizer: the base model's, with the chat template of training.
        rows: with `prompt` and `completion`, as conversations.
        max_length: the most tokens of a row.

    Returns:
        The columns `input_ids` and `labels`, in the order of the rows.

    Raises:
        UserError: a row is longer than `max_length`.
    """

    def divide(row: dict[str, Any]) -> dict[str, list[int]]:
        asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)
        return {"input_ids": whole, "labels": [IGNORED] * len(asked) + whole[len(asked) :]}

    prepared = rows.map(divide, remove_columns=rows.column_names, desc="Dividing rows into tokens")
    if long := sum(len(ids) > max_length for ids in prepared["input_ids"]):
        raise UserError(f"{long} of {len(rows)} rows are longer than --max_length {max_length}.")
    return prepared
