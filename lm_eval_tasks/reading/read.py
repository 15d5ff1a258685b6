"""Read every response of instruction data under a model, part by part.

Each part is written as soon as it is read, so that a run that is killed goes on where it was, and several processes share them.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from lm_eval.api.registry import get_model
from tqdm import tqdm

from lm_eval_tasks.contracts.bases import begins_with_bos
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.logs.readings import READING_SCHEMA, TOKEN_SCHEMA, name_part, start_folder
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.responses import hash_model
from lm_eval_tasks.models.tokens import TokenReading
from lm_eval_tasks.reading.texts import Tokenized, cut_parts, make_writers, tokenize_texts
from lm_eval_tasks.running.model import check_model

TURNS_A_PART = 1000


@dataclass(frozen=True)
class Read:
    """How much was read."""

    turns: int
    tokens: int  # of responses, under all prompts
    in_parts: int  # turns that exceed the model's window under some prompt


def load_model(name: str, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> PrefixLM:
    """The model that reads.

    Args:
        name: `hf-prefix`; what other backends give of a token is less than is read.
        arguments: lm-eval's `--model_args`.
        settings: `batch_size`, `device`.

    Raises:
        UserError: another backend, or a model that is not there.
    """
    if name != "hf-prefix":
        raise UserError(
            f"--model {name}: responses are read with --model hf-prefix alone, which sees every token's distribution."
        )
    check_model(name, arguments, settings.get("device"))
    return get_model(name).create_from_arg_obj(dict(arguments), dict(settings))


def read_responses(model: PrefixLM, data: Conversations, output: Path, prompts: Sequence[str]) -> Read | None:
    """Read every response of `data`, and write the readings into a folder.

    Args:
        model: it, with the chat template in its tokenizer.
        data: the conversations, with one turn or more.
        output: the folder; what it holds of the same readings stays.
        prompts: of `readings.PROMPTS`.

    Returns:
        How much was read; None in all but the first of several processes.

    Raises:
        UserError: a folder of other readings, a template that does not fit, a model whose values are no numbers.
    """
    turns = data.turns
    parts = -(-turns.height // TURNS_A_PART)
    what = {
        "data": data.hash_turns(),
        "weights": hash_model(model.model, model.max_length, model.softmax_dtype).hex()[:16],
        "prompts": list(prompts),
        "chat_template": model.tokenizer.chat_template if "chat" in prompts else None,
        "beginning_of_sequence": begins_with_bos(model.tokenizer, model.add_bos_token),
    }
    if model.rank == 0:
        start_folder(output, what)
    wait(model)
    bar = tqdm(total=turns.height * len(prompts), desc="Reading", unit="response", disable=None if model.rank == 0 else True)
    for number in range(parts):
        part = turns.slice(number * TURNS_A_PART, TURNS_A_PART)
        if (output / name_part(number)).is_file() or number % model.world_size != model.rank:
            bar.update(part.height * len(prompts))
            continue
        table = read_part(model, part, prompts, what["beginning_of_sequence"], bar)
        with write_file(output / name_part(number)) as file:
            write_parquet(table, file)
    bar.close()
    wait(model)
    if model.rank:
        return None
    found = gather_tokens(output, parts, model)
    config = {
        "model": str(model.pretrained),
        "adapter": model.peft and str(model.peft),
        "parts": parts,
        "turns": turns.height,
        "window": model.max_length,
    }
    write_manifest(output, "read", sys.argv, config | what, {"turns": what["data"]}, {})
    return found


def wait(model: PrefixLM) -> None:
    """Wait for the other processes, where there are any."""
    if accelerator := getattr(model, "accelerator", None):
        accelerator.wait_for_everyone()


def read_part(model: PrefixLM, turns: pl.DataFrame, prompts: Sequence[str], begun: bool, bar: tqdm) -> pl.DataFrame:
    """The readings of some turns under some prompts (`READING_SCHEMA`), prompt after prompt."""

    def render(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return model.tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)

    writers, tables = make_writers(render), []
    for prompt in prompts:
        texts = [writers[prompt](turn) for turn in turns.iter_rows(named=True)]
        tokens = list(tokenize_texts(model.tokenizer, texts, begun, model.prefix_token_id))
        readings = read_texts(model, tokens, bar)
        values = {
            "whole": [len(text.ids) - 1 <= model.max_length for text in tokens],
            "tokens": [text.ids[len(text.ids) - text.scored :] for text in tokens],
            "starts": [text.starts for text in tokens],
            "ends": [text.ends for text in tokens],
        } | {name: [getattr(reading, name).tolist() for reading in readings] for name in TokenReading._fields}
        columns = [pl.Series(name, own, READING_SCHEMA[name]) for name, own in values.items()]
        tables.append(turns.select("row", "turn", "text_hash", prompt=pl.lit(prompt)).with_columns(columns))
    return pl.concat(tables).select(READING_SCHEMA.names())


def read_texts(model: PrefixLM, texts: Sequence[Tokenized], bar: tqdm) -> list[TokenReading]:
    """The readings of texts, in their order; a text that exceeds the model's window is read in parts."""
    parts = [(i, part) for i, text in enumerate(texts) for part in cut_parts(text, model.max_length)]
    ends = {i: number for number, (i, _) in enumerate(parts)}  # the last part of each text
    found: dict[int, TokenReading] = {}

    def keep(readings: dict[int, TokenReading]) -> None:
        for reading in readings.values():
            if not np.isfinite(reading.entropies).all():
                raise UserError(
                    "the model gives values that are no numbers (NaN). Ask it in another type: --model_args ...,dtype=float32."
                )
        found.update(readings)
        bar.update(sum(ends[parts[number][0]] == number for number in readings))

    model.read_tokens(
        {number: part.ids for number, (_, part) in enumerate(parts)},
        {number: part.scored for number, (_, part) in enumerate(parts)},
        keep,
    )
    own: dict[int, list[TokenReading]] = {i: [] for i in range(len(texts))}
    for number, (i, _) in enumerate(parts):
        own[i].append(found[number])
    return [
        readings[0] if len(readings) == 1 else TokenReading(*map(np.concatenate, zip(*readings, strict=True)))
        for readings in own.values()
    ]


def gather_tokens(output: Path, parts: int, model: PrefixLM) -> Read:
    """Write what the ids of all tokens stand for, and count what was read."""
    readings = pl.scan_parquet([output / name_part(number) for number in range(parts)])
    ids = (
        pl.concat([readings.select(pl.col(name).list.explode()).unique().collect().to_series() for name in ("tokens", "tops")])
        .unique()
        .sort()
    )
    table = pl.DataFrame({"token": ids, "text": [model.tokenizer.decode([token]) for token in ids]}, schema=TOKEN_SCHEMA)
    with write_file(output / "tokens.parquet") as file:
        write_parquet(table, file)
    turns = ("row", "turn")
    counted = readings.select(
        pl.struct(turns).n_unique().alias("turns"),
        pl.col("tokens").list.len().sum().alias("tokens"),
        pl.struct(turns).filter(~pl.col("whole")).n_unique().alias("in_parts"),
    )
    return Read(**counted.collect().row(0, named=True))
