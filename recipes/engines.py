"""Which engine trains: one process, DDP, FSDP or a DeepSpeed ZeRO stage."""

from typing import Any

from trl import ModelConfig, SFTConfig


def check_engine(training: SFTConfig, model: ModelConfig) -> list[str]:  # noqa: ARG001
    """What keeps the launched engine from training as it was asked to, each with what to do."""
    return []


def describe_engine(accelerator: Any) -> dict[str, Any]:
    """What an accelerator really runs, for the manifest and the first line of output."""
    return {"engine": str(accelerator.distributed_type.value), "processes": accelerator.num_processes}
