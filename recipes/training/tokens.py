"""The tokens that a row trains: nowhere else do training texts become ids and labels.

A row is a prompt (a user turn, or several with what was answered, perhaps after a system prompt) and one assistant turn,
written by the chat template of training. The loss is on what follows the
evaluation prompt: the response and its end-of-sequence token. The text begins with the beginning-of-sequence token where the
tokenizer writes one by itself, as evaluation does then: some families (Gemma) are broken models without it. A recipe decides
otherwise with `add_bos_token`, as those of the paper do, and the run's manifest tells evaluation. Nothing is cut: what training
and evaluation would see differently is refused. One thing is mended. Some tokenizers (Qwen's, Llama 3's) write a full stop and
the blank line after it as one token, so that "text.\n\nexplanation" would not train the full stop that is scored of "text.":
where the text of a choice is scored, a token ends where it does. What of a response a row masks carries no loss
(`recipes.training.masks`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from accelerate import PartialState
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lm_eval_tasks.contracts.bases import begins_with_bos
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_ENDING
from recipes.training.masks import IGNORED, MASKED, check_masks, find_offsets, list_spans, mask_labels

if TYPE_CHECKING:
    from datasets import Dataset

# The columns of a row's text, the role of their last turn, and what they are.
TURNS = {
    "prompt": ("user", "user and assistant by turns, the user last"),
    "completion": ("assistant", "one turn of the assistant"),
}
SCORED = ("response_format", "explanation_from")  # the columns that say what of a response is scored
READ = (*TURNS, *SCORED, MASKED)  # all columns that decide what is trained of a row
HIDDEN = "masked_tokens"  # how many of a row's tokens after the prompt carry no loss
# What can be wrong with a row's tokens, in the order in which it is told.
FLAWS = {
    "begin": "train the beginning-of-sequence token {bos!r} twice. Let the chat template write it once, or not at all",
    "prompt": "train a text that does not begin with the tokens of the evaluation prompt: where the prompt has {asked!r}, the "
    "text has {trained!r}. Let the chat template write the prompt as it begins the text, and a token end with it, as "
    "lm_eval_tasks/templates/vicuna.jinja does",
    "end": "train a text that ends in {last!r} and not in the end-of-sequence token {eos!r}, so the model would not learn to "
    "stop. End the assistant's turn in the chat template with {{{{ eos_token }}}}",
}


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{name} is no folder of a tokenizer and none on the Hub: {' '.join(str(error).split())}") from error


def begins(tokenizer: PreTrainedTokenizerBase, add_bos_token: bool | None = None) -> bool:
    """Whether texts begin with the beginning-of-sequence token.

    Args:
        tokenizer: the base model's.
        add_bos_token: what is asked for; where nothing is, the tokenizer's own habit.

    Raises:
        UserError: the token is asked for, and the tokenizer has none.
    """
    if add_bos_token and tokenizer.bos_token_id is None:
        raise UserError(f"--add_bos_token true: the tokenizer {tokenizer.name_or_path} has no such token. Leave it out.")
    return begins_with_bos(tokenizer, add_bos_token)


def find_answer(row: Mapping[str, Any]) -> str:
    """What a row's response says before its explanation; all of it where it has none.

    >>> find_answer({"completion": [{"role": "assistant", "content": "salt\\n\\nIt is white."}], "explanation_from": "gold"})
    'salt'
    """
    said = row["completion"][-1]["content"]
    return said.partition("\n\n")[0] if row.get("explanation_from") else said


def prepare_rows(
    tokenizer: PreTrainedTokenizerBase, rows: "Dataset", max_length: int, add_bos_token: bool | None = None
) -> "Dataset":
    """What is trained of rows: `tokenize_rows`, where none is too long.

    Raises:
        UserError: a row is longer than `max_length` tokens; what `tokenize_rows` refuses.
    """
    prepared = tokenize_rows(tokenizer, rows, add_bos_token)
    lengths = pc.list_value_length(prepared.with_format("arrow")["input_ids"][:]).to_pylist()
    if long := [position for position, length in enumerate(lengths) if length > max_length]:
        long.sort(key=lambda position: -lengths[position])
        raise UserError(
            f"{_name_rows(rows, long)} are longer than --max_length {max_length}; the longest has {lengths[long[0]]} tokens. "
            f"Rows are never cut: set --max_length {lengths[long[0]]} or more, or build the instruction set without them."
        )
    return prepared


def tokenize_rows(tokenizer: PreTrainedTokenizerBase, rows: "Dataset", add_bos_token: bool | None = None) -> "Dataset":
    """What is trained of rows, however long: `input_ids`, and `labels`, which are `IGNORED` for the prompt.

    Args:
        tokenizer: the base model's, with the chat template of training.
        rows: with `prompt`, which ends in a user turn, and `completion`, one assistant turn. Where their columns `SCORED` say
            that the text before an explanation is scored, its tokens are those that are scored. What `masked` says carries no
            loss.
        add_bos_token: as `begins` takes it.

    Returns:
        The columns `input_ids` and `labels`, in the order of the rows, and where these have `masked` the column `HIDDEN`; a row
        of whose response nothing is left has no label at all. They are cached beside the data set, and among processes
        the first of a machine tokenizes for all.

    Raises:
        UserError: a row that has no such turns, or has an empty one; a tokenizer without an end of sequence; a template
            whose prompt does not end as the chat tasks ask, or whose training text does not begin with it, does not end in the
            end of sequence, or doubles the beginning of sequence; a mask that is none of the response.

    >>> from datasets import Dataset
    >>> turns = {"prompt": [{"role": "user", "content": "Which?"}], "completion": [{"role": "assistant", "content": "moss"}]}
    >>> tokenizer = load_tokenizer("recipes/miniworld/base")
    >>> (row,) = tokenize_rows(tokenizer, Dataset.from_list([turns]))
    >>> [tokenizer.decode(token) for token, label in zip(row["input_ids"], row["labels"]) if label != IGNORED]
    [' moss', '</s>']
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} has no end-of-sequence token, so the model would not learn to stop. "
            "Name a base model whose tokenizer has an eos_token."
        )
    _check_turns(rows)
    for row in _list_shapes(rows):
        _check_template(tokenizer, row)
    check_masks(tokenizer, rows)
    begun = begins(tokenizer, add_bos_token)
    columns = [name for name in READ if name in rows.column_names]
    with PartialState().local_main_process_first():
        tokenized = rows.select_columns(columns).map(
            _tokenize, batched=True, fn_kwargs={"tokenizer": tokenizer, "begun": begun}, remove_columns=columns,
            desc="Tokenizing rows",
        )  # fmt: skip
    flaws = tokenized["flaw"][:]
    for flaw, words in FLAWS.items():
        if found := [position for position, value in enumerate(flaws) if value == flaw]:
            told = words.format(**_describe(tokenizer, rows[found[0]], begun))
            raise UserError(f"{_name_rows(rows, found)} would {told}.")
    return tokenized.select_columns(["input_ids", "labels", *([HIDDEN] if MASKED in columns else [])])


def _tokenize(batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, begun: bool) -> dict[str, list[Any]]:
    """The ids and labels of some rows, and which of `FLAWS` each has."""
    asked, trained = _encode(batch, tokenizer, begun)
    labels = [[IGNORED] * len(prompt) + ids[len(prompt) :] for prompt, ids in zip(asked, trained, strict=True)]
    flaws = [_find_flaw(tokenizer, prompt, ids) for prompt, ids in zip(asked, trained, strict=True)]
    hidden = [0] * len(labels)
    for i, values in enumerate(zip(*batch.values(), strict=True)):
        row = dict(zip(batch, values, strict=True))
        if list_spans(row) and not flaws[i]:
            labels[i] = _mask(tokenizer, row, trained[i], labels[i])
            hidden[i] = labels[i][len(asked[i]) :].count(IGNORED)
    return {"input_ids": trained, "labels": labels, "flaw": flaws, HIDDEN: hidden}


def _mask(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], ids: list[int], labels: list[int]) -> list[int]:
    """The labels of a row without those that it masks."""
    length = len(row["completion"][-1]["content"])
    return mask_labels(labels, locate_tokens(tokenizer, row, ids), list_spans(row), length)


def locate_tokens(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], ids: Sequence[int]) -> list[tuple[int, int]]:
    """Where the tokens of a row's training text begin and end, counted in characters from where its response begins.

    Args:
        tokenizer: a fast one, with the chat template of training.
        row: `prompt` and `completion`.
        ids: what is trained of it, as `tokenize_rows` gives it.

    Raises:
        UserError: the template writes the response in other words, or the text has other tokens.
    """
    said = row["completion"][-1]["content"]
    asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    text = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
    start = text.find(said, len(asked))
    if start < 0:
        raise UserError(
            f"the chat template writes the response {said[:40]!r} in other words, so that it cannot be said what of it is "
            f"masked. Leave out --chat_template_path, or the column {MASKED!r}."
        )
    return find_offsets(tokenizer, text, ids, start + len(find_answer(row)), start)


def _encode(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, begun: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of the evaluation prompts of some rows, and of their training texts, with one token that begins them or none."""
    options = {"return_dict": False, "tokenizer_kwargs": {"verbose": False}}
    asked = tokenizer.apply_chat_template(batch["prompt"], add_generation_prompt=True, **options)
    whole = [prompt + completion for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True)]
    trained = tokenizer.apply_chat_template(whole, **options)
    _divide_answers(batch, whole, trained, tokenizer)
    bos = [tokenizer.bos_token_id]
    # A template may write the token itself; lm-eval then adds no other.
    return tuple([bos + ids if begun and ids[:1] != bos else ids for ids in side] for side in (asked, trained))


def _divide_answers(
    batch: dict[str, list[Any]], whole: list[list[Any]], trained: list[list[int]], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write anew the ids of the texts in which a token holds both the end of an answer that is scored and what follows it."""
    for i, values in enumerate(zip(*batch.values(), strict=True)):
        row = dict(zip(batch, values, strict=True))
        if row.get("response_format") != "text" or not row.get("explanation_from"):
            continue
        text = tokenizer.apply_chat_template(whole[i], tokenize=False)
        start = text.rfind(row["completion"][-1]["content"])
        if start >= 0:  # a template of the user's own may write it otherwise
            end = start + len(find_answer(row))
            answered, rest = tokenizer([text[:end], text[end:]], add_special_tokens=False, verbose=False)["input_ids"]
            if trained[i][: len(answered)] != answered:
                trained[i] = answered + rest


def _find_flaw(tokenizer: PreTrainedTokenizerBase, asked: list[int], trained: list[int]) -> str | None:
    if tokenizer.bos_token_id is not None and trained[:2] == [tokenizer.bos_token_id] * 2:
        return "begin"
    if trained[: len(asked)] != asked:
        return "prompt"
    return None if trained[len(asked) :][-1:] == [tokenizer.eos_token_id] else "end"


def _describe(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], begun: bool) -> dict[str, Any]:
    """What a row's message names: special tokens, the last token, and where prompt and text part."""
    (asked,), (trained,) = _encode({name: [row[name]] for name in READ if name in row}, tokenizer, begun)
    same = next((i for i, (a, b) in enumerate(zip(asked, trained, strict=False)) if a != b), min(len(asked), len(trained)))
    parts = [tokenizer.convert_ids_to_tokens(ids[same : same + 1]) for ids in (asked, trained)]
    names = {"asked": "".join(parts[0]), "trained": "".join(parts[1]), "bos": tokenizer.bos_token, "eos": tokenizer.eos_token}
    return names | {"last": "".join(tokenizer.convert_ids_to_tokens(trained[-1:]))}


def _check_turns(rows: "Dataset") -> None:
    """Raise a `UserError` where a prompt is no talk that the user ends, a completion is not one turn, or either is empty."""
    for column, (role, expected) in TURNS.items():
        turns = rows[column][:]
        roles = [role] if column == "completion" else ()
        if wrong := [position for position, value in enumerate(turns) if not _is_talk(value, roles)]:
            shown = repr(turns[wrong[0]])
            raise UserError(
                f"{_name_rows(rows, wrong)} have a {column} that is not {expected}; the first is "
                f"{shown[:80]}{'...' * (len(shown) > 80)}. Write [{{'role': {role!r}, 'content': TEXT}}]."
            )
        if empty := [position for position, talk in enumerate(turns) if not talk[-1]["content"].strip()]:
            raise UserError(f"{_name_rows(rows, empty)} have an empty {column}. Leave them out, or write it.")


def _list_shapes(rows: "Dataset") -> list[dict[str, Any]]:
    """The first row of each number of turns, with and without a system prompt."""
    shapes = [(len(prompt), prompt[0]["role"]) for prompt in rows["prompt"][:]]
    return [rows[shapes.index(shape)] for shape in dict.fromkeys(shapes)]


def _check_template(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> None:
    """Raise a `UserError` where the template does not take a row, or its prompt ends in another way than the chat tasks ask."""
    try:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
    except Exception as error:  # a template is a program of its own and may raise anything
        raise UserError(f"the chat template does not take the rows ({' '.join(str(error).split())}). Mend it.") from error
    if not prompt.endswith(CHAT_ENDING):
        raise UserError(
            f"the chat template's prompt ends in {prompt[-len(CHAT_ENDING) - 1 :]!r}, but the chat tasks ask with one that "
            f"ends in {CHAT_ENDING!r}, so the model could not be evaluated. Leave out --chat_template_path: the default fits "
            "both."
        )


def _is_talk(value: Any, roles: Sequence[str] = ()) -> bool:
    """Whether a value is turns of these roles; of none, user and assistant by turns, the user last."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return False
    said = [{name: part for name, part in turn.items() if part is not None} for turn in value]
    if not all(set(turn) == {"role", "content"} and isinstance(turn["content"], str) for turn in said):
        return False
    found = [turn["role"] for turn in said]
    if roles:
        return found == [*roles]
    found = found[found[:1] == ["system"] :]
    return len(found) % 2 == 1 and found == ["user", "assistant"] * (len(found) // 2) + ["user"]


def _name_rows(rows: "Dataset", positions: Sequence[int]) -> str:
    first = [repr(rows[i]["id"]) if "id" in rows.column_names else f"number {i + 1}" for i in positions[:3]]
    more = ", ..." if len(positions) > len(first) else ""
    return f"{len(positions)} of {len(rows)} rows (id {', '.join(first)}{more})"
