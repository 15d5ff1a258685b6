"""What long responses state, as questions that can be asked: written by a model that the user names, and checked.

A response of several sentences is no answer that could be compared. So a model is asked what it states (selfalign_claims),
claim by claim, as FActScore takes texts apart (Min et al. 2023, arXiv 2305.14251), but each as a question with a short answer.
What the response does not say word for word, or the question gives away, is no claim.
"""

import re
from pathlib import Path

import polars as pl

from intervention.agreeing.kinds import SHORT
from intervention.agreeing.own import KIND, find_turns, name_turn, phrase_question, shape_questions
from lm_eval_tasks.contracts.answers import holds_answer, normalise_answer
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import hash_free_form
from lm_eval_tasks.contracts.logs.generations import read_generations
from lm_eval_tasks.contracts.logs.requests import CLAIM_REQUEST_SCHEMA

STATING = (KIND, "other")  # kinds of rows whose responses state what can be asked
_CLAIM = re.compile(r"^[\s*\d.)-]*(?:\*\*)?Q(?:uestion)?\s*:\s*(?P<question>.*?\S)\s+A(?:nswer)?\s*:\s*(?P<answer>.*\S)\s*$")
# Why a line is no claim.
FLAWS = {
    "line": "are not of the form 'Q: ... A: ...'",
    "long": f"have an answer of more than {SHORT} words",
    "unsaid": "have an answer that the response does not say",
    "told": "have an answer that their question tells",
    "twice": "ask what another of the response asks",
}


def request_claims(data: Conversations, source: str) -> pl.DataFrame:
    """The responses whose claims a model is to write (`CLAIM_REQUEST_SCHEMA`), each as the answer to its last prompt.

    Those are the responses that `own.ask_data` cannot ask as they are: long ones, and those after earlier turns or a system
    prompt, where their kind (`kinds.py`) is one of `STATING`.

    Args:
        data: the conversations.
        source: what the requests call their source.

    Raises:
        UserError: there is no such response.
    """
    turns = find_turns(data).filter(pl.col("why").is_not_null() & pl.col("kind").is_in(STATING))
    if not turns.height:
        raise UserError(
            f"{source}: no response states anything beside those that `requests own` asks as they are, so there is nothing to "
            "ask for."
        )
    table = shape_questions(turns.select(name_turn(), **phrase_question()), source)
    return table.with_columns(hash_free_form(table)).select(list(CLAIM_REQUEST_SCHEMA))


def read_claims(log: Path, data: Conversations, source: str) -> tuple[pl.DataFrame, list[str]]:
    """The claims of responses as free-form questions (`FREE_FORM_SCHEMA`), by the ids of their turns and a number.

    Args:
        log: of selfalign_claims, or JSON lines with `source, domain, id, claims`.
        data: the conversations.
        source: what the question set calls their source.

    Returns:
        The questions; a sentence for each reason why a line is no claim.

    Raises:
        UserError: texts of something else, about other responses, or none that holds a claim.
    """
    texts = read_generations(log, "claims", allow_missing=True)
    own = data.turns.with_columns(asked=pl.col("messages").list.last().struct.field("content"))
    own = own.select(name_turn(), "response", **phrase_question())
    own = own.with_columns(hash_free_form(own).alias("_own")).drop("question", "answers")
    found = texts.join(own, on="id", how="left", maintain_order="left")
    other = found.filter(pl.col("response_right").is_null() | (pl.col("question_hash") != pl.col("_own")))
    if other.height:
        raise UserError(
            f"--claims {log}: {other.height} of {found.height} are about responses that this data does not have, or has with "
            f"another prompt or text; the first is row and turn {other['id'][0]}. Ask about this data (requests claims)."
        )
    claims, flaws = [], dict.fromkeys(FLAWS, 0)
    for name, text, response, finished in found.select("id", "text", "response_right", "finished").iter_rows():
        lines = text.splitlines() if finished is not False else text.splitlines()[:-1]
        read = split_claims(lines, response)
        for flaw, *_ in (claim for claim in read if claim[0]):
            flaws[flaw] += 1
        kept = [claim[1:] for claim in read if not claim[0]]
        claims += [(f"{name}/{number}", question, [answer]) for number, (question, answer) in enumerate(kept)]
    if not claims:
        raise UserError(f"--claims {log}: none of {found.height} texts holds a claim ({_tell(flaws)}). Ask a larger model.")
    table = pl.DataFrame(claims, {"id": pl.String, "question": pl.String, "answers": pl.List(pl.String)}, orient="row")
    notes = [f"{found.height} texts about long responses hold {table.height} claims; of their other lines {_tell(flaws)}"]
    return shape_questions(table, source), notes


def split_claims(lines: list[str], response: str) -> list[tuple[str, str, str]]:
    """Each line that is not blank: why it is no claim (of `FLAWS`, or empty), its question and its answer.

    >>> lines = ["Q: What is yeast? A: a fungus.", "- Q: What is yeast? A: fungus", "Q: Is it alive? A: yes", "and so on"]
    >>> [flaw for flaw, question, answer in split_claims(lines, "Yeast is a fungus.")]
    ['', 'twice', 'unsaid', 'line']
    """
    claims, asked = [], set()
    for line in lines:
        if not line.strip():
            continue
        found = _CLAIM.match(line)
        question, answer = (found["question"], found["answer"].strip(" *")) if found else ("", "")
        flaw = (
            "line" if not found or not normalise_answer(answer)
            else "long" if len(answer.split()) > SHORT
            else "unsaid" if not holds_answer(response, answer)
            else "told" if holds_answer(question, answer)
            else "twice" if normalise_answer(question) in asked
            else ""
        )  # fmt: skip
        if not flaw:
            asked.add(normalise_answer(question))
        claims.append((flaw, question, answer))
    return claims


def _tell(flaws: dict[str, int]) -> str:
    return ", ".join(f"{count} {FLAWS[name]}" for name, count in flaws.items() if count) or "there are none"
