"""What training and evaluation make of a question, in tokens: the ids and labels that are trained, and lm-eval's own prompt."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from datasets import Dataset
from lm_eval.models.huggingface import HFLM
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_ENDING, CHAT_TEMPLATE, read_template
from recipes.training.tokens import HIDDEN, IGNORED, READ, tokenize_rows


class Trained(NamedTuple):
    """A row as it is trained."""

    ids: list[int]  # of the whole text
    start: int  # where the response begins
    masked: frozenset[int] = frozenset()  # the positions of its tokens without loss


class Asked(NamedTuple):
    """A question as the chat task asks it."""

    prompt: list[int]
    scored: list[int]


def read_trained(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, Any]], add_bos_token: bool | None = None
) -> list[Trained]:
    """What is trained of rows, however long.

    Args:
        tokenizer: the base model's, with the chat template of training.
        rows: of an instruction set.
        add_bos_token: as a recipe says it.

    Raises:
        UserError: they cannot be trained, as `tokenize_rows` says.
    """
    table = Dataset.from_list([{name: row.get(name) for name in ("id", *READ)} for row in rows])
    trained = []
    for row in tokenize_rows(tokenizer, table, add_bos_token):
        silent = [position for position, label in enumerate(row["labels"]) if label == IGNORED]
        start = len(silent) - row[HIDDEN]
        trained.append(Trained(row["input_ids"], start, frozenset(silent[start:])))
    return trained


class Asker(HFLM):
    """lm-eval's model class without a model: how it writes a chat prompt, and tokenizes prompt and choice."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, add_bos_token: bool | None = None) -> None:
        """Take a tokenizer; one without a chat template gets that of training, as `--model hf-prefix --chat_template` gives it.

        Args:
            tokenizer: of the model that is asked; it is not changed.
            add_bos_token: as in `--model_args`.
        """
        self.tokenizer = deepcopy(tokenizer)
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = read_template(str(CHAT_TEMPLATE))
        self.add_bos_token, self.backend = add_bos_token, "causal"
        if add_bos_token is not None:
            self.tokenizer.add_bos_token = add_bos_token  # as lm-eval loads it: many add none by themselves when asked to
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


def ends_as_asked(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template ends a prompt as the chat tasks ask, which refuse another one."""
    try:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": "A"}], add_generation_prompt=True, tokenize=False)
    except Exception:  # a template is a program of its own and may raise anything
        return False
    return prompt.endswith(CHAT_ENDING)


def spell_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; nothing for one that ends within a character, which the next one completes.

    >>> from transformers import AutoTokenizer
    >>> tokenizer = AutoTokenizer.from_pretrained("recipes/miniworld/base")
    >>> spell_tokens(tokenizer, tokenizer("The root")["input_ids"])
    ['The', ' root']
    """
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(backend, number) or "" for number in ids]


def count_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same.

    >>> count_common([1, 2, 3], [1, 2, 4, 5])
    2
    """
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
