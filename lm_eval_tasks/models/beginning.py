"""Whether a model needs the beginning-of-sequence token: a few prompts read with and without it."""

import logging
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS = 4  # that are read
TOKENS = 128  # of each, at most
WORSE = 0.1  # nats a token by which the way that is asked is worse than the other before it is said

logger = logging.getLogger(__name__)

Score = Callable[[list[int], int], float]  # the log-likelihood (nats) of the last n tokens of a text, from its ids and n


def score_with(model: PreTrainedModel) -> Score:
    """What scores the last tokens of a text with a causal language model: a plain forward."""

    @torch.inference_mode()
    def score(ids: list[int], n: int) -> float:
        tokens = torch.tensor([ids], device=model.device)
        known = model(tokens).logits[0, -n - 1 : -1].float().log_softmax(-1)
        return known.gather(-1, tokens[0, -n:, None]).sum().item()

    return score


def compare_beginnings(score: Score, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[float, float] | None:
    """What a model makes of texts that begin with the token, and of the same texts without.

    Args:
        score: scores tokens with the model.
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
        total = -sum(score(before + ids, len(ids) - 1) for ids in read)
        sums.append(total / sum(len(ids) - 1 for ids in read))
    return sums[0], sums[1]


def warn_of_beginning(
    score: Score, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], begun: bool
) -> tuple[float, float] | None:
    """Say so where a model is asked in the way that suits it worse; what `compare_beginnings` gives.

    Args:
        score: scores tokens with the model.
        tokenizer: its tokenizer.
        texts: prompts that it is asked.
        begun: whether they are asked with the token.
    """
    found = compare_beginnings(score, tokenizer, texts)
    if found and (asked := found[not begun]) > (other := found[begun]) + WORSE:
        logger.warning(
            "The prompts begin with%s the beginning-of-sequence token, and this model reads them worse so: %.2f nats a token, "
            "%.2f with%s it. Ask (and train) with add_bos_token=%s, unless the model was trained so or a protocol asks for it.",
            "" if begun else "out", asked, other, "out" if begun else "", not begun,
        )  # fmt: skip
    return found
