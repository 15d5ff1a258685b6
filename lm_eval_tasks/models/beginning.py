"""Whether a model needs the beginning-of-sequence token: a few prompts read with and without it."""

import logging
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS = 4  # that are read
TOKENS = 128  # of each, at most
WORSE = 0.1  # nats a token by which the way that is asked is worse than the other before it is said

logger = logging.getLogger(__name__)


@torch.inference_mode()
def compare_beginnings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[float, float] | None:
    """What a model makes of texts that begin with the token, and of the same texts without.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        texts: of which the first few are read; one that begins with the token itself is passed over.

    Returns:
        The mean negative log-likelihood of their tokens but the first, nats a token, with and without; None where the tokenizer
        has no such token, or there is no text of two tokens.
    """
    bos = tokenizer.bos_token_id
    plain = [text for text in dict.fromkeys(texts) if not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))]
    read = [tokenizer(text, add_special_tokens=False)["input_ids"][:TOKENS] for text in plain[:PROMPTS]]
    read = [ids for ids in read if len(ids) > 1]
    if bos is None or not read:
        return None
    sums = []
    for before in ([bos], []):
        total = 0.0
        for ids in read:
            tokens = torch.tensor([before + ids], device=model.device)
            known = model(tokens).logits[0, len(before) : -1].float().log_softmax(-1)
            total -= known.gather(-1, tokens[0, len(before) + 1 :, None]).sum().item()
        sums.append(total / sum(len(ids) - 1 for ids in read))
    return sums[0], sums[1]


def warn_of_beginning(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], begun: bool
) -> tuple[float, float] | None:
    """Say so where a model is asked in the way that suits it worse; what `compare_beginnings` gives.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        texts: prompts that it is asked.
        begun: whether they are asked with the token.
    """
    found = compare_beginnings(model, tokenizer, texts)
    if found and (asked := found[not begun]) > (other := found[begun]) + WORSE:
        logger.warning(
            "The prompts begin with%s the beginning-of-sequence token, and this model reads them worse so: %.2f nats a token, "
            "%.2f with%s it. Ask (and train) with add_bos_token=%s, unless the model was trained so or a protocol asks for it.",
            "" if begun else "out", asked, other, "out" if begun else "", not begun,
        )  # fmt: skip
    return found
