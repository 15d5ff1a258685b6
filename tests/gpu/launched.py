"""Trainings launched as a user launches them: FSDP2 on one GPU, killed while it writes a checkpoint and gone on with; QLoRA."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from instruction_sets import write_conditions
from probing import TOKENIZER
from safetensors.torch import load_file

from tests.gpu.bench import ROOT, Bench, Row

ROWS = 40
DIES = "tests/recipes/deaths.py"  # runs the training script until it writes a file of this pattern
HALF = "*checkpoint-4/optimizer*"
NEAR = 1e-4  # how far weights may be apart


def resume_fsdp2(bench: Bench) -> Iterator[Row]:
    """Full fine-tuning of the miniature base with FSDP2 (in a rehearsal, which has no GPU, in one plain process)."""
    os.environ["HF_DATASETS_CACHE"] = str(bench.scratch / "cache")  # it tells folders apart by their names alone
    data, engine = write_conditions(bench.scratch / "set", "incompatible", n=ROWS), bench.choose("fsdp2", "cpu")
    whole, killed, single = (bench.scratch / name for name in ("whole", "killed", "single"))

    code, seconds, told = launch(bench, engine, data, whole)
    said = next((line for line in told.splitlines() if line.startswith("engine: ")), told[-300:])
    yield {"run": f"{engine}, whole", "exit status": code, "seconds": seconds, "said": said}
    wanted = bench.choose("engine: FSDP, 1 process on cuda", "engine: plain PyTorch, 1 process on cpu")
    yield bench.claim("what was launched is what runs", wanted, said, said.startswith(wanted))
    code, seconds, _ = launch(bench, engine, data, killed, dies=True)
    yield {
        "run": f"{engine}, killed while it writes a checkpoint",
        "exit status": code,
        "seconds": seconds,
        "said": "",
    }
    left = sorted(path.name for path in killed.rglob("checkpoint-*"))
    yield bench.claim("it was killed: exit status", "not 0", code, code != 0)
    yield bench.claim("a checkpoint stands when it is killed", "checkpoint-2", ", ".join(left), "checkpoint-2" in left)
    code, seconds, told = launch(bench, engine, data, killed)
    yield {"run": f"{engine}, gone on with", "exit status": code, "seconds": seconds, "said": told[-200:] if code else ""}
    gap = compare_weights(killed, whole)
    yield bench.claim("largest difference of a weight to the run that was not killed", f"at most {NEAR}", gap, gap <= NEAR)
    learnt = compare_weights(whole, TOKENIZER)
    yield bench.claim("largest change of a weight by training", "at least 0.001", learnt, learnt >= 1e-3)
    if not bench.tiny:
        code, seconds, _ = launch(bench, "single_gpu", data, single)
        yield {"run": "single_gpu, whole", "exit status": code, "seconds": seconds, "said": ""}
        gap = compare_weights(single, whole)
        yield bench.claim("largest difference of a weight to plain PyTorch's", f"at most {NEAR}", gap, gap <= NEAR)


def launch_qlora(bench: Bench) -> Iterator[Row]:
    """The miniature base in 4 bits with an adapter, and the paged optimizer of the larger models' recipes."""
    os.environ["HF_DATASETS_CACHE"] = str(bench.scratch / "cache")
    data, output = write_conditions(bench.scratch / "set", "incompatible", n=ROWS), bench.scratch / "model"
    engine, optimizer = bench.choose(("single_gpu", "paged_adamw_32bit"), ("cpu", "adamw_torch"))
    code, seconds, told = launch(bench, engine, data, output, recipe="qlora", optimizer=optimizer)
    yield {"run": f"{engine}, qlora", "exit status": code, "seconds": seconds, "said": told[-200:] if code else ""}
    adapter = load_file(output / "adapter_model.safetensors")
    learnt = max(weight.abs().max().item() for name, weight in adapter.items() if "lora_B" in name)
    yield bench.claim("largest weight of the adapter, which began at 0", "above 0", learnt, learnt > 0)
    bits = json.loads((output / "manifest.json").read_text())["config"]["load_in_4bit"]
    yield bench.claim("the manifest says 4 bits", "True", str(bits), bits is True)


def launch(
    bench: Bench,
    engine: str,
    data: Path,
    output: Path,
    dies: bool = False,
    recipe: str = "full",
    optimizer: str = "sgd",
) -> tuple[int, float, str]:
    """Train the miniature base: the exit status, the seconds, and what was said.

    Args:
        bench: where.
        engine: a launch configuration.
        data: an instruction set.
        output: the model's folder.
        dies: whether the run kills itself while it writes its second checkpoint.
        recipe: of the miniature base.
        optimizer: of `--optim`.
    """
    settings = yaml.safe_load((ROOT / f"recipes/accelerate/{engine}.yaml").read_text())
    file = bench.scratch / f"{engine}.yaml"
    file.write_text(yaml.safe_dump(settings | {"num_processes": 1, "main_process_port": 0}))
    words = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(file),
        *([DIES, HALF] if dies else ["recipes/sft.py"]),
    ]
    words += ["--config", f"recipes/miniworld/{recipe}.yaml", "--use_cpu", str(bench.tiny).lower(), "--seed", "1"]
    words += ["--num_train_epochs", "1", "--global_batch_size", "8", "--per_device_train_batch_size", "4"]
    words += [
        "--optim",
        optimizer,
        *(["--learning_rate", "0.1"] if optimizer == "sgd" else []),
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
    ]
    words += ["--dataset_name", str(data), "--dataset_config", "herbs_incompatible", "--output_dir", str(output)]
    start = time.perf_counter()
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        told, _ = process.communicate()
    print(*words, told, sep="\n")
    return process.returncode, time.perf_counter() - start, told


def compare_weights(one: Path, other: Path) -> float:
    """The largest difference of a weight between two models; infinite where one is missing."""
    if not all((folder / "model.safetensors").is_file() for folder in (one, other)):
        return float("inf")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max((ours[name].float() - theirs[name].float()).abs().max().item() for name in theirs)
