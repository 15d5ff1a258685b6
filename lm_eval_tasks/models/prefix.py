"""`--model hf-prefix`: lm-eval's `hf` model, which computes what questions have in common only once.

Few-shot questions share their demonstrations, the cyclic orders of a question its stem, its option texts the whole question.
`tree` says what is computed once, `reader` computes it, `responses` remembers it; texts are written after prompts that
`continuing` reads. Here they meet lm-eval.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from lm_eval_tasks.models.beginning import Score, score_with
from lm_eval_tasks.models.common import Keep, PrefixModel, Request
from lm_eval_tasks.models.continuing import PromptReader, write_on
from lm_eval_tasks.models.reader import SHARING, Shared, TreeReader
from lm_eval_tasks.models.responses import hash_model
from lm_eval_tasks.models.texts import write_in_batches
from lm_eval_tasks.models.tokens import TokenReading, read_tokens
from lm_eval_tasks.models.transfers import run_ahead
from lm_eval_tasks.models.tree import Input, PackedRow, Tokens, Trunk, batch_rows, pack_rows, plan_trunks

AUTO_BATCH = {"cpu": 16, "cuda": 128}  # where lm-eval's `--batch_size auto` is given; halved until it fits
PLAIN_CHUNK = 512  # requests asked between two writes to the cache where prefixes are not shared


@register_model("hf-prefix")
class PrefixLM(PrefixModel, HFLM):
    """`hf` with shared prefixes; asks the parent where an architecture or an input makes sharing unsafe.

    Args:
        chat_template: a Jinja file that becomes the tokenizer's chat template.
        response_cache: a folder that keeps every answer, so that an interrupted run goes on where it was.
    """

    name = "hf-prefix"

    def __init__(self, *args: Any, chat_template: str | None = None, response_cache: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if accelerator := getattr(self, "accelerator", None):
            # The parent does this for several GPUs of one machine alone.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        self._prompts: PromptReader | None = None
        self.prepare(chat_template, response_cache, lambda: hash_model(self.model, self.max_length, self.softmax_dtype))

    def _make_score(self) -> Score:
        return score_with(self.model)

    def _write(self, requests: Sequence[Instance], keys: Sequence[object]) -> Iterator[list[str]]:
        yield from write_in_batches(self, partial(HFLM.generate_until, self), requests, keys)

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

    def _ask(self, requests: list[Request], left: list[int], keep: Keep, override_bs: int | None = None) -> None:
        shared, plain = self._divide(requests, left)
        self._ask_shared(requests, shared, keep)
        for start in range(0, len(plain), PLAIN_CHUNK):
            part = plain[start : start + PLAIN_CHUNK]
            found = HFLM._loglikelihood_tokens(self, [requests[index] for index in part], True, override_bs)
            keep(dict(zip(part, found, strict=True)))

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

    def _ask_shared(self, requests: list[Request], left: list[int], keep: Keep) -> None:
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
