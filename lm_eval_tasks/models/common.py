"""What `hf-prefix` and `vllm-prefix` have in common: token ids found once, answers and texts that are kept, the checks."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tqdm import tqdm

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import read_template
from lm_eval_tasks.models.beginning import Score, warn_of_beginning
from lm_eval_tasks.models.reader import Answer
from lm_eval_tasks.models.responses import Responses
from lm_eval_tasks.models.texts import write_texts

logger = logging.getLogger(__name__)

Ending = tuple[bool, str, str]
Request = tuple[tuple[str, str], list[int], list[int]]
Keep = Callable[[dict[int, Answer]], None]

TEXTS = 1024  # texts tokenised at a time


class PrefixModel(TemplateLM):
    """A model class of lm-eval that computes shared prefixes once: all of it but the computing.

    It stands before the class of lm-eval that it extends, whose own way of asking is the one that it falls back to.

    Attributes:
        name: by which `--model` and messages name the class.
    """

    name: str

    def prepare(self, chat_template: str | None, response_cache: str | None, fingerprint: Callable[[], bytes]) -> None:
        """What a class calls at the end of its own `__init__`.

        Args:
            chat_template: a Jinja file that becomes the tokenizer's chat template.
            response_cache: a folder that keeps every answer, so that an interrupted run goes on where it was.
            fingerprint: what tells the model from all others; called where answers are kept.
        """
        if chat_template:
            self.tokenizer.chat_template = read_template(chat_template)
        self._said: set[str] = set()
        self._encoded: dict[str, list[int]] = {}
        self._continuations: dict[Ending, list[int]] = {}
        self._joined: set[Ending] = set()
        self._responses = Responses(response_cache, self.rank, fingerprint()) if response_cache else None

    @abstractmethod
    def _ask(self, requests: list[Request], left: list[int], keep: Keep, **options: Any) -> None:
        """Ask the requests of these numbers; `keep` gets answers by the same numbers, as they come."""

    @abstractmethod
    def _write(self, requests: Sequence[Instance], keys: Sequence[object]) -> Iterator[list[str]]:
        """The texts of requests in their order, some at a time; a key tells a request from all others."""

    @abstractmethod
    def _make_score(self) -> Score:
        """What scores the last tokens of a text in the plainest way."""

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Log-likelihoods of continuations, as the parent's."""
        self._check_beginning(requests)
        self._encode_ahead(request.args for request in requests)
        answers = super().loglikelihood(requests, disable_tqdm)
        self._encoded.clear()
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts, as the parent's; kept and found again where a response cache is named, sampled ones too."""
        return write_texts(self, self._write, requests, self._responses, disable_tqdm)

    def _check_beginning(self, requests: list[Instance]) -> None:
        """Read a few prompts with and without the beginning-of-sequence token, once, and say so where it matters."""
        texts = [request.args[0] for request in requests if request.args[0]]
        if "beginning" in self._said or not texts or self.backend != "causal" or self.tokenizer.bos_token_id is None:
            return
        self._said.add("beginning")
        begun = self.tok_encode(texts[0])[0] == self.tokenizer.bos_token_id
        warn_of_beginning(self._make_score(), self.tokenizer, texts, begun)

    def _encode_ahead(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Tokenise in batches what `_encode_pair` will ask for, which is several times faster than one text at a time."""
        start = self.tokenizer.decode(self.prefix_token_id)
        texts: dict[str, None] = {}
        found: set[Ending] = set()
        for context, continuation in pairs:
            ending = find_ending(context, continuation)
            # The parent treats these in ways of its own.
            if self.backend != "causal" or not context or context[-1].isspace() or context.startswith(start):
                continue
            texts[context] = None
            if ending not in found and ending not in self._continuations:
                found.add(ending)
                texts[context + continuation] = None
        options = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        ordered = list(texts)
        for first in range(0, len(ordered), TEXTS):
            part = ordered[first : first + TEXTS]
            self._encoded.update(zip(part, self.tokenizer(part, **options)["input_ids"], strict=True))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of context and continuation, as the parent's, but not all anew for each choice of each question.

        A continuation's tokens depend on the text before it through its last line alone, so they are found (from the whole
        text) once for each last line and continuation: once a task where prompts end in "Answer:".
        """
        if context not in self._encoded:
            return super()._encode_pair(context, continuation)
        own, ending = self._encoded[context], find_ending(context, continuation)
        if (known := self._continuations.get(ending)) is None:
            whole = self._encoded.pop(context + continuation, None) or self.tok_encode(context + continuation)
            known = whole[len(own) :]
            if whole[: len(own)] == own:
                self._continuations[ending] = known
            else:
                self._joined.add(ending)
        return own, known

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = False, **options: Any) -> list[Answer]:
        self._check_joined(requests)
        answers: list[Answer | None] = [None] * len(requests)
        keys: list[bytes] = []
        if self._responses:
            keys = [self._responses.make_key(context, continuation) for _, context, continuation in requests]
            answers = [self._responses.find(key) for key in keys]
        bar = tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Running loglikelihood requests")
        if found := sum(answer is not None for answer in answers):
            self._say(f"{found} of {len(answers)} answers are in the response cache already.")
            bar.update(found)

        def keep(found: dict[int, Answer]) -> None:
            for index, answer in found.items():
                answers[index] = answer
                self.cache_hook.add_partial("loglikelihood", requests[index][0], answer)
            if self._responses:
                self._responses.keep((keys[index], answer) for index, answer in found.items())
            bar.update(len(found))

        self._ask(requests, [index for index, answer in enumerate(answers) if answer is None], keep, **options)
        bar.close()
        return answers

    def _check_joined(self, requests: list[Request]) -> None:
        """Say which continuations begin within the prompt's last token, and refuse one of which nothing is left to score.

        Raises:
            UserError: a continuation has no token of its own.
        """
        for pair, _, continuation in requests:
            if not continuation:
                raise UserError(
                    f"{pair[1]!r} after {pair[0][-12:]!r} has no token of its own: the tokenizer writes it as one token with "
                    "the end of the prompt, so nothing can be scored. Leave its question out, or write the choice otherwise."
                )
        if self._joined:
            _, line, first = min(self._joined)
            self._say(
                f"the tokenizer writes the beginning of {len(self._joined)} continuations as one token with the end of the "
                f"prompt ({first!r} after {line[-12:]!r} is the first); as in `hf`, what comes after that token is scored."
            )
            self._joined.clear()

    def _say(self, message: str) -> None:
        if message not in self._said and self.rank == 0:
            logger.warning("%s: %s", self.name, message)
        self._said.add(message)


def find_ending(context: str, continuation: str) -> Ending:
    """What decides a continuation's tokens: whether its line is the first, what of it the context holds, and itself."""
    start = context.rfind("\n") + 1
    return start > 0, context[start:], continuation
