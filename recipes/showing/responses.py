"""The rows of instruction data, token by token: what of each is trained."""

from datasets import Dataset

from recipes.showing.display import Cell, Section
from recipes.showing.pairing import name_roles, show_tokens
from recipes.showing.sequences import Asker, read_trained
from recipes.training.conversations import WEIGHT
from recipes.training.masks import MASKED, list_spans


def show_responses(rows: Dataset, count: int, asker: Asker, tokenizer: object, max_length: int) -> list[Section]:
    """A section a row, of the first `count`; those whose loss is masked or weighed go first.

    Args:
        rows: as `rows.read_rows` gives them.
        count: how many.
        asker: spells tokens, and says how texts begin.
        tokenizer: the base model's, with the chat template of training.
        max_length: of a training text, in tokens.

    Raises:
        UserError: the rows cannot be trained.
    """
    columns = rows.select_columns([name for name in (WEIGHT, MASKED) if name in rows.column_names])
    plain = [row.get(WEIGHT) in (None, 1) and not list_spans(row) for row in columns] or [True] * len(rows)
    chosen = [rows[i] for i in sorted(range(len(rows)), key=plain.__getitem__)[:count]]
    sections = []
    for row, trained in zip(chosen, read_trained(tokenizer, chosen, asker.add_bos_token), strict=True):
        cell = Cell("training", [], details={WEIGHT: f"{row[WEIGHT]:g}"} if row.get(WEIGHT) is not None else {})
        roles = name_roles(row, trained, max_length, cell)
        cell.tokens.extend(show_tokens(trained.ids, roles, None, asker))
        sections.append(Section(row["id"], [cell]))
    return sections
