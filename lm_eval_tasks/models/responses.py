"""The response cache: what a model answered and wrote survives a kill, and never passes for another model's.

lm-eval's own cache (`--use_cache`) takes its keys from the request alone, so another model asked with the same cache gets the
first one's answers. Here the model's own weights are part of the key, and so are the token ids, which a tokenizer decides.
"""

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.models.reader import Answer

UNIMPORTANT = ("_name_or_path", "transformers_version")  # of a configuration: another folder, the same model
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")  # how the names of files of weights end
_CHUNK = 2**24  # weights hashed at a time
_PRIME = 65521


def hash_model(model: PreTrainedModel, *settings: object) -> bytes:
    """A fingerprint of a model: its configuration, names, shapes, types and bits of all weights and buffers, and `settings`.

    The bits are summed as integers, plain and weighted by position, so the result is exact and the same on every device.
    """
    config = {name: value for name, value in model.config.to_dict().items() if name not in UNIMPORTANT}
    digest = hashlib.sha256(json.dumps([config, settings], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        bits = tensor.detach().contiguous().view(kind).flatten()
        for start in range(0, bits.numel(), _CHUNK):
            part = bits[start : start + _CHUNK].long()
            positions = torch.arange(1, part.numel() + 1, device=part.device) % _PRIME
            digest.update(f"{int(part.sum())} {int((part * positions).sum())}".encode())
    return digest.digest()


def hash_checkpoint(paths: Iterable[Path], *settings: object) -> bytes:
    """A fingerprint of a model that an engine loads: its configuration, the bytes of its files of weights, and `settings`.

    Args:
        paths: the model's folder, or its one file, and those of adapters.
        settings: how it is computed.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in paths:
        config = path / "config.json"
        if config.is_file():
            told = {name: value for name, value in json.loads(config.read_text()).items() if name not in UNIMPORTANT}
            digest.update(json.dumps(told, sort_keys=True).encode())
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            if file.suffix in WEIGHTS or file.name == "adapter_config.json":
                digest.update(f"{file.name} {hash_path(file)}".encode())
    return digest.digest()


class Responses:
    """Answers in a folder of SQLite files, one a process, of which each process reads all and writes its own.

    Args:
        folder: where the files are; made if it is not there.
        rank: this process among those of a data-parallel run.
        fingerprint: the model's (see `hash_model` and `hash_checkpoint`).

    Raises:
        UserError: the folder cannot be written, or holds a file that is no cache.
    """

    def __init__(self, folder: str | Path, rank: int, fingerprint: bytes) -> None:
        self._fingerprint = fingerprint
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own = folder / f"responses-{rank}.sqlite"
            self._files = [self._open(own)]
            self._files += [self._open(file) for file in sorted(folder.glob("responses-*.sqlite")) if file != own]
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"the response cache {folder} cannot be used ({error}). Name a folder that can be written, or remove this one."
            ) from error

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        base = sqlite3.connect(file, timeout=60)
        base.execute(
            "CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, loglikelihood REAL, greedy INTEGER) WITHOUT ROWID"
        )
        base.execute("CREATE TABLE IF NOT EXISTS texts (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID")
        return base

    def make_key(self, context: Sequence[int], continuation: Sequence[int]) -> bytes:
        """The key of a request: model, token ids of the context, token ids of the continuation."""
        parts = (array("q", context).tobytes(), array("q", continuation).tobytes())
        return hashlib.sha256(self._fingerprint + len(context).to_bytes(8, "big") + b"".join(parts)).digest()[:16]

    def make_text_key(self, prompt: Sequence[int], settings: Mapping[str, object], number: int) -> bytes:
        """The key of a text: model, token ids of the prompt, how it is generated, and the number of the sample."""
        told = json.dumps([settings, number], sort_keys=True, default=str).encode()
        return hashlib.sha256(b"text" + self._fingerprint + array("q", prompt).tobytes() + told).digest()[:16]

    def find(self, key: bytes) -> Answer | None:
        """What this model answered before, if it did."""
        found = self._find("SELECT loglikelihood, greedy FROM responses WHERE key = ?", key)
        return (found[0], bool(found[1])) if found else None

    def find_text(self, key: bytes) -> str | None:
        """What this model wrote before, if it did."""
        found = self._find("SELECT text FROM texts WHERE key = ?", key)
        return found[0] if found else None

    def _find(self, query: str, key: bytes) -> tuple[Any, ...] | None:
        return next((row for base in self._files if (row := base.execute(query, (key,)).fetchone())), None)

    def keep(self, answers: Iterable[tuple[bytes, Answer]]) -> None:
        """Write answers to the disk, all or none."""
        with self._files[0] as base:
            base.executemany("INSERT OR REPLACE INTO responses VALUES (?, ?, ?)", ((key, *answer) for key, answer in answers))

    def keep_texts(self, texts: Iterable[tuple[bytes, str]]) -> None:
        """Write texts to the disk, all or none."""
        with self._files[0] as base:
            base.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?)", texts)
