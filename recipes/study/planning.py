"""What a study will take, before anything runs: its grid, GPU hours, disk, memory, what is missing, and what it took so far.

Hours are arithmetic: floating-point operations of training and asking (6 a parameter and token for full training, 4 for
adapters, whose frozen weights need no gradients, and 2 more where activations are computed again; 2 for asking) at `RATE`.
That rate was not measured; what the study's own jobs took is, and stands beside it as soon as some have ended.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.free_form import find_set_kind
from lm_eval_tasks.contracts.markdown import format_table
from recipes.memory import ENGINES, GIB, estimate_memory, find_config, measure_model, read_recipe, show_estimate
from recipes.study.grid import Study

RATE = 4e14  # operations a second and GPU: 40% of what an H100 does in bf16
TOKENS, ASKED = 200, 1000  # of a row, and test questions of a model, where the question set is not there yet
CHARACTERS = 4  # of a token
TEMPLATE = 40  # tokens of a row beside its question and choices
PHASES = ("chat", "probe")  # in which every trained model is asked
ADAM = 2  # numbers that the optimizer keeps of each that is trained
SEVERAL = 2  # GPUs from which on the parts of a model are shared out, by a launch configuration of another name than ours


def describe_study(study: Study) -> str:
    """The grid of a study, what it takes, and what it lacks, as tables and lines."""
    tables = {
        "The grid": _list_grid(study),
        f"What it takes, at {RATE / 1e12:.0f} TFLOP/s a GPU (assumed, not measured)": _list_costs(study),
        "What its jobs took so far, and what is left, one job after another": list_measured(study),
    }
    parts = [f"{title}\n\n{format_table(table)}\n" for title, table in tables.items() if table.height]
    missing = [f"Not there yet: {line}" for line in find_missing(study)]
    return "\n".join([*parts, *missing, f"{sum(1 for _ in study.list_runs())} trainings, each asked afterwards"])


def _list_grid(study: Study) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "model": name,
                "trained by": model.settings["training"],
                "domains": len(model.domains),
                "arms": len(model.arms),
                "conditions": len(study.settings["conditions"]),
                "seeds": len(study.settings["seeds"]),
                "trainings": sum(run.model == name for run in study.list_runs()),
                "of these done": sum(
                    run.model == name and Path(study.find_folder(run), "chat").exists() for run in study.list_runs()
                ),
            }
            for name, model in study.models.items()
        ]
    )


def _list_costs(study: Study) -> pl.DataFrame:
    rows = []
    for name, model in study.models.items():
        row: dict[str, Any] = {"model": name}
        try:
            recipe, settings = read_recipe(Path(model.settings["training"]))
            config = find_config(model.settings["base"], model.settings.get("revision"))
        except UserError:  # `find_missing` names it
            continue
        sizes, gpus = measure_model(config, recipe), model.find_needs("train")["gpu"]
        kept, batch = settings["activation_checkpointing"], settings["per_device_train_batch_size"]
        length = min(settings["max_length"], config.max_position_embeddings)
        named = Path(model.settings["accelerate"]).stem
        engine = named if named in ENGINES else "single_gpu" if gpus < SEVERAL else "zero3"
        memory = estimate_memory(config, sizes, engine, max(gpus, 1), 1, batch, length, checkpointing=kept)
        weights = sizes.layer * config.num_hidden_layers + sizes.outside
        asked, tokens = _count_questions(study, name)
        # On average over the arms, which may differ in these.
        shown = [
            (arm.get("size") or asked) * (1 + arm["general_share"]) * arm.get("num_train_epochs", settings["num_train_epochs"])
            for arm in model.arms.values()
        ]
        trained = sum(shown) / len(shown) * tokens
        operations = weights * trained * ((4 if sizes.frozen else 6) + 2 * kept)
        answered = 2 * weights * asked * tokens * len(PHASES)
        checkpoints = (
            min(settings["save_total_limit"] or 1, settings["num_train_epochs"]) if settings["save_strategy"] != "no" else 0
        )
        stays = sizes.trained * sizes.adapters
        n = sum(run.model == name for run in study.list_runs())
        hours = 3600 * RATE
        rows.append(
            row
            | {
                "parameters (millions)": weights / 1e6,
                "tokens a training": int(trained),
                "GPU hours of training": n * operations / hours if gpus else None,
                "GPU hours of asking": n * answered / hours if model.find_needs("ask")["gpu"] else None,
                "disk (GiB)": n * stays / GIB,
                "and while one trains (GiB)": checkpoints * (1 + ADAM) * stays / GIB,
                "memory a GPU (GiB)": f"{show_estimate(memory)} ({gpus} x {engine})"
                if gpus
                else "none: trains on the processor",
            }
        )
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.select(column.name for column in table if column.null_count() < table.height)


def _count_questions(study: Study, model: str) -> tuple[int, int]:
    """How many test questions a model is asked, and the tokens of one; `ASKED` and `TOKENS` where there are none yet."""
    folder = Path(study.models[model].settings["questions"])
    if not (folder / "README.md").exists():
        return ASKED, TOKENS
    kind = find_set_kind(folder)
    table = kind.read(folder)
    texts = pl.col("choices" if "choices" in table.columns else "answers").list.join("")
    characters = table.select((pl.col("question") + texts).str.len_chars().mean()).item()
    return table.filter(split="test").height, round(characters / CHARACTERS) + TEMPLATE


def list_measured(study: Study) -> pl.DataFrame:
    """What jobs of a rule and model took, and how many of them are left."""
    rows = []
    for rule, done in (("train", "model/" + MANIFEST), ("ask_tuned", "chat")):
        for name in study.models:
            runs = [run for run in study.list_runs() if run.model == name]
            files = sorted(Path(study.settings["output"], "benchmarks", rule, name).rglob("*.tsv"))
            seconds = [pl.read_csv(file, separator="\t", null_values=["NA", "-"])["s"].mean() for file in files]
            if seconds:
                lacking = sum(not Path(study.find_folder(run), done).exists() for run in runs)
                left, each = -(-lacking // study.runs_a_job), sum(seconds) / len(seconds)
                told = {"rule": rule, "model": name, "jobs": len(seconds), "minutes a job": each / 60}
                rows.append(told | {"left": left, "hours left": left * each / 3600})
    return pl.DataFrame(rows)


def check_gpus(study: Study, options: Sequence[str]) -> bool:
    """Whether jobs take GPUs of this machine.

    Args:
        study: the study.
        options: Snakemake's; an executor or a profile sends jobs elsewhere, and a plan runs none.

    Raises:
        UserError: they need more than there are.
    """
    if any(option.startswith(("--executor", "-e", "--profile", "-n", "--dry-run", "--dryrun")) for option in options):
        return False
    needs = {(name, work): model.find_needs(work)["gpu"] for name, model in study.models.items() for work in ("train", "ask")}
    (name, work), most = max(needs.items(), key=lambda item: item[1])
    if not most:
        return False
    import torch

    if most > (there := torch.cuda.device_count()):
        raise UserError(
            f"models.{name} takes {most} GPUs to {work}, and this machine has {there}. Name a launch configuration for it "
            "(recipes/accelerate) and --device cpu in lm_eval, or have a cluster run the jobs (--executor slurm)."
        )
    return True


def find_missing(study: Study) -> list[str]:
    """The files that a study names and that are not there, nor made by it."""
    spread = "worlds" in study.settings  # whose questions, texts and bases the study makes
    made = ("questions", "general", "contexts") if "world" in study.settings else ()
    named = [(name, study.settings[name]) for name in ("world", "general", "contexts") if name in study.settings]
    for name, model in study.models.items():
        its = ("training", "accelerate", *["pretraining"] * spread)
        named += [*((f"{what} of {name}", model.settings[what]) for what in its), ("questions", model.settings["questions"])]
    lines = [f"{path} ({name})" for name, path in named if name not in made and not Path(path).exists()]
    for name, model in study.models.items() if not spread else ():
        try:
            find_config(model.settings["base"], model.settings.get("revision"))
        except UserError as error:
            lines.append(f"{model.settings['base']} (base of {name}: a folder, or a model of the Hub): {error}")
    return list(dict.fromkeys(lines))
