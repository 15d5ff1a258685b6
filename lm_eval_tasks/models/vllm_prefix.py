"""`--model vllm-prefix`: lm-eval's `vllm` model, asked so that the engine's prefix cache serves what questions have in common.

lm-eval's own class has the engine score whole prompts, for which vLLM does not read its cache. Here the engine generates one
token after each step of a text (`steps` says which), and gives the log-probabilities of the tokens that are scored there: over
the whole vocabulary, before anything is masked. Texts are the engine's own generation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from lm_eval.api.instance import Instance
from lm_eval.models.vllm_causallms import VLLM
from vllm import RequestOutput, SamplingParams, TokensPrompt

from lm_eval_tasks.checking.tokenizer import check_same_tokenizer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.models.beginning import Score
from lm_eval_tasks.models.common import Keep, PrefixModel, Request
from lm_eval_tasks.models.reader import Answer
from lm_eval_tasks.models.responses import hash_checkpoint
from lm_eval_tasks.models.steps import MOST_IDS, Text, batch_texts, cut_steps, find_steps, find_whole
from lm_eval_tasks.models.texts import mix_seed
from lm_eval_tasks.models.tree import Tokens

SINCE = "0.20"  # the vLLM that first has `logprob_token_ids`
AT_ONCE = 1024  # steps, whole texts or texts to be written, between two writes to the cache
COMPARED = 8  # questions whose answers are compared with the engine's own scoring before all others are asked
# By how much these may differ, in nats: what another order of sums does, and in 16 bits also the rounding of large logits.
CLOSE, CLOSE_16_BIT = 1e-3, 1.0
# Of the engine's arguments, what leaves the answers as they are: where the model lies, and how much is computed at once.
UNIMPORTANT = frozenset(
    {"model", "revision", "tokenizer", "tokenizer_revision", "seed", "gpu_memory_utilization", "max_num_seqs"}
)


class VLLMPrefixLM(PrefixModel, VLLM):
    """`vllm` with shared prefixes; has the parent score what is shorter read whole, or longer than the engine's window.

    Args:
        pretrained: a folder, or a name on the Hub.
        chat_template: a Jinja file that becomes the tokenizer's chat template.
        response_cache: a folder that keeps every answer, so that an interrupted run goes on where it was.
        batch_size: is not looked at: the engine makes its own batches.
        options: the parent's; those that it does not know are the engine's.

    Raises:
        UserError: the engine cannot be asked so, or another tokenizer is named than the checkpoint's.
    """

    name = "vllm-prefix"

    def __init__(
        self,
        pretrained: str,
        chat_template: str | None = None,
        response_cache: str | None = None,
        batch_size: str | int = "auto",  # noqa: ARG002
        **options: Any,
    ) -> None:
        check_engine(options)
        check_same_tokenizer({"pretrained": pretrained, **options})
        super().__init__(pretrained, batch_size=AT_ONCE, **{"enable_prefix_caching": True} | options)
        STARTED.add(self)
        self._adapter: str | None = options.get("lora_local_path")
        self._read = self._cached = 0  # tokens of prompts, and those of them that the engine had in its cache
        self.prepare(chat_template, response_cache, self._hash)
        if chat_template:
            self.hf_chat_template = self.tokenizer.chat_template

    def end(self) -> None:
        """End the engine's processes, which hold a GPU's memory until then."""
        self.model.llm_engine.engine_core.shutdown()
        STARTED.discard(self)

    def _hash(self) -> bytes:
        """What tells this model from all others: its files, and how the engine computes it."""
        name, revision = self.model_args["model"], self.model_args["revision"]
        try:
            found = name if Path(name).exists() else snapshot_download(name, revision=revision, local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError) as error:
            raise UserError(
                f"the response cache tells the answers of {name!r} from other models' by its files, and they are no folder "
                "and not in the Hub's cache here. Name a folder that holds the model, or leave --use_cache out."
            ) from error
        settings = {key: value for key, value in self.model_args.items() if key not in UNIMPORTANT}
        paths = [Path(path) for path in (found, self._adapter) if path]
        return hash_checkpoint(paths, "vllm", version("vllm"), self._dtype, self.max_length, settings)

    @property
    def _dtype(self) -> str:
        return str(self.model.llm_engine.model_config.dtype).removeprefix("torch.")

    def _make_score(self) -> Score:
        return lambda ids, n: self._read_whole({0: (tuple(ids[:-n]), tuple(ids[-n:]))})[0][0]

    def _write(self, requests: Sequence[Instance], keys: Sequence[object]) -> Iterator[list[str]]:
        """Texts by the engine; a sampled one has a seed of its own, so that it is the same whatever is written beside it."""
        for start in range(0, len(requests), AT_ONCE):
            pairs = zip(requests[start : start + AT_ONCE], keys[start : start + AT_ONCE], strict=True)
            yield VLLM.generate_until(self, [self._give_seed(request, key) for request, key in pairs], True)
        self._tell_cached()

    def _model_generate(self, requests: list[list[int]], generate: bool = False, *options: Any, **settings: Any) -> Any:
        outputs = super()._model_generate(requests, generate, *options, **settings)
        if generate:
            self._count(outputs)
        return outputs

    def _count(self, outputs: Sequence[RequestOutput]) -> None:
        self._read += sum(len(output.prompt_token_ids) for output in outputs)
        self._cached += sum(output.num_cached_tokens or 0 for output in outputs)

    def _tell_cached(self) -> None:
        """Say what the cache gave since this was said last."""
        if self._read:
            self._say(f"{self._cached / self._read:.1%} of {self._read:,} prompt tokens came from the engine's prefix cache.")
        self._read = self._cached = 0

    def _give_seed(self, request: Instance, key: object) -> Instance:
        prompt, settings = request.args
        if settings.get("do_sample") or settings.get("temperature"):
            settings = {"seed": mix_seed(self.model_args["seed"], [key])} | settings
        return Instance("generate_until", request.doc, (prompt, settings), request.idx)

    def _ask(self, requests: list[Request], left: list[int], keep: Keep, **_: Any) -> None:
        texts: dict[int, Text] = {index: (tuple(requests[index][1]), tuple(requests[index][2])) for index in left}
        lengths = {index: sum(map(len, text)) for index, text in texts.items()}
        long = {index for index, length in lengths.items() if length > self.max_length}
        if long:
            self._say(
                f"{len(long)} inputs are longer than the engine's {self.max_length} tokens; they are cut, as `vllm` does."
            )
        block = self.model.llm_engine.vllm_config.cache_config.block_size
        # A whole text has to leave room for one token more, a step none.
        whole = find_whole({index: text for index, text in texts.items() if lengths[index] < self.max_length}, block) | long
        stepped = {index: text for index, text in texts.items() if index not in whole}
        self._tell_tokens(requests, stepped)
        self._check_exact(stepped)
        self._read = self._cached = 0
        for part in batch_texts(stepped, AT_ONCE):
            keep(self._ask_steps(part))
        rest = iter(sorted(whole, key=texts.get))
        while part := list(islice(rest, AT_ONCE)):
            keep(self._read_whole({index: texts[index] for index in part}))
        self._tell_cached()

    def _tell_tokens(self, requests: list[Request], texts: Mapping[int, Text]) -> None:
        """Say where more is asked than one token of a few after each prompt."""
        letters = {requests[index][0][1] for index, text in texts.items() if requests[index][0] and len(text[1]) > 1}
        if several := sorted(letter for letter in letters if len(letter.strip()) == 1):
            self._say(f"{several[0]!r} is more than one token; such letters are scored token by token, in a request each.")
        after: dict[Tokens, set[int]] = {}
        for context, continuation in texts.values():
            after.setdefault(context, set()).add(continuation[0])
        if many := sum(len(tokens) > MOST_IDS for tokens in after.values()):
            self._say(
                f"more than {MOST_IDS} tokens are scored after {many} prompts, which is what one request can ask of vLLM; "
                "they are asked in several."
            )

    def _ask_steps(self, texts: Mapping[int, Text]) -> dict[int, Answer]:
        """Answers by the numbers of texts, from one generated token after each of their steps."""
        asked = list(cut_steps(find_steps(texts.values())))
        outputs = self.model.generate(
            [TokensPrompt(prompt_token_ids=list(step)) for step, _ in asked],
            [SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=ids, detokenize=False) for _, ids in asked],
            use_tqdm=False,
            lora_request=self.lora_request,
        )
        self._count(outputs)
        logprobs: dict[tuple[Tokens, int], float] = {}
        best: dict[Tokens, int] = {}
        for (step, ids), output in zip(asked, outputs, strict=True):
            (completion,) = output.outputs
            best[step] = completion.token_ids[0]
            logprobs |= {(step, token): completion.logprobs[0][token].logprob for token in ids}
        answers = {}
        for number, (context, continuation) in texts.items():
            scored = [(context + continuation[:i], token) for i, token in enumerate(continuation)]
            answers[number] = (sum(logprobs[pair] for pair in scored), all(best[step] == token for step, token in scored))
        return answers

    def _read_whole(self, texts: Mapping[int, Text]) -> dict[int, Answer]:
        """Answers by the numbers of texts, as the parent has the engine score whole prompts, without reading its cache."""
        requests = [(None, list(context), list(continuation)) for context, continuation in texts.values()]
        return dict(zip(texts, VLLM._loglikelihood_tokens(self, requests, True), strict=True))

    def _check_exact(self, texts: Mapping[int, Text]) -> None:
        """Compare a few answers with the engine's own scoring of whole prompts, once, and say by how much they differ.

        Raises:
            UserError: by more than rounding does.
        """
        if "exact" in self._said or not texts:
            return
        self._said.add("exact")
        contexts = set(islice(dict.fromkeys(context for context, _ in texts.values()), COMPARED))
        few = {number: text for number, text in texts.items() if text[0] in contexts and sum(map(len, text)) < self.max_length}
        theirs = self._read_whole(few)  # which fills the cache that is read next
        ours = self._ask_steps(few)
        gap = max((abs(ours[number][0] - theirs[number][0]) for number in few), default=0.0)
        allowed = CLOSE if self._dtype == "float32" else CLOSE_16_BIT
        if not gap <= allowed:
            raise UserError(
                f"what vLLM {version('vllm')} answers with its prefix cache and where it scores whole prompts is "
                f"{gap:.3g} nats apart; rounding explains {allowed:g} in {self._dtype}. Ask with --model vllm or hf-prefix, or "
                "with another version of vLLM."
            )
        self._say(
            f"{len(few)} answers after {len(contexts)} prompts are those of the engine's scoring of whole prompts, to "
            f"{gap:.1g} nats ({self._dtype})."
        )


STARTED: WeakSet[VLLMPrefixLM] = WeakSet()


@contextmanager
def end_engines() -> Iterator[None]:
    """End the engines that are started meanwhile: what refers to a model after its run would keep its engine's memory."""
    before = {*STARTED}
    try:
        yield
    finally:
        for lm in {*STARTED} - before:
            lm.end()


def check_engine(options: Mapping[str, Any]) -> None:
    """Raise a `UserError` where the engine that is installed cannot be asked so, or is not with these options."""
    if "logprob_token_ids" not in SamplingParams.__struct_fields__:
        raise UserError(
            f"vLLM {version('vllm')} cannot be asked for single tokens: `logprob_token_ids` is in {SINCE} and later. "
            f"pip install 'vllm>={SINCE}', or ask with --model vllm or hf-prefix."
        )
    if adapter := options.get("peft"):
        raise UserError(f"peft={adapter}: vLLM takes an adapter as lora_local_path={adapter}, and one merged as pretrained=.")
    if int(options.get("data_parallel_size", 1)) > 1:
        raise UserError(
            "data_parallel_size: with it lm-eval loads new engines for each call, and each begins with an empty prefix cache. "
            "Split one engine over the GPUs (tensor_parallel_size), or run once a GPU with a part of the questions each."
        )
    if (mode := options.get("logprobs_mode", "raw_logprobs")) != "raw_logprobs":
        raise UserError(f"logprobs_mode={mode}: log-probabilities over the whole vocabulary are needed. Leave it out.")
