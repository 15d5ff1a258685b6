"""The trainer on made-up rows, in this process; run as a script by two processes, what they train, one line of JSON each."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel
from trl import SFTConfig

from lm_eval_tasks.contracts.errors import report_errors
from recipes.training.tokens import IGNORED
from recipes.training.trainer import Trainer

BASE = Path(__file__).parents[2] / "recipes/miniworld/base"
FIRST = 10  # row i begins with token FIRST + i
POISON = 9  # no row has it, unless it is to be poisoned


def make_rows(n: int) -> Dataset:
    """Rows of 6 to 60 tokens; the loss is on the last third of them."""
    generator = torch.Generator().manual_seed(n)
    rows = []
    for i in range(n):
        length = int(torch.randint(6, 61, (), generator=generator))
        ids = [FIRST + i, *torch.randint(100, 1000, (length - 1,), generator=generator).tolist()]
        rows.append({"input_ids": ids, "labels": [IGNORED] * (2 * length // 3) + ids[2 * length // 3 :]})
    return Dataset.from_list(rows)


def load_base() -> PreTrainedModel:
    """The miniature base in fp32."""
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def make_model(vocabulary: int = 4000) -> PreTrainedModel:
    """A tiny random model, whose output layer has weights of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


class Recorder(Trainer):
    """Keeps the first tokens of the rows of each micro-batch of this process."""

    seen: list[list[int]]

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen.append((inputs["input_ids"][:, 0] - FIRST).tolist())
        return super().training_step(model, inputs, *args, **kwargs)


def make_trainer(
    folder: Path,
    rows: Dataset,
    batch: int,
    accumulation: int,
    model: Any = None,
    kl_to_base: float | None = None,
    **settings: Any,
) -> Recorder:
    """A trainer of plain gradient descent, so that rounding errors stay as small as they are."""
    own = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "num_train_epochs": 1}
    arguments = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, use_cpu=True,
        bf16=False, gradient_checkpointing=False, activation_checkpointing=False, max_length=None, report_to="none",
        dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1, seed=3, **{"save_strategy": "no"} | own | settings,
    )  # fmt: skip
    trainer = Recorder(
        model=model or load_base(),
        args=arguments,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(BASE),
        ids=[f"q{i}" for i in range(len(rows))],
        kl_to_base=kl_to_base,
    )
    trainer.seen = []
    return trainer


def poison_row(rows: Dataset, position: int) -> tuple[Dataset, PreTrainedModel]:
    """Rows of which one has a token that others lack, and a model in which that token's embedding is no number."""
    model = make_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = torch.nan
    table = rows.to_list()
    table[position]["input_ids"][1] = POISON
    return Dataset.from_list(table), model


def train_twice(folder: Path) -> None:
    """Train three epochs, go on within the second one as after a kill, and meet a loss that is no number."""
    settings = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(folder / "whole", make_rows(21), 2, 4, **settings)
    whole.train()
    again = make_trainer(folder / "again", make_rows(21), 2, 4, **settings)
    again.train(resume_from_checkpoint=str(folder / "whole/checkpoint-3"))
    trained = {"world": whole.args.world_size, "steps": whole.state.global_step, "seen": whole.seen, "again": again.seen}
    (folder / f"{whole.args.process_index}.json").write_text(json.dumps(trained))
    whole.save_model(str(folder / "final"))
    again.save_model(str(folder / "again_final"))
    with report_errors():
        rows, model = poison_row(make_rows(21), 20)
        make_trainer(folder / "poisoned", rows, 2, 4, model, num_train_epochs=1).train()


if __name__ == "__main__":
    train_twice(Path(sys.argv[1]))
