"""What the command `read` does: the data, the model, the readings, and what is said of them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.utils import setup_logging, simple_parse_args_string

import lm_eval_tasks.models.prefix  # noqa: F401 (registers `hf-prefix`)
from lm_eval_tasks.contracts.conversations.reading import describe_flaws, read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.readings import PROMPTS
from lm_eval_tasks.contracts.names import name_unknown
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.reading.read import load_model, read_responses

OWN_TEMPLATE = "tokenizer"  # what --chat_template says for the tokenizer's own


def read_data(
    source: str,
    output: Path,
    model: str,
    model_args: str,
    settings: Mapping[str, Any],
    chat_template: str | None = None,
    prompts: Sequence[str] = (),
    form: Mapping[str, Any] | None = None,
) -> None:
    """Read the responses of instruction data, and say what was read.

    Args:
        source: the data (see `read_conversations`).
        output: the folder of the readings.
        model: `hf-prefix`.
        model_args: lm-eval's.
        settings: lm-eval's `batch_size` and `device`.
        chat_template: a Jinja file, or `OWN_TEMPLATE`; that of training where None.
        prompts: of `PROMPTS`; all where none is named.
        form: `form`, `split`, `columns` and `config` of `read_conversations`.

    Raises:
        UserError: a word that is not known, data that cannot be read, a model that is not there, readings of something else.
    """
    if unknown := name_unknown(prompts, PROMPTS):
        raise UserError(f"there is no --prompt {unknown[0]}; there are {', '.join(PROMPTS)}.")
    setup_logging()
    data = read_conversations(source, **(form or {}))
    print("".join(f"{line}\n" for line in describe_flaws(data)), end="", file=sys.stderr)
    if not data.turns.height:
        raise UserError(f"{source} has no response that can be read: its {data.rows.height} rows have the flaws named above.")
    arguments = simple_parse_args_string(model_args)
    if chat_template != OWN_TEMPLATE:
        arguments["chat_template"] = chat_template or str(CHAT_TEMPLATE)
    prompts = [prompt for prompt in PROMPTS if prompt in (prompts or PROMPTS)]
    reader = load_model(model, arguments, settings)
    found = read_responses(reader, data, output, prompts)
    if found is None:
        return
    tell = [f"{found.turns} responses of {data.rows.height} rows, {found.tokens} tokens under {len(prompts)} prompts"]
    tell += [f"{found.in_parts} exceed the model's {reader.max_length} tokens and were read in parts"] if found.in_parts else []
    print(f"{output}: {'; '.join(tell)}", file=sys.stderr)
