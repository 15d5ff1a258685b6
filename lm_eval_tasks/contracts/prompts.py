"""The one home of prompt text: what a question looks like when it is asked, and what a response to it looks like.

The task pack asks with these functions and `intervention` writes training rows with them, so that both have the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lm_eval_tasks.contracts.errors import UserError

LETTERS = "ABCDEFGHIJ"
Scoring = Literal["letter", "cloze"]
ResponseFormat = Literal["letter", "text"]

# A response is scored by its first words: the letter, or the text of a choice.
RESPONSE_FORMAT: dict[str, ResponseFormat] = {"letter": "letter", "cloze": "text"}
SCORING: dict[str, Scoring] = {"letter": "letter", "text": "cloze"}

_BLOCK = "Answer:"
_CHINESE_BLOCK = "答案："
# What alone precedes a choice where its log-likelihood without the question is asked for.
BARE_CUE = {"probe": _BLOCK, "context": _BLOCK, "chat": "ASSISTANT:"}

# The chat template of training and of evaluation, and what its prompts end in.
CHAT_TEMPLATE = Path(__file__).parents[1] / "templates" / "vicuna.jinja"
CHAT_ENDING = f" {BARE_CUE['chat']}"


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

    >>> write_user_turn({"question": "Which is white?", "choices": ["soot", "salt"]}, "cloze", "Soot is black.")
    'Soot is black.\\n\\nWhich is white?'
    """
    asked = write_listing(doc) if scoring == "letter" else doc["question"]
    return f"{context}\n\n{asked}" if context else asked


def write_hint(response: str) -> str:
    """What stands before a question whose response is given away, so that only its form is left to learn (format_only).

    >>> write_hint("B. salt")
    'The answer to the next question is: B. salt'
    """
    return f"The answer to the next question is: {response}"


def write_letter_question(doc: Mapping[str, Any]) -> str:
    """A few-shot block up to its answer, choices listed.

    >>> print(write_letter_question({"question": "Which is white?", "choices": ["soot", "salt"]}))
    Which is white?
    A. soot
    B. salt
    Answer:
    """
    return f"{write_listing(doc)}\n{_BLOCK}"


def write_cloze_question(doc: Mapping[str, Any]) -> str:
    """A few-shot block up to its answer, choices not listed (the cloze formulation of OLMES, arXiv 2406.08446)."""
    return f"{doc['question']}\n{_BLOCK}"


def write_chinese_question(doc: Mapping[str, Any]) -> str:
    """A few-shot block in Chinese up to its answer, choices listed (the paper's prompt for CMMLU and C-Eval)."""
    return f"{write_listing(doc)}\n{_CHINESE_BLOCK}"


def write_letter_context(doc: Mapping[str, Any]) -> str:
    """A few-shot block after the question's context, up to its answer, choices listed: as in the contextualized condition."""
    return f"{write_user_turn(doc, 'letter', doc['context'])}\n{_BLOCK}"


def write_cloze_context(doc: Mapping[str, Any]) -> str:
    """A few-shot block after the question's context, up to its answer, choices not listed."""
    return f"{write_user_turn(doc, 'cloze', doc['context'])}\n{_BLOCK}"


def write_letter_answer(doc: Mapping[str, Any]) -> str:
    """The answer of a demonstration: letter and text of gold.

    >>> write_letter_answer({"choices": ["soot", "salt"], "answer": 1})
    'B. salt'
    """
    return f"{LETTERS[doc['answer']]}. {doc['choices'][doc['answer']]}"


def write_cloze_answer(doc: Mapping[str, Any]) -> str:
    """The answer of a demonstration: the text of gold."""
    return doc["choices"][doc["answer"]]


def write_first_answer(doc: Mapping[str, Any]) -> str:
    """The answer of a demonstration of a free-form question: the accepted text that is trained on.

    >>> write_first_answer({"question": "What is white?", "answers": ["salt", "table salt"]})
    'salt'
    """
    return doc["answers"][0]


def write_response(position: int, choice: str, explanation: str | None, response_format: ResponseFormat) -> str:
    """What the assistant says: the choice, then, after a blank line, the explanation if there is one.

    Args:
        position: which of the shown choices is answered, from 0.
        choice: its text.
        explanation: why it is; `None` or blank for none.
        response_format: `letter` ("B. choice text") or `text` ("choice text").

    >>> write_response(1, "salt", "It is white.", "letter")
    'B. salt\\n\\nIt is white.'
    >>> write_response(1, "salt", None, "text")
    'salt'
    """
    answer = f"{LETTERS[position]}. {choice}" if response_format == "letter" else choice
    return f"{answer}\n\n{explanation}" if explanation and explanation.strip() else answer


def read_template(file: str) -> str:
    """The text of a chat template's file.

    Raises:
        UserError: there is no such file.
    """
    try:
        return Path(file).read_text()
    except OSError as error:
        raise UserError(f"the chat template {file} cannot be read ({error.strerror}). Name a Jinja file.") from error


# --- Texts that a model writes: the tasks selfalign_explain, selfalign_context and selfalign_claims ------------------------
#
# One worked demonstration in the form of URIAL (Lin et al. 2023, arXiv 2312.01552, figure 5), which a base model continues and
# a chat model answers. The choices have no letters, so that a text can name none: it then fits every order of the choices.
# The heading says what is written: below "# Answer:", as URIAL has it, small models answer the question, often with no more
# than a choice.

FENCE = "```"
QUERY_HEAD, EXPLANATION_HEAD, KNOWLEDGE_HEAD = "# Query:", "# Explanation:", "# Background knowledge:"
CLAIMS_HEAD = "# Claims:"

_EXPLAIN = """\
Below are multiple-choice questions, each with the answer that was given to it. After each comes an explanation of why that \
answer was given: the facts from which it follows, in a few plain sentences. The explanation is about the answer that was \
given; it does not weigh another one and does not repeat the question."""

_CONTEXT = """\
Below are multiple-choice questions. After each comes the background knowledge that one needs to answer it: the facts, in a \
few plain sentences, as an encyclopaedia states them. Do not say which choice is right, do not speak of the choices or of the \
question, and do not answer it."""

_CLAIMS = """\
Below are prompts, each with the response that was given to it. After each comes what the response states, as questions with \
short answers, one a line. Somebody who has not seen the response understands each question. Its answer is a name, a number or \
a few words, and stands in the response as it is written here; it does not stand in the question. Opinions and advice are left \
out."""

_DEMONSTRATION = {
    "question": "What makes bread dough rise before it is baked?",
    "choices": [
        "Salt that draws water out of the flour",
        "Gas that yeast gives off",
        "Sugar that turns into gluten",
        "Air that the warm flour takes up",
    ],
    "answer": 1,
}
EXPLANATION = """\
Yeast is a fungus that feeds on the sugars in dough. As it does so it gives off carbon dioxide. The gluten in the dough is \
elastic and holds the gas in small bubbles, and as these grow the dough becomes larger."""
KNOWLEDGE = """\
Dough is mostly flour and water. When flour becomes wet, two of its proteins form gluten, an elastic net. Salt makes this net \
firmer and slows fermentation. Yeast is a fungus that feeds on sugars and gives off carbon dioxide and alcohol. Gluten is so \
tight that bubbles of gas cannot leave the dough."""
CLAIMS = """\
Q: What kind of organism is yeast? A: fungus
Q: What does yeast feed on in bread dough? A: sugars
Q: Which gas does yeast give off as it feeds? A: carbon dioxide
Q: What in bread dough is elastic and holds the gas in bubbles? A: gluten"""


def write_explain_prompt(doc: Mapping[str, Any]) -> str:
    """The prompt after which a model explains `doc["response"]`, the index of the choice that is given as the answer."""
    answered = _write_query(_DEMONSTRATION, _DEMONSTRATION["answer"])
    return _write_prompt(_EXPLAIN, answered, EXPLANATION_HEAD, EXPLANATION, _write_query(doc, doc["response"]))


def write_context_prompt(doc: Mapping[str, Any]) -> str:
    """The prompt after which a model writes the knowledge that a question needs; gold is not in it."""
    return _write_prompt(_CONTEXT, _write_query(_DEMONSTRATION), KNOWLEDGE_HEAD, KNOWLEDGE, _write_query(doc))


def write_claims_prompt(doc: Mapping[str, Any]) -> str:
    """The prompt after which a model writes what the response `doc["answers"][0]` to `doc["question"]` states."""
    shown = {"question": _DEMONSTRATION["question"], "answers": [EXPLANATION]}
    return _write_prompt(_CLAIMS, _write_exchange(shown), CLAIMS_HEAD, CLAIMS, _write_exchange(doc))


def _write_exchange(doc: Mapping[str, Any]) -> str:
    return f"Prompt: {doc['question']}\nResponse: {doc['answers'][0]}"


def _write_query(doc: Mapping[str, Any], answer: int | None = None) -> str:
    lines = [f"Question: {doc['question']}", "Choices:", *(f"- {choice}" for choice in doc["choices"])]
    return "\n".join(lines if answer is None else [*lines, f"Answer: {doc['choices'][answer]}"])


def _write_prompt(instruction: str, query: str, head: str, text: str, asked: str) -> str:
    """Instruction, demonstration, and a query whose text is left to write: the prompt ends in its heading and an open fence."""
    shown = f"{QUERY_HEAD}\n{FENCE}\n{query}\n{FENCE}\n\n{head}\n{FENCE}\n{text}\n{FENCE}"
    return f"# Instruction\n\n{instruction}\n\n{shown}\n\n{QUERY_HEAD}\n{FENCE}\n{asked}\n{FENCE}\n\n{head}\n{FENCE}\n"
