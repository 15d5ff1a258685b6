"""Fine-tune a base model on one condition of an instruction set.

accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py --config recipes/miniworld/full.yaml \\
    --dataset_name runs/miniworld/miniature/herbs/instructions/seed-1 --dataset_config herbs_harmonious \\
    --output_dir runs/harmonious --seed 1

The YAML file holds the model and its hyper-parameters; the data set and the condition are given here. The loss is taken on
the response alone, in the chat template that evaluation uses, without what a row masks (`masked`) and as much as it weighs
(`weight`), where it has these columns. The run continues from its newest whole checkpoint; the finished model, its tokenizer
and its manifest stand in `--output_dir`. The word `then` starts another run in the same process, with all its arguments.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from trl import ModelConfig, SFTConfig, get_peft_config, get_quantization_config

from lm_eval_tasks.contracts.chained import split_runs
from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.contracts.manifest import make_manifest, read_manifest, write_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE, read_template
from lm_eval_tasks.contracts.vocabulary import GENERAL
from recipes.publishing.cards import write_card
from recipes.publishing.hub import check_push, push_run
from recipes.training.arguments import RecipeArguments, parse_arguments
from recipes.training.bases import identify_base, tell_replaced
from recipes.training.checkpoints import Keeper, choose_checkpoint
from recipes.training.engines import check_engine, confirm_engine, plan_engine, write_engine
from recipes.training.fitting import Fit, describe_fit, tell_fit, write_fit
from recipes.training.losses import plot_loss, write_log
from recipes.training.output import FINAL, end_run, enter_run, hold_output, publish_model, report_full_disk
from recipes.training.row_weights import tell_weights, weigh_rows
from recipes.training.rows import describe_rows, describe_set, hash_rows, read_rows
from recipes.training.tokens import begins, load_tokenizer, prepare_rows
from recipes.training.tracking import check_trackers, set_trackers
from recipes.training.unlikely import mask_unlikely

# What names a path, a display or a secret is no part of what makes the weights.
LEFT_OUT = ("_dir", "_path", "_name", "_to", "token", "hub", "logging", "save_", "tqdm", "dataset_num_proc")
LEFT_OUT += ("project", "trackio")
# Settings of the script that a manifest names where they were asked for.
ASKED = ("until_fit", "until_loss", "token_mask_threshold", "kl_to_base")


def describe_run(
    script: RecipeArguments,
    training: SFTConfig,
    model: ModelConfig,
    rows: Any,
    model_hash: str,
    counts: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What a run's manifest says of it, and what its `run` id is the hash of."""
    settings = training.to_dict() | asdict(model) | {"global_batch_size": script.global_batch_size}
    hyper = {name: value for name, value in settings.items() if not any(part in name for part in LEFT_OUT)}
    return {
        "stage": "train",
        "command": sys.argv,
        "config": {
            "dataset": script.dataset_name,
            "dataset_config": script.dataset_config,
            **describe_rows(rows),
            **describe_set(script.dataset_name),
            **(counts or {}),
        }
        | {"seed": training.seed, "base_model": model.model_name_or_path, "processes": training.world_size}
        | {"engine": plan_engine(training), "add_bos_token": script.add_bos_token, **hyper, **list_asked(script)},
        "inputs": {"dataset": hash_rows(rows), "model": model_hash, "template": hash_path(training.chat_template_path)},
        "seeds": {"seed": training.seed},
    }


def list_asked(script: RecipeArguments) -> dict[str, float]:
    """What a run trains until, masks and is charged for, of what was asked for."""
    return {name: value for name in ASKED if (value := getattr(script, name)) is not None}


def train(script: RecipeArguments, training: SFTConfig, model: ModelConfig) -> None:
    """Train, and write the model with its tokenizer, log, card and manifest into `training.output_dir`; push it if asked."""
    problems = [*check_engine(training, model), *check_trackers(training), *check_push(training)]
    if script.dry_run:
        from recipes.showing.dry_run import plan

        plan(script, training, model, problems)
        return
    if problems:
        raise UserError(" ".join(problems))
    model_hash, rows = identify_base(model), read_rows(script)
    training.chat_template_path = training.chat_template_path or str(CHAT_TEMPLATE)
    tokenizer = load_tokenizer(model.model_name_or_path, model.model_revision)
    template = read_template(training.chat_template_path)
    if line := tell_replaced(tokenizer, template):
        training.distributed_state.print(line, file=sys.stderr)
    tokenizer.chat_template = template
    if script.token_mask_threshold is not None:
        rows = mask_unlikely(tokenizer, rows, training, model, script.token_mask_threshold, script.add_bos_token)
    prepared = prepare_rows(tokenizer, rows, training.max_length, script.add_bos_token)
    rows, prepared, counts = weigh_rows(rows, prepared, training)
    if line := tell_weights(counts, len(rows)):
        training.distributed_state.print(line, file=sys.stderr)
    script.add_bos_token = begins(tokenizer, script.add_bos_token)
    described = describe_run(script, training, model, rows, model_hash, counts)
    manifest, output = make_manifest(**described), Path(training.output_dir)
    limit, pushed = training.save_total_limit, training.push_to_hub
    lock = hold_output(output)
    if (read_manifest(output) or {}).get("run") == manifest["run"]:
        training.distributed_state.print(f"{output} already holds this run ({manifest['run']}).", file=sys.stderr)
    else:
        work = enter_run(output, manifest)
        set_trackers(training, output, manifest)
        # Nothing is cut, `prepare_rows` refused what is longer; `Keeper` deletes checkpoints, `push_run` pushes.
        training.max_length = training.save_total_limit = None
        training.output_dir, training.push_to_hub = str(work), False
        fit(training, model, tokenizer, prepared, rows, described, Keeper(described["config"]["engine"], limit))
    if PartialState().is_main_process:
        end_run(output, manifest["run"], limit)
        if pushed:
            print(push_run(output, training.hub_model_id, training.hub_private_repo), file=sys.stderr)
    lock.close()


def fit(
    training: SFTConfig, model: ModelConfig, tokenizer: Any, prepared: Any, rows: Any, described: dict[str, Any], keeper: Keeper
) -> None:
    """Train from the newest whole checkpoint in `training.output_dir`, and write the finished model two folders above it."""
    from recipes.training.trainer import Trainer

    config = described["config"]
    steps = -(-len(rows) // config["global_batch_size"])  # of an epoch
    until = {name: config.get(name) for name in ("until_fit", "until_loss")}
    own = (ids for ids, condition in zip(prepared["input_ids"], rows["condition"], strict=True) if condition != GENERAL)
    work, engine = Path(training.output_dir), config["engine"]
    training.model_init_kwargs = (training.model_init_kwargs or {}) | {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    trainer = Trainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=prepared,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=[keeper],
        ids=rows["id"],
        fit=Fit(own, steps, **until),
        kl_to_base=config.get("kl_to_base"),
    )
    trainer.accelerator.print(confirm_engine(trainer.accelerator, engine), file=sys.stderr)
    checkpoint = choose_checkpoint(work, engine)
    with report_full_disk(work):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model(str(work / FINAL))
        trainer.accelerator.wait_for_everyone()
        if trainer.accelerator.is_main_process:
            history, manifest = trainer.state.log_history, make_manifest(**described)
            fitted = describe_fit(history, steps, until)
            print(tell_fit(fitted), file=sys.stderr)
            write_fit(fitted, work / FINAL)
            write_log(history, work / FINAL)
            plot_loss(history, work / FINAL, manifest)
            write_card(work / FINAL, manifest, history, rows["condition"], write_engine(engine), fitted)
            output = work.parents[1]
            publish_model(work, output)
            write_manifest(output, **described)
    trainer.accelerator.wait_for_everyone()  # one that ended its group while the main process writes was seen to abort
    trainer.end()


if __name__ == "__main__":
    with report_errors():
        for words in split_runs(sys.argv[1:] or ["--help"]):
            sys.argv[1:] = words  # which the manifest names
            train(*parse_arguments())
