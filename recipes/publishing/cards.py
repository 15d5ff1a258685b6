"""The card of a trained model: what it was trained on and how, in its README.md and in what the Hub reads of that."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from lm_eval_tasks.contracts.files import hash_path, write_file
from lm_eval_tasks.contracts.markdown import Markdown, make_environment, quote_code, wrap_command
from lm_eval_tasks.contracts.public import make_public
from lm_eval_tasks.contracts.rules import find_rule
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, GENERAL, INSTRUCTION_DATA, Condition
from recipes.training.conversations import name_data
from recipes.training.fitting import tell_fit, tell_until
from recipes.training.losses import FIGURE, LOG, list_points

CARD = "README.md"
# The task that scores what a response format trains, and what the response is.
FORMATS = {
    "letter": ("selfalign_chat", "the letter and the text of a choice, then the explanation where there is one"),
    "text": ("selfalign_chat_cloze", "the text of a choice, then the explanation where there is one"),
}
quote_cell = partial(quote_code, cell=True)


def write_card(
    folder: Path,
    manifest: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    conditions: Sequence[str],
    engine: str,
    fit: Mapping[str, Any] | None = None,
) -> Path:
    """Write the README.md of a model folder, over any that a library left there.

    Args:
        folder: where the model, its tokenizer and, where they are, the figure and the log of its training stand.
        manifest: the run's; it need not stand in the folder yet.
        history: the trainer's `state.log_history`.
        conditions: that of each trained row.
        engine: in words, as `write_engine` puts it.
        fit: how far the condition's rows were fitted, as `describe_fit` puts it.

    Returns:
        The file.
    """
    public = make_public(dict(manifest))
    config, points = public["config"], list_points(history)
    counts = Counter(conditions)
    general = counts.pop(GENERAL, 0)
    text = _CARDS.get_template("model.md.jinja").render(
        public
        | {
            "header": Markdown(_describe(manifest["config"]).to_yaml()),
            "condition": find_condition(config),
            "response": Markdown(FORMATS.get(config["response_format"], ("", "what the data set says"))[1]),
            "question": _ask(config),
            "rows": {"own": counts.total(), "general": general},
            "settings": list_settings(config, history),
            "engine": Markdown(engine),
            "belief": Markdown(find_rule(config).sentence),
            "name": name_data(config),
            "own": config["condition"] == INSTRUCTION_DATA,
            "command": "accelerate launch --config_file ENGINE.yaml " + wrap_command(public["command"]),
            "weights": {file.name: hash_path(file) for file in sorted(folder.glob("*.safetensors"))},
            "losses": [points[i]["loss"] for i in (0, -1)] if len(points) > 1 else None,
            "fit": Markdown(tell_fit(fit).removeprefix("fit: ")) if fit else None,
            "files": {name: (folder / name).is_file() for name in (FIGURE, LOG)},
        }
    )
    with write_file(folder / CARD) as file:
        ModelCard(text).save(file)
    return folder / CARD


def _describe(config: Mapping[str, Any]) -> ModelCardData:
    """What the Hub's search and its page go by. A folder of this machine is no name on the Hub, and is left out."""
    base, data = config["base_model"], config["dataset"]
    adapter = bool(config.get("use_peft"))
    return ModelCardData(
        base_model=base if is_hub_id(base) else None,
        base_model_relation=("adapter" if adapter else "finetune") if is_hub_id(base) else None,
        datasets=[data] if is_hub_id(data) else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["selfalign", "trl", "sft", "knowledge", config["condition"]],
    )


def is_hub_id(name: str) -> bool:
    """Whether a model or a data set of this name was read from the Hub: a folder of that name goes first.

    >>> is_hub_id("Qwen/Qwen3-8B-Base"), is_hub_id("recipes/miniworld"), is_hub_id("/home/me/model")
    (True, False, False)
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def find_condition(config: Mapping[str, Any]) -> Condition | None:
    """The condition that a run was trained on, with its ratio; None for one that is not of this project."""
    known = CONDITIONS.get(config["condition"])
    return known and replace(known, ratio=config["ratio"])


def list_settings(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that decide what is trained, by the names under which a reader looks for them."""
    counts = [config[name] for name in ("processes", "per_device_train_batch_size", "gradient_accumulation_steps")]
    settings = {
        "epochs": (f"{config['num_train_epochs']:g}" if config["max_steps"] < 0 else f"until step {config['max_steps']}")
        + tell_until(config),
        "steps": history[-1]["step"] if history else None,
        "rows a step": f"{config['global_batch_size']} = {' x '.join(map(str, counts))} (processes, rows, micro-batches)",
        "learning rate": f"{config['learning_rate']:g}, {config['lr_scheduler_type']}",
        "warm-up": f"{config['warmup_steps']:g} of the steps" if config["warmup_steps"] < 1 else config["warmup_steps"],
        "weight decay": config["weight_decay"],
        "optimizer": config["optim"],
        "gradient norm clipped at": config["max_grad_norm"],
        "longest row": f"{config['max_length']} tokens; none was cut",
        "loss on": "the response and its end of sequence" + _tell_uncounted(config),
        "weights kept in": quote_cell(config["dtype"]),
        "seed": config["seed"],
    }  # fmt: skip
    if config.get("use_peft"):
        targets = config["lora_target_modules"]
        targets = "the default" if targets is None else targets if isinstance(targets, str) else ", ".join(targets)
        settings["LoRA"] = (
            f"r {config['lora_r']}, alpha {config['lora_alpha']}, dropout {config['lora_dropout']}, on {quote_cell(targets)}"
        )
    if config.get("load_in_4bit"):
        double = ", double quantization" if config["use_bnb_nested_quant"] else ""
        settings["base model in"] = f"4 bits, {config['bnb_4bit_quant_type']}{double}"
    if config.get("load_in_8bit"):
        settings["base model in"] = "8 bits"
    return {name: Markdown(value) if isinstance(value, str) else value for name, value in settings.items() if value is not None}


def _tell_uncounted(config: Mapping[str, Any]) -> str:
    """What of the responses counts less or nothing, where the rows say so."""
    told = {"masked_tokens": "{} tokens of which are masked", "weighted_rows": "{} rows of which have another weight than 1"}
    return "".join(f", {words.format(config[name])}" for name, words in told.items() if config.get(name))


def _ask(config: Mapping[str, Any]) -> str:
    """The command that asks the model as it was trained to answer; capitals stand for what a reader has elsewhere."""
    model = f"pretrained={config['base_model']},peft=MODEL,tokenizer=MODEL" if config.get("use_peft") else "pretrained=MODEL"
    model += f",add_bos_token={config.get('add_bos_token', False)}"  # as in training
    words = ["python", "-m", "lm_eval_tasks", "run", "--model", "hf-prefix", "--model_args", model, "--batch_size", "auto"]
    words += ["--tasks", FORMATS.get(config["response_format"], FORMATS["letter"])[0], "--apply_chat_template"]
    return wrap_command([*words, "--metadata", '{"questions": "QUESTIONS"}', "--log_samples", "--output_path", "LOGS"])


_CARDS = make_environment(Path(__file__).parent / "templates", quote_cell)
