"""The questions that moved most, for the page's explorer: which answers it holds, and what it says of each."""

from typing import Any

import polars as pl

from analysis.measures.keys import CONDITION, PART, QUESTION, RUN_KEY
from analysis.measures.states import add_states
from lm_eval_tasks.contracts.style import find_look
from lm_eval_tasks.contracts.vocabulary import name_condition, name_set

LIMIT = 2000
_GROUP = (*PART, *CONDITION)
_TEXT = (*QUESTION, "question", "choices", "answer")
_ORDER = (*RUN_KEY, "run", *QUESTION)


def list_moved(measures: pl.DataFrame, limit: int = LIMIT) -> tuple[pl.DataFrame, int]:
    """The answers in the chat prompt that lie furthest, by KL, from what the base model believed.

    Questions seen in training are left out. A question counts once a condition, by the seed that moved it most. Conditions
    share the rows fairly: each gets its most moved answer, then each its second, until there are enough.

    Args:
        measures: as in `study.Study`, of all base models and trained domains.
        limit: how many rows to take at most.

    Returns:
        Rows of `measures` with `add_states`' columns, such that the first n rows are a fair share for every n; and the number
        of answers that they were taken from.
    """
    asked = measures.with_row_index("_row").filter(
        pl.col("kl_nats").is_not_null(), pl.col("split") != "seen", phase="tuned_chat"
    )
    keys = asked.select("_row", "kl_nats", *_ORDER).sort("kl_nats", *_ORDER, descending=[True] + [False] * len(_ORDER))
    keys = keys.unique([*_GROUP, *QUESTION], keep="first", maintain_order=True)
    rank = pl.int_range(pl.len()).over(_GROUP)
    chosen = keys.with_columns(_rank=rank).sort("_rank", maintain_order=True).head(limit)
    return add_states(measures[chosen["_row"]]), keys.height


def pack_moved(moved: pl.DataFrame, count: int) -> dict[str, Any]:
    """The first `count` rows of `list_moved` as the page's script reads them, most moved first.

    Returns:
        `conditions` (name, colour, study), `questions` (a list a column, a question once) and `answers` (a list a column):
        `condition` and `question` are positions in the two; probabilities are in thousandths; `kl` is null where infinite.
    """
    rows = moved.head(count).sort("kl_nats", *_ORDER, descending=[True] + [False] * len(_ORDER))
    questions = rows.select("question_hash", *_TEXT).unique(maintain_order=True).with_row_index("_question")
    conditions = rows.select(_GROUP).unique().sort(_GROUP).with_row_index("_condition")
    rows = rows.join(questions, on=("question_hash", *QUESTION), how="left", maintain_order="left")
    rows = rows.join(conditions, on=_GROUP, how="left", nulls_equal=True, maintain_order="left")
    answers = rows.select(
        "seed",
        "state_before",
        "state",
        condition="_condition",
        question="_question",
        split=pl.col("split").map_elements(name_set, return_dtype=pl.String),
        kl=pl.when(pl.col("kl_nats").is_finite()).then(pl.col("kl_nats").round(3)),
        first_before="prediction_before",
        first="prediction",
        before=_count_thousandths("probs_before"),
        after=_count_thousandths("probs"),
    )
    named = [
        {
            "name": name_condition(row["condition"], row["ratio"]),
            "colour": find_look(row["condition"])[0],
            "study": f"{row['model']} · {row['domain']}",
        }
        for row in conditions.iter_rows(named=True)
    ]
    columns = questions.drop("_question", "question_hash").rename({"question_domain": "domain"})
    return {"conditions": named, "questions": columns.to_dict(as_series=False), "answers": answers.to_dict(as_series=False)}


def _count_thousandths(name: str) -> pl.Expr:
    return pl.col(name).list.eval((1000 * pl.element()).round().cast(pl.Int64))


def unpack_moved(packed: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The first `count` answers of `pack_moved` as rows with their condition and question, for a page without a script."""
    rows = []
    for i in range(min(count, len(packed["answers"]["kl"]))):
        row = {name: column[i] for name, column in packed["answers"].items()}
        question = {name: column[row["question"]] for name, column in packed["questions"].items()}
        rows.append(row | {"condition": packed["conditions"][row["condition"]], "question": question})
    return rows
