"""Which checkpoint a training run can go on from."""

import json
import re
import struct
import zipfile
from pathlib import Path


def find_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint below a folder, and a line for each newer one that is not whole."""
    found = sorted(
        (path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)),
        key=lambda path: -int(path.name.split("-")[1]),
    )
    broken = []
    for path in found:
        if not (flaw := find_flaw(path)):
            return path, broken
        broken.append(f"{path} is left out: {flaw}")
    return None, broken


def find_flaw(checkpoint: Path) -> str | None:
    """What keeps a checkpoint from being resumed: a file that is missing or cut."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return "trainer_state.json is missing or cut"
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights:
        return "it holds no weights"
    if index := next(checkpoint.glob("*.safetensors.index.json"), None):
        wanted = set(json.loads(index.read_text())["weight_map"].values())
        if lacking := wanted - {file.name for file in weights}:
            return f"{min(lacking)} is missing"
    for file in weights:
        if not _is_whole(file):
            return f"{file.name} is cut"
    for file in sorted(checkpoint.glob("*.p[th]*")):
        if not zipfile.is_zipfile(file):
            return f"{file.name} is cut"
    sharded = any(checkpoint.glob("global_step*"))  # DeepSpeed keeps the optimizer there
    return None if sharded or (checkpoint / "optimizer.pt").is_file() else "optimizer.pt is missing"


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says (8 bytes of length, the header, the tensors)."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return False
        (length,) = struct.unpack("<Q", start)
        try:
            header = json.loads(stream.read(length))
        except ValueError:
            return False
    end = max((part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"), default=0)
    return file.stat().st_size == 8 + length + end
