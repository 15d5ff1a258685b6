"""The one home of prompt text: what a question looks like when it is asked, and what a response to it looks like.

The task pack asks with these functions and `intervention` writes training rows with them, so that both have the same bytes.
"""

from collections.abc import Mapping
from typing import Any, Literal

LETTERS = "ABCDEFGHIJ"
Scoring = Literal["letter", "cloze"]
ResponseFormat = Literal["letter", "text"]

# A response is scored by its first words: the letter, or the text of a choice.
RESPONSE_FORMAT: dict[str, ResponseFormat] = {"letter": "letter", "cloze": "text"}

_BLOCK = "Answer:"


def list_letters(doc: Mapping[str, Any]) -> list[str]:
    """The letters of a question's choices."""
    return list(LETTERS[: len(doc["choices"])])


def list_spaced_letters(doc: Mapping[str, Any]) -> list[str]:
    """The letters with the space that a chat template writes before a response (lm-eval adds none in chats)."""
    return [f" {letter}" for letter in list_letters(doc)]


def list_spaced_choices(doc: Mapping[str, Any]) -> list[str]:
    """The texts of the choices with the space that a chat template writes before a response."""
    return [f" {choice}" for choice in doc["choices"]]


def write_listing(doc: Mapping[str, Any]) -> str:
    """The question and, a line each, its lettered choices."""
    return "\n".join([doc["question"], *(f"{a}. {b}" for a, b in zip(LETTERS, doc["choices"], strict=False))])


def write_user_turn(doc: Mapping[str, Any], scoring: Scoring, context: str | None = None) -> str:
    """What the user says in the chat prompt.

    Args:
        doc: a question.
        scoring: the choices are listed only where a letter is to be answered.
        context: the knowledge that the question needs, put before it (the contextualized condition).
    """
    asked = write_listing(doc) if scoring == "letter" else doc["question"]
    return f"{context}\n\n{asked}" if context else asked


def write_letter_question(doc: Mapping[str, Any]) -> str:
    """A few-shot block up to its answer, choices listed."""
    return f"{write_listing(doc)}\n{_BLOCK}"


def write_cloze_question(doc: Mapping[str, Any]) -> str:
    """A few-shot block up to its answer, choices not listed (the cloze formulation of OLMES, arXiv 2406.08446)."""
    return f"{doc['question']}\n{_BLOCK}"


def write_letter_answer(doc: Mapping[str, Any]) -> str:
    """The answer of a demonstration: letter and text of gold."""
    return f"{LETTERS[doc['answer']]}. {doc['choices'][doc['answer']]}"


def write_cloze_answer(doc: Mapping[str, Any]) -> str:
    """The answer of a demonstration: the text of gold."""
    return doc["choices"][doc["answer"]]


def write_response(doc: Mapping[str, Any], choice: int, explanation: str | None, response_format: ResponseFormat) -> str:
    """What the assistant says: the choice, then, after a blank line, the explanation if there is one.

    Args:
        doc: a question with its `choices`.
        choice: index of the choice that is answered.
        explanation: why it is; `None` or blank for none.
        response_format: `letter` ("B. choice text") or `text` ("choice text").
    """
    text = doc["choices"][choice]
    answer = f"{LETTERS[choice]}. {text}" if response_format == "letter" else text
    return f"{answer}\n\n{explanation}" if explanation and explanation.strip() else answer
