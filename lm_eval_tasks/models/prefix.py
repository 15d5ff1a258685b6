"""`--model hf-prefix`: lm-eval's `hf` model, which computes what questions have in common only once.

Few-shot questions share their demonstrations, the cyclic orders of a question its stem, its option texts the whole question.
`tree` says what is computed once, `reader` computes it, `responses` remembers it; texts are written after prompts that
`continuing` reads. Here they meet lm-eval.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import read_template
from lm_eval_tasks.models.beginning import warn_of_beginning
from lm_eval_tasks.models.continuing import PromptReader, write_on
from lm_eval_tasks.models.reader import SHARING, Answer, Shared, TreeReader
from lm_eval_tasks.models.responses import Responses, hash_model
from lm_eval_tasks.models.texts import write_texts
from lm_eval_tasks.models.tokens import TokenReading, read_tokens
from lm_eval_tasks.models.transfers import run_ahead
from lm_eval_tasks.models.tree import Input, PackedRow, Tokens, Trunk, batch_rows, pack_rows, plan_trunks

logger = logging.getLogger(__name__)

Ending = tuple[bool, str, str]
Request = tuple[tuple[str, str], list[int], list[int]]

AUTO_BATCH = {"cpu": 16, "cuda": 128}  # where lm-eval's `--batch_size auto` is given; halved until it fits
TEXTS = 1024  # texts tokenised at a time
PLAIN_CHUNK = 512  # requests asked between two writes to the cache where prefixes are not shared


@register_model("hf-prefix")
class PrefixLM(HFLM):
    """`hf` with shared prefixes; asks the parent where an architecture or an input makes sharing unsafe.

    Args:
        chat_template: a Jinja file that becomes the tokenizer's chat template.
        response_cache: a folder that keeps every answer, so that an interrupted run goes on where it was.
    """

    def __init__(self, *args: Any, chat_template: str | None = None, response_cache: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if accelerator := getattr(self, "accelerator", None):
            # The parent does this for several GPUs of one machine alone.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        if chat_template:
            self.tokenizer.chat_template = read_template(chat_template)
        self._said: set[str] = set()
        self._encoded: dict[str, list[int]] = {}
        self._continuations: dict[Ending, list[int]] = {}
        self._joined: set[Ending] = set()
        self._responses: Responses | None = None
        self._prompts: PromptReader | None = None
        if response_cache:
            fingerprint = hash_model(self.model, self.max_length, self.softmax_dtype)
            self._responses = Responses(response_cache, self.rank, fingerprint)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Log-likelihoods of continuations, as the parent's."""
        self._check_beginning(requests)
        self._encode_ahead(request.args for request in requests)
        answers = super().loglikelihood(requests, disable_tqdm)
        self._encoded.clear()
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts, as the parent's; kept and found again where a response cache is named, sampled ones too."""
        return write_texts(self, super().generate_until, requests, self._responses, disable_tqdm)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> torch.Tensor:
        """Texts, as the parent's; prompts are read once for all their samples, and what they share once for all."""
        mask = options.get("attention_mask")
        reader = TreeReader(self.model) if self.backend == "causal" and self._shares() else None
        plain = mask is not None and not {"past_key_values", "num_beams"} & options.keys()
        if plain and reader and reader.can_pack(max_length):
            self._prompts = self._prompts or PromptReader(reader)
            return write_on(self, super()._model_generate, self._prompts.read(context, mask), max_length, stop, options)
        return super()._model_generate(context, max_length, stop, **options)

    def _shares(self) -> bool:
        """Whether the architecture allows that prefixes are shared."""
        return self.model.config.get_text_config().model_type in SHARING and not self.mixed_precision_dtype

    def _check_beginning(self, requests: list[Instance]) -> None:
        """Read a few prompts with and without the beginning-of-sequence token, once, and say so where it matters."""
        texts = [request.args[0] for request in requests if request.args[0]]
        if "beginning" in self._said or not texts or self.backend != "causal" or self.tokenizer.bos_token_id is None:
            return
        self._said.add("beginning")
        warn_of_beginning(self.model, self.tokenizer, texts, self.tok_encode(texts[0])[0] == self.tokenizer.bos_token_id)

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

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
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

        left = [index for index, answer in enumerate(answers) if answer is None]
        shared, plain = self._divide(requests, left)
        self._ask_shared(requests, shared, keep)
        for start in range(0, len(plain), PLAIN_CHUNK):
            part = plain[start : start + PLAIN_CHUNK]
            found = super()._loglikelihood_tokens([requests[index] for index in part], True, override_bs)
            keep(dict(zip(part, found, strict=True)))
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

    def _divide(self, requests: list[Request], left: list[int]) -> tuple[list[int], list[int]]:
        """The requests for which prefixes are shared, and those that the parent is asked."""
        kind = self.model.config.get_text_config().model_type
        if kind not in SHARING or self.mixed_precision_dtype:
            reason = f"the architecture {kind} is not known to allow sharing" if kind not in SHARING else "mixed precision"
            self._say(f"{reason}; all is asked as `hf` does.")
            return [], left
        long = {index for index in left if len(requests[index][1]) + len(requests[index][2]) > self.max_length + 1}
        if long:
            self._say(f"{len(long)} inputs are longer than the model's {self.max_length} tokens; they are asked as `hf` does.")
        return [index for index in left if index not in long], [index for index in left if index in long]

    def _say(self, message: str) -> None:
        if message not in self._said and self.rank == 0:
            logger.warning("hf-prefix: %s", message)
        self._said.add(message)

    def _ask_shared(self, requests: list[Request], left: list[int], keep: Any) -> None:
        """Ask requests with shared prefixes; `keep` gets the answers of each batch."""
        texts = {index: (*requests[index][1], *requests[index][2]) for index in left}
        self._read_texts(texts, {index: len(requests[index][2]) for index in left}, TreeReader.read_rows, keep)

    def read_tokens(
        self, texts: dict[int, Tokens], scored: dict[int, int], keep: Callable[[dict[int, TokenReading]], None]
    ) -> None:
        """Read the last tokens of texts, none longer than the model's window and one token more.

        Args:
            texts: token ids by the number of a text, each of two or more.
            scored: how many of its last tokens are read, by the same number.
            keep: gets the readings of each batch, by the same number.
        """
        self._read_texts(texts, scored, read_tokens, keep, self._shares())

    def _read_texts(
        self, texts: dict[int, Tokens], scored: dict[int, int], read: Callable[..., Any], keep: Any, share: bool = True
    ) -> None:
        """Have `read` read the last tokens of texts after what they share; `keep` gets what it found of each batch."""
        alike: dict[Tokens, list[int]] = {}
        for index, tokens in texts.items():
            alike.setdefault(tokens[:-1], []).append(index)
        inputs = {Input(tokens, max(scored[index] for index in indices)): indices for tokens, indices in alike.items()}
        asked = {item: [list(texts[index][-scored[index] :]) for index in indices] for item, indices in inputs.items()}
        reader = TreeReader(self.model, self.softmax_dtype or torch.float32)
        pack = reader.can_pack(max((len(item.tokens) for item in inputs), default=0))
        auto = AUTO_BATCH.get(self.device.type, AUTO_BATCH["cpu"])
        size = self.batch_size if isinstance(self.batch_size, int) else auto
        trunks = (
            plan_trunks(inputs, size, reader.find_ratio(), pack) if share else [Trunk((), pack_rows(list(inputs), 0, None))]
        )

        def ask(shared: Shared, batch: list[PackedRow]) -> Callable[[], None]:
            own = {item: asked[item] for row in batch for item in row.paths}
            found = read(reader, shared, batch, own)
            return lambda: keep(
                {index: answer for item, answers in found for index, answer in zip(inputs[item], answers, strict=True)}
            )

        for trunk in trunks:
            size = self._ask_trunk(reader.read_trunk(trunk.tokens), trunk.rows, size, ask)

    def _ask_trunk(
        self, shared: Shared, rows: list[PackedRow], size: int, ask: Callable[[Shared, list[PackedRow]], Callable[[], None]]
    ) -> int:
        """Ask what follows a trunk, in smaller batches where memory runs out; returns the batch size that fitted.

        `ask` begins with a batch and returns what ends it.
        """
        while rows:
            done: set[int] = set()
            try:
                for batch in run_ahead(batch_rows(rows, size), lambda batch: ask(shared, batch)):
                    done.update(map(id, batch))
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or size == 1:
                    raise
                size //= 2
                self._say(f"out of memory; going on with batch size {size}.")
                clear_device_cache(garbage_collection=True)
            rows = [row for row in rows if id(row) not in done]
        return size


def find_ending(context: str, continuation: str) -> Ending:
    """What decides a continuation's tokens: whether its line is the first, what of it the context holds, and itself."""
    start = context.rfind("\n") + 1
    return start > 0, context[start:], continuation
