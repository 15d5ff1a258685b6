"""Merge a trained LoRA adapter into its base: a model folder that needs neither PEFT nor the base.

python -m recipes.merge runs/adapter --output runs/merged

The base is taken in its own precision, whatever it was quantised to for training. The folder's manifest is that of the training
run and says what was merged, so that the other stages read it as that trained model.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.files import hash_path, write_folder
from lm_eval_tasks.contracts.manifest import read_manifest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
STATES = 16  # hidden states of which the output layer is compared
ROUNDED = 4  # units in the last place by which numbers differ that were added in another order


def merge_adapter(adapter: Path, output: Path) -> None:
    """Write an adapter's model, merged, with its tokenizer and its manifest; nothing is left where that fails.

    Args:
        adapter: the folder of a run that `recipes/sft.py` trained with --use_peft.
        output: the folder to write; one that an earlier merge wrote is replaced.

    Raises:
        UserError: there is no such adapter, its base is missing or not the one that was trained, or another thing stands there.
    """
    manifest = read_run(adapter)
    if (standing := read_manifest(output)) and "merged_from" not in standing["config"]:
        raise UserError(f"--output {output} holds something else (a run of stage {standing['stage']!r}). Name a new folder.")
    # Before the model is loaded, so that a folder that cannot be written is told at once.
    with write_folder(output) as folder:
        from transformers import AutoTokenizer

        load_merged(adapter, manifest).save_pretrained(folder)
        AutoTokenizer.from_pretrained(adapter).save_pretrained(folder)
        write_manifest(
            folder,
            stage="train",
            command=sys.argv,
            config=manifest["config"] | {"merged_from": manifest["run"]},
            inputs=manifest["inputs"] | {"adapter": hash_path(adapter / WEIGHTS)},
            seeds=manifest["seeds"],
        )


def read_run(adapter: Path) -> dict[str, Any]:
    """The manifest of the run that trained an adapter.

    Raises:
        UserError: the folder holds no adapter, or none whose training has ended.
    """
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise UserError(f"{adapter} holds no LoRA adapter ({name} is missing). recipes/sft.py --use_peft trains one.")
    manifest = read_manifest(adapter)
    if not manifest or manifest["stage"] != "train":
        raise UserError(
            f"{adapter} has no manifest of training: it was not trained by recipes/sft.py, or not to the end. Run its command "
            "again, or merge it with PEFT itself."
        )
    return manifest


def load_merged(adapter: Path, manifest: dict[str, Any]) -> "PreTrainedModel":
    """An adapter's base in its own precision, with the adapter added to its weights.

    Raises:
        UserError: the base is missing, not the one that was trained or quantised itself, or the adapter cannot be merged.
    """
    from peft import PeftConfig

    settings = PeftConfig.from_pretrained(adapter)
    base = settings.base_model_name_or_path
    if Path(base).is_dir() and hash_path(base) != manifest["inputs"].get("model"):
        raise UserError(f"{base} is not the base that {adapter} was trained on: its files have changed. Put the old ones back.")
    adapted = load_adapted(adapter, settings)
    if not are_tied(adapted):
        return adapted.merge_and_unload()
    trained = read_ends(adapted)
    del adapted  # one model at a time
    # What an adapter adds to one of two layers that share their weights would be added to both; tokens are trained in both.
    for apart in (False, True) if settings.trainable_token_indices else (True, False):
        merged = load_adapted(adapter, settings, apart).merge_and_unload()
        if are_alike(read_ends(merged), trained):
            tie_embeddings(merged)
            return merged
    raise UserError(
        f"{adapter} changes the embeddings or the output layer of {base}, which share their weights, in a way that PEFT does "
        "not merge: the merged model would answer otherwise. Train an adapter of the layers between them "
        "(--lora_target_modules all-linear)."
    )


def load_adapted(adapter: Path, settings: "PeftConfig", apart: bool = False) -> "PeftModel":
    """An adapter on its base, as it was trained.

    Args:
        adapter: its folder.
        settings: its configuration.
        apart: whether an output layer that shares the weights of the embeddings gets its own.

    Raises:
        UserError: the base is missing or quantised itself, or the adapter is none that can be merged.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = settings.base_model_name_or_path
    try:
        model = AutoModelForCausalLM.from_pretrained(base, revision=settings.revision, dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{base}, the base that {adapter / CONFIG} names, is no model folder seen from here and no model on the Hub. Run "
            "this in the folder that training was launched in."
        ) from error
    if getattr(model.config, "quantization_config", None):
        raise UserError(f"{base} is quantised itself, and merging would round the adapter away. Evaluate the adapter as it is.")
    if apart:
        output = model.get_output_embeddings()
        output.weight = type(output.weight)(output.weight.detach().clone())
        model.config.tie_word_embeddings = False
    adapted = PeftModel.from_pretrained(model, adapter)
    if not hasattr(adapted, "merge_and_unload"):
        raise UserError(f"{adapter} is an adapter of the kind {settings.peft_type}, which cannot be merged.")
    return adapted


def are_tied(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether a model's output layer shares the weights of its embeddings."""
    return model.config.get_text_config().tie_word_embeddings


def tie_embeddings(model: "PreTrainedModel") -> None:
    """Let the output layer share the weights of the embeddings where they are the same, and say where they are not."""
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    if same := output.weight.equal(embeddings.weight):
        output.weight = embeddings.weight
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = same


def read_ends(model: "PreTrainedModel | PeftModel") -> "tuple[torch.Tensor, torch.Tensor]":
    """What the embeddings make of every token and the output layer of a few hidden states, with what an adapter adds."""
    import torch

    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    rows, size = embeddings.weight.shape
    states = torch.eye(size, dtype=embeddings.weight.dtype)[:: max(1, size // STATES)]
    with torch.no_grad():
        return embeddings(torch.arange(rows)), output(states)


def are_alike(some: "Sequence[torch.Tensor]", others: "Sequence[torch.Tensor]") -> bool:
    """Whether tensors are the same but for rounding."""
    import torch

    def are_close(one: "torch.Tensor", other: "torch.Tensor") -> bool:
        allowed = ROUNDED * torch.finfo(one.dtype).eps * (one.abs() + one.abs().mean())
        return bool(((one - other).abs() <= allowed).all())

    return all(map(are_close, some, others))


def main(
    adapter: Annotated[Path, typer.Argument(help="The folder of a run that was trained with --use_peft.")],
    output: Annotated[Path, typer.Option(help="The model folder to write.")],
) -> None:
    """Merge a trained LoRA adapter into its base, in the base's own precision: a model folder of its own, with its tokenizer.

    \b
    Example:
      python -m recipes.merge runs/adapter --output runs/merged
    """
    with report_errors():
        merge_adapter(adapter, output)
        print(f"{output}: the merged model")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
