"""What training and evaluation make of a question, in tokens: TRL's own preparation of a row, and lm-eval's own prompt."""

from collections.abc import Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any, NamedTuple

import datasets
from lm_eval.models.huggingface import HFLM
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.tokenizer import read_template
from recipes.tokens import TEMPLATE

IGNORED = -100  # the label of a token without loss


class Trained(NamedTuple):
    """A row as it is trained."""

    ids: list[int]  # of the whole text
    start: int  # where the loss begins
    length: int  # how many of the ids are left where the text is cut; 0 where the row is left out


class Asked(NamedTuple):
    """A question as the chat task asks it."""

    prompt: list[int]
    scored: list[int]


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--tokenizer {name} is no folder of a tokenizer and none on the Hub: {' '.join(str(error).split())}"
        ) from error


def prepare_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, Any]], max_length: int) -> list[Trained]:
    """What `recipes/sft.py` trains of rows: the data set that TRL's SFTTrainer prepares under the template of training.

    Args:
        tokenizer: the base model's; its own template is not used, as in training.
        rows: with `prompt` and `completion`.
        max_length: the recipe's: what is longer is cut.
    """
    tokenizer = deepcopy(tokenizer)
    tokenizer.chat_template = read_template(str(TEMPLATE))
    whole, cut = (_prepare(tokenizer, rows, length) for length in (None, max_length))
    return [
        Trained(
            row["input_ids"],
            next((place for place, label in enumerate(row["labels"]) if label != IGNORED), len(row["labels"])),
            len(cut[place]["input_ids"]) if place in cut else 0,
        )
        for place, row in whole.items()
    ]


def _prepare(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, Any]], max_length: int | None
) -> dict[int, dict[str, list[int]]]:
    """TRL's own preparation, by the row's place; of the trainer it asks no more than the tokenizer and where the loss is."""
    trainer = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    table = datasets.Dataset.from_list(
        [{"place": i, "prompt": row["prompt"], "completion": row["completion"]} for i, row in enumerate(rows)]
    )
    settings = SFTConfig(output_dir="unused", max_length=max_length, bf16=False, use_cpu=True, activation_checkpointing=False)
    done = SFTTrainer._prepare_dataset(trainer, table, tokenizer, settings, False, None, "train")
    return {row["place"]: row for row in done}


class Asker(HFLM):
    """lm-eval's model class without a model: how it writes a chat prompt and divides prompt and choice into tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, add_bos_token: bool | None = None) -> None:
        """Take a tokenizer; one without a chat template gets that of training, as `--model hf-prefix --chat_template` gives it.

        Args:
            tokenizer: of the model that is asked; it is not changed.
            add_bos_token: as in `--model_args`.
        """
        self.tokenizer = deepcopy(tokenizer)
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = read_template(str(TEMPLATE))
        self.add_bos_token, self.backend = add_bos_token, "causal"
        self.chat_template_args, self.custom_prefix_token_id = {}, None

    def ask(self, turn: str, choice: str) -> Asked:
        """The tokens of the prompt of a user's turn, and of the choice that is scored after it.

        Raises:
            UserError: the tokenizer's template does not take the prompt.
        """
        try:
            text = self.apply_chat_template([{"role": "user", "content": turn}])
        except Exception as error:  # a template is a program of its own and may raise anything
            raise UserError(f"the tokenizer's chat template does not take the prompt ({error}). Mend or remove it.") from error
        return Asked(*self._encode_pair(text, choice))


def spell_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; nothing for one that ends within a character, which the next one completes."""
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(backend, number) or "" for number in ids]


def count_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
