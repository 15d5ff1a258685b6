"""What is done with questions that cannot be asked: a few are left out by name, so that one bad question stops no bank.

`--metadata` has a key for it, `may_leave_out`: the share of the questions up to which they are left out, 0 for none.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lm_eval_tasks.checking.lengths import find_key, join_names
from lm_eval_tasks.checking.protocol import Asking, Question
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import MAY_LEAVE_OUT, name_question

logger = logging.getLogger(__name__)
HOW_TO_LEAVE_OUT = "--metadata '{{\"may_leave_out\": {}}}'"


class Flaw(NamedTuple):
    """A question that cannot be asked."""

    row: Question
    kind: str  # counted under this name: "two equal choices"
    told: str  # what is wrong with it and what to do, as a message about the first says it


def read_share(task: Asking) -> float:
    """The share of questions that may be left out.

    Raises:
        UserError: a value that is none.
    """
    share = task.config.metadata.get("may_leave_out", MAY_LEAVE_OUT)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise UserError(f"{task.config.task}: may_leave_out {share!r} is no share from 0 to below 1. Mend it in --metadata.")
    return float(share)


def leave_out_flawed(task: Asking, rows: Sequence[Question], flaws: Sequence[Flaw]) -> None:
    """Leave flawed questions out of a task, whose `left_out` is set, and say which; or refuse to ask it.

    Args:
        task: the task.
        rows: the questions that are to be asked.
        flaws: what is wrong with some of them; the first is told in full.

    Raises:
        UserError: they are a greater share than may be left out, or all.
    """
    share = read_share(task)
    if not flaws:
        return
    keys = {find_key(flaw.row): flaw for flaw in reversed(flaws)}
    asked = {find_key(row) for row in rows}
    name, first = task.config.task, flaws[0]
    if len(keys) > share * len(asked) or len(keys) == len(asked):
        more = f" {len(keys)} of {len(asked)} questions cannot be asked ({_count(keys.values())})." if len(keys) > 1 else ""
        enough = -(-len(keys) * 1000 // len(asked)) / 1000
        remedy = f" {HOW_TO_LEAVE_OUT.format(enough)} leaves them out." if enough < 1 else ""
        raise UserError(f"{name}: {first.told}{more}{remedy}")
    task.left_out |= keys.keys()
    names = join_names([name_question(flaw.row) for flaw in keys.values()])
    logger.warning(
        "%s: %d of %d questions cannot be asked and are left out (%s): %s. %s refuses them.",
        name, len(keys), len(asked), _count(keys.values()), names, HOW_TO_LEAVE_OUT.format(0),
    )  # fmt: skip


def _count(flaws: Sequence[Flaw]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in Counter(flaw.kind for flaw in flaws).items())
