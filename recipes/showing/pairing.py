"""The rows of the conditions side by side: which are shown, and what training and evaluation make of each, token by token."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, get_dataset_config_names, load_dataset

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import SCORING, write_user_turn
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, GENERAL, KEY
from recipes.showing.display import Cell, Section, Token
from recipes.showing.sequences import Asked, Asker, Trained, count_common, read_trained, spell_tokens
from recipes.training.rows import TELLING
from recipes.training.tokens import find_answer

ADDED = {name for name, condition in CONDITIONS.items() if condition.addition}  # whose prompts hold more than the question
# The columns without which nothing can be shown, and those whose values stand beside a row, with the words for them.
NEEDED = {*KEY, "prompt", "completion", "condition", "response_format", "explanation_from", "order", "response_letter"}
DETAILS = {"response_letter": "response", "gold_letter": "gold", "belief_letter": "belief", "confidence": "confidence"}
DETAILS |= {"explanation_from": "explained by", "contradicts": "contradicts", "order": "order"}
DETAILS |= {"weight": "weight"}

Key = tuple[str, ...]
Record = dict[str, Any]


def read_sets(folder: str, names: Sequence[str]) -> dict[str, Dataset]:
    """The train rows of the configs of an instruction set, all of them where none is named; nothing where it is none.

    Raises:
        UserError: no such data set or config, or one whose columns are not all there.
    """
    if Path(folder).is_file():
        return {}
    try:
        configs = get_dataset_config_names(folder)
        if unknown := [name for name in names if name not in configs]:
            raise UserError(f"{folder} has no config {unknown[0]!r}; it has {', '.join(configs)}.")
        sets = {name: load_dataset(folder, name, split="train") for name in names or configs}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no data set that can be read: {' '.join(str(error).split())}") from error
    if not any(TELLING & {*rows.column_names} for rows in sets.values()):
        return {}
    for name, rows in sets.items():
        if lacking := sorted(NEEDED - set(rows.column_names)):
            raise UserError(
                f"{folder}: {name} has no column {lacking[0]!r}. `python -m intervention build` writes instruction sets; build "
                "one from an earlier version again."
            )
    return sets


def choose_rows(sets: dict[str, Dataset], count: int) -> dict[Key, dict[str, Record]]:
    """`count` questions of each config, the same ones where configs share them, and the first general instruction.

    Returns:
        Question -> config -> row.
    """
    positions: dict[str, dict[Key, int]] = {}
    general: dict[str, dict[Key, int]] = {}
    for name, rows in sets.items():
        keys = list(zip(*(rows[column] for column in KEY), strict=True))
        kinds = rows["condition"]
        positions[name] = {key: i for i, (key, kind) in enumerate(zip(keys, kinds, strict=True)) if kind != GENERAL}
        general[name] = {key: i for i, (key, kind) in enumerate(zip(keys, kinds, strict=True)) if kind == GENERAL}
    chosen: dict[Key, None] = {}
    for known in positions.values():
        wanted = count - sum(key in known for key in chosen)
        chosen |= dict.fromkeys([key for key in known if key not in chosen][: max(wanted, 0)])
    found = {key: {name: sets[name][known[key]] for name, known in positions.items() if key in known} for key in chosen}
    for name, known in general.items():
        if known:
            key, position = next(iter(known.items()))
            return found | {key: {name: sets[name][position]}}
    return found


def read_docs(folder: str, keys: Sequence[Key]) -> dict[Key, Record]:
    """The questions of a question set by their keys, of those that it has.

    Raises:
        UserError: it cannot be read.
    """
    docs: dict[Key, Record] = {}
    try:
        for domain in set(get_dataset_config_names(folder)) & {key[1] for key in keys}:
            for rows in load_dataset(folder, domain).values():
                columns = zip(*(rows[column] for column in KEY), strict=True)
                docs |= {key: rows[i] for i, key in enumerate(columns) if key in keys}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--questions {folder} is no question set that can be read: {' '.join(str(error).split())}") from error
    return docs


def find_turn(row: Record, others: Iterable[Record], doc: Record | None) -> str | None:
    """What the user says in evaluation, choices in the order of the row; None where no row shows the bare question.

    Args:
        row: a training row.
        others: the rows of the same question in other conditions.
        doc: the question of the question set, if one is named.
    """
    if doc:
        start = row["order"] % len(doc["choices"])
        shown = doc | {"choices": doc["choices"][start:] + doc["choices"][:start]}
        return write_user_turn(shown, SCORING[row["response_format"]])
    bare = (r for r in (row, *others) if r["condition"] not in ADDED and r["order"] == row["order"])
    return next((_read_turn(r) for r in bare), None)


def find_choice(row: Record) -> str:
    """What is scored of the response that the row trains: its letter, or the text of its choice."""
    return f" {row['response_letter'] if row['response_format'] == 'letter' else find_answer(row)}"


def _read_turn(row: Record) -> str:
    return row["prompt"][-1]["content"]


def compare_rows(
    chosen: dict[Key, dict[str, Record]], docs: dict[Key, Record] | None, tokenizer: Any, asker: Asker, max_length: int
) -> list[Section]:
    """A section a question: the evaluation prompts of its rows, each once, and the training text of each condition.

    Args:
        chosen: question -> config -> row.
        docs: the questions of a question set, or None where none is named.
        tokenizer: the base model's, with the chat template of training.
        asker: writes evaluation prompts.
        max_length: of a training text, in tokens; a longer one is shown with a warning.

    Raises:
        UserError: the rows cannot be trained, or the tokenizer's template does not take the prompt.
    """
    everything = [row for rows in chosen.values() for row in rows.values()]
    trained = iter(read_trained(tokenizer, everything, asker.add_bos_token))
    sections = []
    for key, rows in chosen.items():
        asked: dict[tuple[int, ...], Cell] = {}
        cells = []
        for name, row in rows.items():
            cell, prompt, differs = compare_row(
                name, row, rows.values(), docs and docs.get(key), next(trained), max_length, asker
            )
            if docs is not None and key not in docs and row["condition"] != GENERAL:
                cell.warnings.append("The question set has no such question: the evaluation prompt is that of the rows.")
            cells.append(cell)
            if prompt:
                shown = asked.setdefault(tuple(prompt.prompt), show_asked(prompt, differs, asker))
                if (ending := show_ending(prompt, asker)) not in shown.endings:
                    shown.endings.append(ending)
        sections.append(Section(" / ".join(key), [*asked.values(), *cells]))
    return sections


def compare_row(
    name: str, row: Record, others: Iterable[Record], doc: Record | None, trained: Trained, max_length: int, asker: Asker
) -> tuple[Cell, Asked | None, int | None]:
    """The training text of a row, with a warning where evaluation differs; how it is asked; where the asked prompt differs."""
    details = {word: _write_detail(row[column]) for column, word in DETAILS.items() if row.get(column) is not None}
    cell = Cell(name, [], details={"condition": row["condition"], **details})
    roles = name_roles(row, trained, max_length, cell)
    turn = find_turn(row, others, doc) if row["condition"] != GENERAL else None
    asked = None if turn is None else asker.ask(turn, find_choice(row))
    prompt, response = trained.ids[: trained.start], trained.ids[trained.start :]
    compared, parting, differs = asked, None, None
    if row["condition"] in ADDED and asked:
        first = count_common(prompt, asked.prompt)
        last = count_common(prompt[first:][::-1], asked.prompt[first:][::-1])
        roles[first : trained.start - last] = ["context"] * (trained.start - last - first)
        cell.notes.append("What stands before the question is there in training alone: evaluation asks without it.")
        if not _read_turn(row).endswith(f"\n\n{turn}"):
            cell.warnings.append("What follows it is not what evaluation asks.")
        # The rest is compared under the same knowledge, so that another template or beginning is seen all the same.
        compared = asker.ask(_read_turn(row), find_choice(row))
    elif row["condition"] in ADDED:
        cell.notes.append("No condition shows this question without its knowledge: name --questions to see how it is asked.")
    if compared and prompt != compared.prompt:
        parting = differs = count_common(prompt, compared.prompt)
        cell.warnings.append(_tell_difference("The prompts differ", parting, prompt, compared.prompt, asker))
    elif compared and response[: len(compared.scored)] != compared.scored:
        first = count_common(response, compared.scored)
        cell.warnings.append(_tell_difference("What is scored is not what is trained", first, response, compared.scored, asker))
        parting = trained.start + first
    cell.tokens.extend(show_tokens(trained.ids, roles, parting, asker))
    return cell, asked, differs if compared is asked else None


def name_roles(row: Record, trained: Trained, max_length: int, cell: Cell) -> list[str]:
    """What training makes of each token of a row; what is to be said of it is added to its cell."""
    roles = ["prompt"] * trained.start + ["trained"] * (len(trained.ids) - trained.start)
    for position in trained.masked:
        roles[position] = "masked"
    if "trained" not in roles or row.get("weight") == 0:
        cell.notes.append("The row carries no loss, and training leaves it out.")
    if len(trained.ids) > max_length:
        roles[max_length:] = ["cut"] * (len(trained.ids) - max_length)
        cell.warnings.append(f"Training refuses this row: {len(trained.ids)} tokens, and --max_length {max_length}.")
    return roles


def show_asked(asked: Asked, differs: int | None, asker: Asker) -> Cell:
    """An evaluation prompt."""
    return Cell("evaluation", show_tokens(asked.prompt, ["prompt"] * len(asked.prompt), differs, asker))


def show_ending(asked: Asked, asker: Asker) -> list[Token]:
    """The choice that is scored after an evaluation prompt."""
    tokens = show_tokens([*asked.prompt, *asked.scored], ["scored"] * len([*asked.prompt, *asked.scored]), None, asker)
    return tokens[len(asked.prompt) :]


def show_tokens(ids: Sequence[int], roles: Sequence[str], differs: int | None, asker: Asker) -> list[Token]:
    """Tokens with their texts."""
    texts = spell_tokens(asker.tokenizer, ids)
    return [Token(text, ids[i], roles[i], i == differs) for i, text in enumerate(texts)]


def _tell_difference(what: str, position: int, trained: Sequence[int], asked: Sequence[int], asker: Asker) -> str:
    names = asker.tokenizer.convert_ids_to_tokens
    one, other = (repr(names(ids[position])) if position < len(ids) else "no more" for ids in (trained, asked))
    return f"{what}, first in token {position + 1}: training has {one}, evaluation {other}."


def _write_detail(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
