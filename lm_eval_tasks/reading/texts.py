"""From a turn to the tokens that are read: its prompt and response as one text, and which tokens are the response's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.in_context import write_in_context

TEXTS_AT_ONCE = 1024  # that are tokenised in one call


class Text(NamedTuple):
    """A prompt with its response, where that begins, and how much of the response's beginning was stripped, in characters."""

    whole: str
    start: int
    stripped: int = 0


class Tokenized(NamedTuple):
    """The tokens of a text, and of those of the response, its last, where they lie in it, in characters."""

    ids: list[int]
    starts: list[int]
    ends: list[int]

    @property
    def scored(self) -> int:
        """How many of the last tokens are the response's."""
        return len(self.starts)


Turn = Mapping[str, Any]
Render = Callable[..., str]  # a chat template: messages and `add_generation_prompt` -> text


def make_writers(render: Render) -> dict[str, Callable[[Turn], Text]]:
    """What writes a turn's text under each of `readings.PROMPTS`."""
    return {
        "chat": lambda turn: write_chat(turn, render),
        "in_context": write_shown,
        "alone": lambda turn: Text(turn["response"], 0),
    }


def write_chat(turn: Turn, render: Render) -> Text:
    """A turn in a chat template.

    Raises:
        UserError: the template refuses it, or does not write the response after the prompt as it stands in the data.
    """
    system = [{"role": "system", "content": turn["system"]}] if turn["system"] else []
    before = [*system, *turn["messages"]]
    try:
        prompt = render(before, add_generation_prompt=True)
        whole = render([*before, {"role": "assistant", "content": turn["response"]}], add_generation_prompt=False)
    except Exception as error:  # a template is a program of its own and may raise anything
        raise UserError(
            f"row {turn['row']}: the chat template does not take it ({' '.join(str(error).split())}). Name another with "
            "--chat_template FILE, or leave the row out."
        ) from error
    response = turn["response"]
    if whole.startswith(prompt):
        for said in (response, response.strip()):  # many templates strip it
            if (start := whole.find(said, len(prompt))) >= 0 and not whole[len(prompt) : start].strip():
                return Text(whole[: start + len(said)], start, response.find(said))
    raise UserError(
        f"row {turn['row']}: the chat template does not write the response after its prompt as it stands, so its tokens "
        "cannot be told. Name another with --chat_template FILE; lm_eval_tasks/templates/vicuna.jinja is that of training."
    )


def write_shown(turn: Turn) -> Text:
    """A turn as the continuation of worked answers."""
    prompt = write_in_context(turn["messages"], turn["system"])
    return Text(prompt + turn["response"], len(prompt))


def tokenize_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], begun: bool, prefix: int) -> Iterator[Tokenized]:
    """The tokens of texts, and the response's own: those that end after it begins.

    Args:
        tokenizer: the model's; a fast one, which knows where tokens lie.
        texts: that are read.
        begun: whether a text begins with the beginning-of-sequence token.
        prefix: the token after which a text is read that has no other before its response.

    Raises:
        UserError: a tokenizer without offsets.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} cannot tell where its tokens lie in a text. Name a fast one "
            "(tokenizer.json) with --model_args tokenizer=FOLDER."
        )
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        part = texts[first : first + TEXTS_AT_ONCE]
        wholes = [text.whole for text in part]
        encoded = tokenizer(wholes, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for text, ids, offsets in zip(part, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            own = next((i for i, (_, end) in enumerate(offsets) if end > text.start), len(ids))
            begin = text.start - text.stripped
            spans = [(max(start - begin, 0), end - begin) for start, end in offsets[own:]]
            # A template may write the token itself; a response that is read alone needs one before it.
            if (begun and ids[:1] != [tokenizer.bos_token_id]) or own == 0:
                ids = [tokenizer.bos_token_id if begun else prefix, *ids]
            yield Tokenized(ids, [start for start, _ in spans], [end for _, end in spans])


class Part(NamedTuple):
    """Tokens of a text that fit into a model's window, of which the last are read."""

    ids: tuple[int, ...]
    scored: int


def cut_parts(tokens: Tokenized, window: int) -> list[Part]:
    """A text in parts that a model can read, each response token read once, after as much of the text as fits.

    Args:
        tokens: of the text.
        window: how many tokens the model reads at most; the last token of a part is only read, so a part has one more.

    >>> [part.scored for part in cut_parts(Tokenized(list(range(10)), [0] * 8, [1] * 8), window=6)]
    [5, 3]
    """
    ids, left, parts = tokens.ids, tokens.scored, []
    while left:
        first = len(ids) - left  # the next token that is read
        # A part begins where the text does if it can, and else with half of a window of what came before.
        start = 0 if first <= window else first - window // 2
        end = min(start + window + 1, len(ids))
        parts.append(Part(tuple(ids[start:end]), end - first))
        left = len(ids) - end
    return parts
