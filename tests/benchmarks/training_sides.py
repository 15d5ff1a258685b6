"""What the training benchmarks compare: samples in tokens, the ways of training them, and what a step takes."""

import gc
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast, TrainerCallback
from transformers import Trainer as PlainTrainer
from transformers.data import default_data_collator
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.utils import adjusted_mfu, compute_flops_per_token
from writing import run_stage

from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.training.tokens import IGNORED, prepare_rows
from recipes.training.trainer import Trainer

RELEASED = Path(__file__).parents[3] / "shared/reference/released_groups"
PADDED = 2048  # tokens to which the paper's code pads every row
END = "</s>"
Samples = list[dict[str, Any]]  # rows with `prompt` and `completion`
ModelMaker = Callable[[], PreTrainedModel]
SIDES = {
    "paper": "every row padded to 2,048",
    "trl": "TRL's random batches",
    "ours": "rows of like length",
}


def read_released(folder: Path = RELEASED) -> Samples:
    """The samples of the paper's released groups, as `python -m intervention released` writes them."""
    with tempfile.TemporaryDirectory() as scratch:
        run_stage(["-m", "intervention", "released", "--input", str(folder), "--output", f"{scratch}/released"])
        files = sorted(Path(scratch).rglob("instructions/*/train.parquet"))
        return [row for file in files for row in pl.read_parquet(file, columns=["prompt", "completion"]).to_dicts()]


def make_up_samples(n: int, seed: int = 0) -> Samples:
    """Samples of made-up words, for machines without the release.

    Lengths are log-normal: half the samples have less than 220 words, one in twenty more than 380.
    """
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghiklmnoprstuw", k=rng.randint(3, 9))) for _ in range(5000)]
    rows = []
    for _ in range(n):
        length = max(20, min(900, int(rng.lognormvariate(5.4, 0.33))))
        text = rng.choices(words, k=length)
        asked, said = " ".join(text[: length // 3]), " ".join(text[length // 3 :])
        rows.append(
            {"prompt": [{"role": "user", "content": asked}], "completion": [{"role": "assistant", "content": f"A. {said}"}]}
        )
    return rows


def make_tokenizer(samples: Samples, size: int = 32_000) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most `size` tokens made from the samples, with the chat template of training."""
    texts = (turn["content"] for row in samples for turn in [*row["prompt"], *row["completion"]])
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END, pad_token=END)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return tokenizer


def tokenize_samples(tokenizer: PreTrainedTokenizerBase, samples: Samples, n: int, seed: int = 0) -> Dataset:
    """`n` of the samples, taken at random, as they are trained."""
    return prepare_rows(tokenizer, Dataset.from_list(random.Random(seed).sample(samples, n)), PADDED)


@dataclass
class Measured:
    """What one side took for some rows: one step, from the first batch to the new weights."""

    seconds: float
    tokens: int  # that the model read, padding counted
    useful: int  # of them, the rows' own
    scored: int  # of them, those whose logits are needed: with a loss; all where the side asks for all logits
    squares: float  # tokens read, each times the length to which its row was padded
    loss: float
    memory: int  # bytes at most on the GPU, 0 on a CPU
    largest: int = 0  # tokens of the largest micro-batch

    @property
    def speed(self) -> float:
        """Useful tokens a second."""
        return self.useful / self.seconds

    @property
    def padded(self) -> float:
        """The share of the tokens read that were padding."""
        return 1 - self.useful / self.tokens

    def __add__(self, other: "Measured") -> "Measured":
        """Both one after the other; the loss is the first's."""
        sums = {
            name: getattr(self, name) + getattr(other, name) for name in ("seconds", "tokens", "useful", "scored", "squares")
        }
        most = {name: max(getattr(self, name), getattr(other, name)) for name in ("memory", "largest")}
        return Measured(**sums, **most, loss=self.loss)


class _Clock(TrainerCallback):
    """Takes the time of a training's last step. On a CPU it is the process's, which neighbours on the machine do not stretch.

    Args:
        warm: steps before.
        begin: is called when the last one begins.
    """

    seconds = 0.0

    def __init__(self, warm: int, begin: Callable[[], None]) -> None:
        self._warm, self._begin = warm, begin

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._warm == 0:
            self._start(args)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._warm:
            self._start(args)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += self._read(args)

    def _start(self, args: Any) -> None:
        self._begin()
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.seconds -= self._read(args)

    @staticmethod
    def _read(args: Any) -> float:
        if args.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def run_side(
    side: str,
    make_model: ModelMaker,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    batch: int,
    warm: int = 0,
    **settings: Any,
) -> Measured:
    """Train one step of all rows, or the same step again after some that pay for what is set up once.

    Args:
        side: `paper` (every row padded to `PADDED` tokens, logits of all tokens), `trl` (random batches, padded to the longest
            row) or `ours`.
        make_model: makes or loads the model; it is freed afterwards.
        tokenizer: gives the token to pad with.
        rows: `input_ids` and `labels`.
        batch: rows a micro-batch (on average, in ours); it divides the rows.
        warm: steps before the one that is measured.
        **settings: further ones of `SFTConfig`.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_steps=1 + warm, per_device_train_batch_size=batch,
            gradient_accumulation_steps=len(rows) // batch,
            learning_rate=2e-5, lr_scheduler_type="constant", max_length=None, report_to="none", save_strategy="no",
            logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False, **settings,
        )  # fmt: skip
        words: dict[str, Any] = {"model": make_model(), "args": arguments, "train_dataset": rows}
        if side == "paper":
            words["train_dataset"] = rows.map(_pad, fn_kwargs={"token": tokenizer.pad_token_id})
            trainer = PlainTrainer(**words, data_collator=default_data_collator)
        elif side == "trl":
            trainer = SFTTrainer(**words, processing_class=tokenizer)
        else:
            trainer = Trainer(**words, processing_class=tokenizer, ids=[str(i) for i in range(len(rows))])
        shapes: list[torch.Size] = []
        trainer.add_callback(clock := _Clock(warm, shapes.clear))
        trainer.remove_callback(PrinterCallback)
        read = words["model"].get_input_embeddings().register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
        trainer.train()
        read.remove()
    tokens = sum(shape.numel() for shape in shapes)
    trained = sum(label != IGNORED for labels in rows["labels"][:] for label in labels)
    return Measured(
        clock.seconds,
        tokens,
        useful=sum(map(len, rows["input_ids"][:])),
        scored=tokens if side == "paper" else trained,
        squares=sum(shape.numel() * shape[1] for shape in shapes),
        loss=trainer.state.log_history[0]["loss"],
        memory=torch.cuda.max_memory_allocated() if arguments.device.type == "cuda" else 0,
        largest=max(shape.numel() for shape in shapes),
    )


def _pad(row: dict[str, list[int]], token: int) -> dict[str, list[int]]:
    lacking = PADDED - len(row["input_ids"])
    return {
        "input_ids": row["input_ids"] + [token] * lacking,
        "labels": row["labels"] + [IGNORED] * lacking,
        "attention_mask": [1] * len(row["input_ids"]) + [0] * lacking,
    }


def count_flops(config: PreTrainedConfig, measured: Measured, frozen: bool = False) -> float:
    """Floating-point operations of the model's forward and backward passes.

    Padding is counted as it was read; attention is causal; what is computed again (checkpointing) is not counted.

    Args:
        config: the model's.
        measured: a step.
        frozen: the weights have no gradients of their own (LoRA), which leaves two parts of three.
    """
    length = round(measured.squares / measured.tokens)
    token = compute_flops_per_token(config, length) * adjusted_mfu(1.0, config, length)
    unasked = (measured.tokens - measured.scored) * 6 * config.vocab_size * config.hidden_size
    return (measured.tokens * token - unasked) * (2 / 3 if frozen else 1)
