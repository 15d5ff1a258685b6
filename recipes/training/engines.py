"""Which engine trains: one process, DDP, FSDP or a DeepSpeed ZeRO stage; what it cannot do here, and what really runs."""

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.bases import computes_bf16
from lm_eval_tasks.contracts.errors import UserError
from recipes.training.bases import check_base, read_settings

if TYPE_CHECKING:
    from accelerate import Accelerator

ENGINES = {"NO": "none", "FSDP": "fsdp", "DEEPSPEED": "deepspeed"}  # the MULTI_ ones are DDP
HERE = "recipes/accelerate/cpu.yaml with recipes/miniworld/full.yaml trains here"
IN_BF16 = "recipes/accelerate/cpu_bf16.yaml"
# With its optimizer offloaded, DeepSpeed trains with its own AdamW whatever was asked, unless it was one of these.
ADAMW = ("adamw_torch", "adamw_torch_fused")


def check_engine(training: SFTConfig, model: ModelConfig) -> list[str]:
    """What keeps the launched engine from training as it was asked to, each with what to do; nothing is loaded for it.

    Args:
        training: as parsed in a launched process.
        model: the base model and its adapter.
    """
    problems = [*_check_processes(training), *_check_device(training, model), *_check_deepspeed(training)]
    return [*problems, *_check_weights(training, model), *check_base(training, model)]


def explain_parse_error(text: str) -> str:
    """What an error that TRL raised over its arguments says, or what it means and what to do where there is no GPU for them."""
    if "bf16/gpu" in text:
        return (
            "bf16 is true, as the recipe or TRL's default says, and no GPU here computes in bfloat16. "
            f"{tell_cpu()}, and on an older GPU with --bf16 false --fp16."
        )
    return " ".join(text.split())


def is_launched_on_cpu() -> bool:
    """Whether the launch configuration says `use_cpu`."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")


def tell_cpu() -> str:
    """How a recipe with bf16 trains on this processor."""
    if computes_bf16(torch.cpu.get_capabilities()):
        return f"This recipe trains on this CPU with accelerate launch --config_file {IN_BF16}"
    return f"{HERE}; this recipe trains on a CPU with --use_cpu --bf16 false, slowly"


def plan_engine(training: SFTConfig) -> dict[str, Any]:
    """The engine that was asked for, known before anything is loaded: part of what a run is.

    Returns:
        engine (none, ddp, fsdp or deepspeed), processes, device (cpu, cuda, ...), mixed_precision (no, bf16 or fp16), and with
        DeepSpeed zero_stage, offload_optimizer and offload_params (none, cpu or nvme).
    """
    several = "ddp" if training.world_size > 1 else "none"
    return {
        "engine": "deepspeed" if training.deepspeed_plugin else "fsdp" if _is_fsdp(training) else several,
        "processes": training.world_size,
        "device": training.device.type,
        "mixed_precision": training.mixed_precision,
    } | _describe_zero(training.deepspeed_plugin)


def describe_engine(accelerator: "Accelerator") -> dict[str, Any]:
    """What an accelerator really runs, in the words of `plan_engine`."""
    state = accelerator.state
    engine = ENGINES.get(state.distributed_type.value, "ddp")
    return {
        "engine": engine,
        "processes": state.num_processes,
        "device": state.device.type,
        "mixed_precision": state.mixed_precision,
    } | _describe_zero(state.deepspeed_plugin if engine == "deepspeed" else None)


def confirm_engine(accelerator: "Accelerator", planned: dict[str, Any]) -> str:
    """The line to print of what really runs.

    Raises:
        UserError: it is not what was asked for.
    """
    if (found := describe_engine(accelerator)) != planned:
        raise UserError(
            f"The engine asked for is {write_engine(planned)}, but accelerate runs {write_engine(found)}. Launch with another "
            "--config_file."
        )
    return f"engine: {write_engine(found)}"


def write_engine(engine: dict[str, Any]) -> str:
    """An engine in one line.

    >>> write_engine({"engine": "deepspeed", "zero_stage": 3, "processes": 8, "device": "cuda", "mixed_precision": "bf16"})
    'DeepSpeed ZeRO-3, 8 processes on cuda, mixed precision bf16'
    """
    name = {"none": "plain PyTorch", "ddp": "DDP", "fsdp": "FSDP", "deepspeed": f"DeepSpeed ZeRO-{engine.get('zero_stage')}"}
    count = engine["processes"]
    parts = [name[engine["engine"]], f"{count} process{'es' if count > 1 else ''} on {engine['device']}"]
    for key, what in (("offload_optimizer", "optimizer"), ("offload_params", "weights")):
        if (device := engine.get(key, "none")) != "none":
            parts.append(f"{what} offloaded to {device}")
    return ", ".join([*parts, f"mixed precision {engine['mixed_precision']}"])


def _describe_zero(plugin: Any) -> dict[str, Any]:
    if plugin is None:
        return {}
    zero = plugin.deepspeed_config["zero_optimization"]
    return {
        "zero_stage": zero["stage"],
        "offload_optimizer": _find_device(zero, "offload_optimizer"),
        "offload_params": _find_device(zero, "offload_param"),
    }


def _find_device(zero: dict[str, Any], part: str) -> str:
    return (zero.get(part) or {}).get("device") or "none"


def _is_fsdp(training: SFTConfig) -> bool:
    return bool(training.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")


def _check_processes(training: SFTConfig) -> list[str]:
    problems = []
    # accelerate names a meeting point where several processes were asked for; those that meet there have a rank.
    lone = {"MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"} <= os.environ.keys() and "LOCAL_RANK" not in os.environ
    if lone and os.environ["MASTER_ADDR"] == "127.0.0.1" and training.world_size == 1:
        problems.append(
            "Several processes were asked for and accelerate launched one, as it does for distributed_type NO and MULTI_CPU. "
            "Launch with recipes/accelerate/ddp.yaml (on CPUs too, with use_cpu: true), or with --num_processes 1."
        )
    if training.n_gpu > 1:
        problems.append(
            f"One process sees {training.n_gpu} GPUs and would train more rows a step than asked. Launch with "
            "recipes/accelerate/ddp.yaml, or show it one: CUDA_VISIBLE_DEVICES=0 accelerate launch ..."
        )
    return problems


def _check_device(training: SFTConfig, model: ModelConfig) -> list[str]:
    if training.device.type != "cpu":
        return []
    problems = []
    if _is_fsdp(training):
        problems.append(
            "FSDP needs GPUs: on a CPU accelerate runs DDP instead. recipes/accelerate/zero3.yaml with use_cpu: true "
            "shares out weights among CPU processes."
        )
    if training.bf16 and is_launched_on_cpu() and not computes_bf16(torch.cpu.get_capabilities()):
        problems.append(
            "bf16 is true, and this processor has neither AVX512-BF16 nor AMX, without which it is slower than fp32. Launch "
            "with recipes/accelerate/cpu.yaml and --bf16 false."
        )
    if training.fp16:
        problems.append(f"--fp16 needs a GPU. {HERE}; this recipe does, slowly, with --fp16 false.")
    if (model.attn_implementation or "").startswith("flash"):
        problems.append(f"--attn_implementation {model.attn_implementation} needs a GPU: take sdpa.")
    return problems


def _check_deepspeed(training: SFTConfig) -> list[str]:
    if training.deepspeed_plugin is None:
        return []
    problems = []
    if not importlib.util.find_spec("deepspeed"):
        return ["DeepSpeed was asked for and is not installed: pip install 'selfalign[deepspeed]'."]
    compiler = os.environ.get("CXX", "c++")
    if training.device.type == "cpu" and not shutil.which(compiler):
        problems.append(f"DeepSpeed on a CPU builds a part of itself, and there is no compiler {compiler}: install g++.")
    settings = training.deepspeed_plugin.deepspeed_config
    offload = _find_device(settings["zero_optimization"], "offload_optimizer")
    optimizer = getattr(training.optim, "value", training.optim)
    if offload != "none" and optimizer not in ADAMW and settings.get("zero_force_ds_cpu_optimizer", True):
        problems.append(
            f"--optim {optimizer}: with its optimizer offloaded, DeepSpeed trains with Adam whatever is asked. Take --optim "
            "adamw_torch, or a launch configuration that offloads no optimizer (recipes/accelerate/zero3.yaml)."
        )
    return problems


def _check_weights(training: SFTConfig, model: ModelConfig) -> list[str]:
    """Weights of 16 bits cannot take the small steps of fine-tuning; DeepSpeed and FSDP step in a copy of 32 bits."""
    copied = training.deepspeed_plugin or (_is_fsdp(training) and training.mixed_precision != "no")
    kind = model.dtype
    if kind == "auto":
        settings = read_settings(model)
        kind = settings.get("dtype", settings.get("torch_dtype"))  # its name today, and in older models
    if model.use_peft or copied or kind not in ("bfloat16", "float16"):
        return []
    return [
        f"--dtype {model.dtype}: most steps of fine-tuning are too small to change weights of {kind}. Take --dtype float32 "
        "(--bf16 true computes in bfloat16 all the same), an adapter (--use_peft), or an engine that steps in a copy of 32 "
        "bits (recipes/accelerate/zero3.yaml)."
    ]
