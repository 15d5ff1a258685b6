"""Which tokens of a response carry no loss because the base model hardly gives them: `--token_mask_threshold`.

Training on tokens that a model finds improbable is what makes it forget elsewhere; without their loss most of that harm is said
to be gone ("selective token masking", arXiv 2501.14315, where tokens above a perplexity of 2.5, a probability of 0.4, are
masked). Here it is the base model's own probability in the training text that decides, once, before anything is trained. What
is unlikely is masked like any other span of a row (`recipes.training.masks`), so that counts, dry runs, manifests and cards
tell it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import patch_environment
from datasets.fingerprint import Hasher
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig, SFTConfig, get_quantization_config
from trl.trainer.utils import add_fused_lm_head

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.bases import identify_base
from recipes.training.masks import IGNORED, MASKED, list_spans
from recipes.training.tokens import locate_tokens, prepare_rows
from recipes.training.trainer import score_labels_alone

if TYPE_CHECKING:
    from datasets import Dataset

READ_AT_ONCE = 8  # rows


def mask_unlikely(
    tokenizer: PreTrainedTokenizerBase,
    rows: "Dataset",
    training: SFTConfig,
    model: ModelConfig,
    threshold: float,
    add_bos_token: bool | None = None,
) -> "Dataset":
    """Rows that mask, beside what they mask already, the response tokens that the base model hardly gives.

    Args:
        tokenizer: the base model's, with the chat template of training; it tells which characters a token has.
        rows: as `read_rows` gives them.
        training: `max_length`, and the device and the arithmetic that the base is read with.
        model: the base model.
        threshold: a probability; a token of less is masked. The end of the sequence is none of the response.
        add_bos_token: as a recipe says it.

    Returns:
        The rows with a column `masked`.

    Raises:
        UserError: rows that cannot be trained, or a tokenizer that does not tell which characters a token has.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path} does not tell which characters a token has, so that nothing can be "
            "masked. Take a fast tokenizer, or leave out --token_mask_threshold."
        )
    prepared = prepare_rows(tokenizer, rows, training.max_length, add_bos_token)
    scores = read_base(prepared, training, model)
    masked = [
        [*list_spans(row), *_list_unlikely(tokenizer, row, trained, values, threshold)]
        for row, trained, values in zip(rows, prepared, scores, strict=True)
    ]
    kept = rows.remove_columns(MASKED) if MASKED in rows.column_names else rows
    return kept.add_column(MASKED, masked)


def _list_unlikely(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], trained: dict[str, Any], scores: Sequence[float], threshold: float
) -> list[dict[str, int]]:
    """The spans of a row's response that tokens below the threshold have; neighbours are not joined."""
    length = len(row["completion"][-1]["content"])
    spans = []
    offsets = locate_tokens(tokenizer, row, trained["input_ids"])
    for (begin, end), label, score in zip(offsets, trained["labels"], scores, strict=True):
        start, stop = max(begin, 0), min(end, length)
        if label != IGNORED and start < stop and score < math.log(threshold):
            spans.append({"turn": 0, "start": start, "end": stop})
    return spans


def read_base(prepared: "Dataset", training: SFTConfig, model: ModelConfig) -> list[list[float]]:
    """The base model's log-probability, in nats, of each label of the rows; 0 where there is none.

    They are kept beside the data set, and among processes the first of a machine reads for all.

    Args:
        prepared: `input_ids` and `labels`, as `prepare_rows` gives them.
        training: the device and the arithmetic.
        model: the base model.
    """
    loaded: list[PreTrainedModel] = []

    def read(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not loaded:
            loaded.append(_load_base(training, model))
        return {"log_probs": score_labels(loaded[0], batch["input_ids"], batch["labels"], training.bf16)}

    settings = [prepared._fingerprint, identify_base(model), model, training.bf16, training.device.type]
    with PartialState().local_main_process_first(), _load_alone(training):
        scored = prepared.map(
            read, batched=True, batch_size=READ_AT_ONCE, remove_columns=prepared.column_names, desc="Reading the base model",
            new_fingerprint=Hasher.hash(settings),
        )  # fmt: skip
    return list(scored["log_probs"][:])


def score_labels(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], bf16: bool = False
) -> list[list[float]]:
    """A model's log-probability, in nats, of each label of some texts; 0 where there is none.

    Args:
        model: with TRL's fused output layer.
        texts: the tokens of each.
        labels: of each text's tokens, `IGNORED` where nothing is asked.
        bf16: compute in bfloat16.
    """
    device = model.device
    ids = pad_sequence([torch.tensor(text) for text in texts], batch_first=True).to(device)
    wanted = pad_sequence([torch.tensor(row) for row in labels], batch_first=True, padding_value=IGNORED).to(device)
    seen = pad_sequence([torch.ones(len(text), dtype=torch.long) for text in texts], batch_first=True).to(device)
    arithmetic = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
    with torch.no_grad(), arithmetic, score_labels_alone(device):
        found = model(input_ids=ids, attention_mask=seen, labels=wanted, fused_lm_head=True).log_probs.float().cpu()
    return [[0.0, *row[: len(text) - 1].tolist()] for row, text in zip(found, texts, strict=True)]


def _load_base(training: SFTConfig, model: ModelConfig) -> PreTrainedModel:
    where = {"device_map": "auto"} if training.device.type == "cuda" else {}  # the other processes wait, their GPUs are free
    loaded = AutoModelForCausalLM.from_pretrained(
        model.model_name_or_path, revision=model.model_revision, dtype=model.dtype,
        quantization_config=get_quantization_config(model), attn_implementation=model.attn_implementation, **where,
    ).eval()  # fmt: skip
    add_fused_lm_head(loaded)
    return loaded


@contextmanager
def _load_alone(training: SFTConfig) -> Iterator[None]:
    """Let one process load a model whole, where the launched engine would share out its weights among all."""
    plugin = training.deepspeed_plugin
    whole = plugin.zero3_init_context_manager(enable=False) if plugin else nullcontext()
    with whole, patch_environment(ACCELERATE_USE_FSDP="false"):
        yield
