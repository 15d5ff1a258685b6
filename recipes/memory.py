"""How much memory a recipe takes on each GPU, under each engine, before any GPU is rented.

python -m recipes.memory
python -m recipes.memory --gpus 4 --max-length 512

A cell is "model states + activations" in GiB. Model states (weights, gradients, optimizer) are DeepSpeed's own estimate for
ZeRO, and accelerate's for one GPU, DDP and FSDP2. Activations are a formula: with gradient checkpointing, the input of every
layer and the inside of one, 34 bytes times tokens times hidden size (Korthikanti et al. 2022, arXiv 2205.05198, without the
attention matrix, which SDPA does not store), and what TRL's fused loss holds. Neither counts CUDA itself, or memory lost in
fragments.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lm_eval_tasks.contracts.errors import UserError, report_errors
from recipes.yaml_files import read_yaml

if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from trl import ModelConfig

RECIPES = Path(__file__).parent
METHODS = ("full", "lora", "qlora")
ENGINES = ("single_gpu", "ddp", "fsdp2", "zero2", "zero3", "zero3_offload")
CARDS = (16, 24, 40, 48, 80, 141)  # GiB
USABLE = 0.9  # of a card: the rest is CUDA's own, and lost in fragments
GIB = 1 << 30
LAYER_BYTES = 34  # of a layer's activations, a token and a unit of the hidden size
TILE = (4096, 32768)  # tokens x vocabulary that TRL's fused loss projects at a time
CONSTANTS = {False: 0.5 / 8, True: 0.127 / 8}  # bytes a 4-bit weight of quantization constants; True: double (QLoRA, section 3)


class Sizes(NamedTuple):
    """What of a model is trained and what is kept.

    Attributes:
        trained: parameters that are trained.
        frozen: bytes of those that are not.
        layer: parameters of a decoder layer.
        outside: parameters outside the layers.
        largest: parameters of the largest single module.
        adapters: bytes of a trained parameter's weight.
    """

    trained: int
    frozen: float
    layer: int
    outside: int
    largest: int
    adapters: int


class Estimate(NamedTuple):
    """Bytes on each GPU, and those of weights and optimizer in the memory of each machine."""

    states: float
    activations: float
    host: float = 0

    @property
    def total(self) -> float:
        """On each GPU."""
        return self.states + self.activations


def find_config(name: str, revision: str | None = None) -> "PretrainedConfig":
    """A model's architecture: its own or, where the model cannot be read (it may be gated), that beside the recipe of its name.

    Raises:
        UserError: neither is there.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        for file in RECIPES.glob("*/config.json"):
            if read_yaml(file.parent / "full.yaml")["model_name_or_path"] == name:
                return AutoConfig.from_pretrained(file.parent)
        raise UserError(f"--model_name_or_path {name} cannot be read: {' '.join(str(error).split())}") from error


def measure_model(config: "PretrainedConfig", model: "ModelConfig") -> Sizes:
    """The sizes of a model under a recipe's method, from its architecture alone; no weights are read."""
    import torch
    from accelerate.utils import CustomDtype, compute_module_sizes
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    with torch.device("meta"):
        # By its class: under ZeRO-3, `from_config` would share the model out, and wait for all processes to take part.
        network = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    total = _count(network)
    layers = [_count(part) for part in network.modules() if type(part).__name__ in (network._no_split_modules or ())]
    layer, outside = max(layers, default=0), total - sum(layers)
    largest = max(sum(p.numel() for p in part.parameters(recurse=False)) for part in network.modules())
    if not model.use_peft:
        return Sizes(total, 0, layer, outside, largest, 4)
    head = network.get_output_embeddings()
    linear = {name: part for name, part in network.named_modules() if isinstance(part, torch.nn.Linear) and part is not head}
    chosen = model.lora_target_modules
    adapted = [p for name, p in linear.items() if chosen == "all-linear" or name.rpartition(".")[2] in (chosen or ())]
    trained = sum(model.lora_r * (part.in_features + part.out_features) for part in adapted)
    if not model.load_in_4bit:
        # Adapters are fp32; a frozen base has the dtype in which it is loaded.
        frozen = compute_module_sizes(network.to(getattr(torch, model.dtype)))[""]
        return Sizes(trained, frozen, layer, outside, largest, 4)
    network.to(torch.bfloat16)
    sizes = compute_module_sizes(network, torch.bfloat16, {f"{name}.weight": CustomDtype.INT4 for name in linear})
    quantized = sum(part.weight.numel() for part in linear.values())
    return Sizes(trained, sizes[""] + quantized * CONSTANTS[model.use_bnb_nested_quant], layer, outside, largest, 2)


def _count(part: Any) -> int:
    return sum(weights.numel() for weights in part.parameters())


def estimate_states(sizes: Sizes, engine: str, gpus: int, machines: int = 1, bf16: bool = True) -> tuple[float, float] | None:
    """Bytes of weights, gradients and optimizer on each GPU, and in the memory of each machine.

    Args:
        sizes: of the model.
        engine: one of `ENGINES`.
        gpus: of each machine.
        machines: how many.
        bf16: whether the arithmetic is bf16, on fp32 weights.

    Returns:
        None where the engine does not train this way: a base of 4 bits is not shared out among GPUs.

    Raises:
        UserError: DeepSpeed is not installed.
    """
    if sizes.adapters == 2 and engine not in ("single_gpu", "ddp"):
        return None
    trained, frozen, processes = sizes.trained, sizes.frozen, gpus * machines
    if engine in ("single_gpu", "ddp"):
        buckets = sizes.adapters * trained if engine == "ddp" else 0  # DDP's own copy of the gradients
        return frozen + _count_adam(sizes, bf16) + buckets, 0
    if engine == "fsdp2":
        # The layer in use, the one that is fetched meanwhile and what is in no layer are whole, in bf16, with their gradients.
        whole = (2 if frozen else 4) * (sizes.outside + 2 * sizes.layer)
        return (frozen + _count_adam(sizes, bf16=False)) / processes + whole, 0
    zero2, zero3 = _load_estimators()
    if engine == "zero2":
        return frozen + zero2(trained, gpus, machines, cpu_offload=False)[1], 0
    offload = engine == "zero3_offload"
    host, states, _ = zero3(trained, sizes.largest, gpus, machines, cpu_offload=offload, cpu_offload_params=offload)
    return (states, host + frozen / machines) if offload else (states + frozen / processes, 0)


def _count_adam(sizes: Sizes, bf16: bool) -> float:
    """Bytes of what is trained, its gradients, AdamW's two moments and, where bf16 is autocast, the copies in bf16."""
    from accelerate.commands.estimate import estimate_training_usage

    if sizes.adapters == 2:  # a 4-bit base has adapters in bf16, and moments in fp32
        return (2 + 2 + 8) * sizes.trained
    usage = estimate_training_usage(4 * sizes.trained, "bfloat16" if bf16 else "float32")
    return usage["model"] + usage["gradients"] + usage["optimizer"]


def _load_estimators() -> tuple[Any, Any]:
    try:
        # What DeepSpeed says of the machine while it is imported is none of the table.
        with contextlib.redirect_stdout(sys.stderr):
            from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
            from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
    except ImportError as error:
        raise UserError("the memory of ZeRO is estimated by DeepSpeed: pip install 'selfalign[deepspeed]'.") from error
    return estimate_zero2_model_states_mem_needs, estimate_zero3_model_states_mem_needs


def estimate_activations(
    config: "PretrainedConfig", rows: int, length: int, stream: int = 2, checkpointing: bool = True, full: bool = True
) -> float:
    """Bytes of activations on each GPU, at most.

    Args:
        config: the architecture.
        rows: of a micro-batch.
        length: tokens of the longest row.
        stream: bytes of a number of the residual stream: 4 where fp32 weights are autocast, else 2.
        checkpointing: whether a layer's inside is computed again when it is needed.
        full: whether the output layer is trained: its gradient is gathered in fp32.
    """
    tokens, hidden, layers = rows * length, config.hidden_size, config.num_hidden_layers
    inside = LAYER_BYTES * tokens * hidden
    kept = stream * tokens * hidden * layers + inside if checkpointing else inside * layers
    loss = 2 * min(tokens, TILE[0]) * min(config.vocab_size, TILE[1]) + 4 * tokens * hidden
    return kept + loss + (4 * config.vocab_size * hidden if full else 0)


def estimate_memory(
    config: "PretrainedConfig",
    sizes: Sizes,
    engine: str,
    gpus: int,
    machines: int,
    rows: int,
    length: int,
    bf16: bool = True,
    checkpointing: bool = True,
) -> Estimate | None:
    """What a recipe takes on each GPU under an engine; the arguments are those of the functions above."""
    if (states := estimate_states(sizes, engine, gpus, machines, bf16)) is None:
        return None
    full = not sizes.frozen
    stream = 4 if full and (engine in ("single_gpu", "ddp") or not bf16) else 2
    return Estimate(states[0], estimate_activations(config, rows, length, stream, checkpointing, full), states[1])


def read_recipe(file: Path) -> tuple["ModelConfig", dict[str, Any]]:
    """The model's part of a recipe, and all of it."""
    from trl import ModelConfig

    settings = read_yaml(file)
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    return ModelConfig(**{name: value for name, value in settings.items() if name in names}), settings


def write_table(gpus: int = 8, max_length: int | None = None) -> str:
    """The table model x engine x memory, of every recipe that has its architecture beside it."""
    heads = ["model", "method", *ENGINES, "one GPU of", f"{gpus} GPUs of"]
    lines = [heads, ["---"] * len(heads)]
    found = {file.parent: find_config(str(file.parent)) for file in RECIPES.glob("*/config.json")}
    for folder, config in sorted(found.items(), key=lambda item: (item[1].model_type, item[1].hidden_size, item[0].name)):
        for method in (name for name in METHODS if (folder / f"{name}.yaml").is_file()):
            model, settings = read_recipe(folder / f"{method}.yaml")
            sizes = measure_model(config, model)
            length = min(max_length or settings["max_length"], settings["max_length"])
            batch = settings["per_device_train_batch_size"]
            kept = settings["activation_checkpointing"]
            all_ = {name: estimate_memory(config, sizes, name, gpus, 1, batch, length, checkpointing=kept) for name in ENGINES}
            shared = [all_[name] for name in ("ddp", "fsdp2", "zero2", "zero3")]
            cards = [_choose_card([all_["single_gpu"]]), _choose_card(shared)]
            lines.append([folder.name, method, *(show_estimate(one) for one in all_.values()), *cards])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show_estimate(estimate: Estimate | None) -> str:
    """An estimate in GiB: states + activations, and what the machine holds."""
    if estimate is None:
        return "-"
    host = f", machine {estimate.host / GIB:.0f}" if estimate.host else ""
    return f"{show_gib(estimate.states)} + {show_gib(estimate.activations)}{host}"


def show_gib(size: float) -> str:
    """Bytes in GiB.

    >>> show_gib(3 << 30), show_gib(10 << 20)
    ('3.0', '0.010')
    """
    return f"{size / GIB:.{1 if size >= GIB / 10 else 3}f}"


def _choose_card(estimates: Sequence[Estimate | None]) -> str:
    least = min(one.total for one in estimates if one) / GIB
    return next((f"{card} GB" for card in CARDS if least <= USABLE * card), "more")


def main(
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of the machine.")] = 8,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of the longest row [default: the recipe's].")] = None,
) -> None:
    """Print the memory that each recipe takes on a GPU under each engine: model states + activations, in GiB.

    \b
    Example:
      python -m recipes.memory --gpus 4 --max-length 512
    """
    with report_errors():
        print(write_table(gpus, max_length))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
