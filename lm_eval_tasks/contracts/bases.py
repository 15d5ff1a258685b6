"""What can be said of a base model before it is loaded: weights in a GGUF file, tokens without a row, how its texts begin,
and whether a processor is fast in its arithmetic.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GGUF = b"GGUF"  # how such a file begins
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # what a processor has that multiplies matrices in bfloat16 by itself


def find_gguf(name: str) -> Path | None:
    """The GGUF file that a model's name is, or that stands in the folder of that name in place of a model; None for none.

    Args:
        name: a file, a folder, or a name on the Hub.

    Returns:
        The first by name, where a folder holds several.

    >>> find_gguf("recipes/miniworld/base")
    """
    path = Path(name)
    if path.is_dir():
        files = () if (path / "config.json").exists() else sorted(path.glob("*.gguf"))
    else:
        files = (path,) if path.is_file() else ()
    return next(filter(_is_gguf, files), None)


def _is_gguf(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_GGUF)) == _GGUF


def begins_with_bos(tokenizer: Any, add_bos_token: bool | None = None) -> bool:
    """Whether texts begin with the beginning-of-sequence token, in training and in asking alike.

    Args:
        tokenizer: of transformers.
        add_bos_token: what is asked for; where nothing is, the tokenizer's own habit. False where it has no such token.
    """
    bos = tokenizer.bos_token_id
    if bos is None or add_bos_token is not None:
        return bos is not None and bool(add_bos_token)
    return tokenizer("A")["input_ids"][:1] == [bos]


def computes_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether a processor multiplies matrices in bfloat16 by itself, so that it is faster so than in fp32.

    `capabilities`: those that `torch.cpu.get_capabilities()` tells.

    >>> computes_bf16({"avx2": True, "avx512_bf16": False}), computes_bf16({"amx_bf16": True})
    (False, True)
    """
    return any(capabilities.get(name) for name in _BF16)


def find_rowless(tokenizer: Any, rows: int) -> dict[str, int]:
    """The tokens of a tokenizer for which a model has no row in its vocabulary, with their ids, in the order of these.

    A model may have more rows than the tokenizer has tokens (Qwen, Gemma): no text is divided into these.

    Args:
        tokenizer: of transformers.
        rows: of the model's embeddings (`vocab_size` of its configuration).
    """
    without = [(token, number) for token, number in tokenizer.get_vocab().items() if number >= rows]
    return dict(sorted(without, key=lambda pair: pair[1]))


def tell_rowless(tokenizer: Any, rows: int, texts: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a tokenizer that has more tokens than a model has rows; None where nothing is.

    A token that was added and that no text names is never read (Gemma's `<image_soft_token>` in a model of text alone).

    Args:
        tokenizer: of transformers.
        rows: as `find_rowless` takes them.
        texts: that will be read.
    """
    if not (without := find_rowless(tokenizer, rows)):
        return None
    own = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token}
    idle = tokenizer.get_added_vocab().keys() - own
    read = [token for token in without if token not in idle or any(token in text for text in texts)]
    if not read:
        return None
    first = read[0]
    return (
        f"has tokens up to id {max(without.values())}, and the model a vocabulary of {rows} rows, so that it cannot read "
        f"{len(read)} of them; the first is {first!r}, id {without[first]}"
    )
