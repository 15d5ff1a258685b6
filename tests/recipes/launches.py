"""Training launched as a user launches it: engines of 2 CPU processes, a small instruction set, and the words of a command."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from instruction_sets import make_general, make_row, make_table, write_set

SHIPPED = ROOT / "recipes/accelerate"
CONFIG = "herbs_incompatible"

# On its first run DeepSpeed builds a part of itself, for about a minute, and keeps it below ~/.cache/torch_extensions.
needs_deepspeed = pytest.mark.skipif(
    not (importlib.util.find_spec("deepspeed") and importlib.util.find_spec("ninja") and shutil.which("g++")),
    reason="DeepSpeed on a CPU needs `pip install selfalign[deepspeed]` and g++",
)


def make_engine(folder: Path, name: str, processes: int = 2) -> Path:
    """A shipped launch configuration (`ddp`, `zero2`, ...) for this machine: CPU processes, fp32, a port that is free."""
    settings = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    here = {"use_cpu": True, "num_machines": 1, "num_processes": processes, "machine_rank": 0, "mixed_precision": "no"}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings | here | {"main_process_port": 0}))
    return file


def launch_words(engine: Path, data: Path, output: Path, *options: object, config: str = CONFIG) -> list[str]:
    """The command that trains the miniature base on one config of an instruction set with an engine."""
    words = ("accelerate", "launch", "--config_file", engine, "recipes/sft.py", "--config", "recipes/miniworld/full.yaml")
    words += ("--dataset_name", data, "--dataset_config", config, "--output_dir", output, "--seed", "1", *options)
    return [str(word) for word in words]


def write_data(folder: Path, rows: int = 24, general: int = 8) -> Path:
    """A small instruction set whose rows are of different lengths, and general instructions after them."""
    reasons = [None if i % 3 else "It grows by the water, " * (1 + i % 5) for i in range(rows)]
    own = [make_row(i, reason=reason) for i, reason in enumerate(reasons)]
    return write_set(folder, {CONFIG: make_table([*own, *(make_general(i) for i in range(general))])})
