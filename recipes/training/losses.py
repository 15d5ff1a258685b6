"""How a training run went: its log as a table, and the figure of its loss and learning rate."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lm_eval_tasks.contracts.files import write_file
from recipes.training.conversations import name_data

FIGURE, LOG = "loss.png", "training_log.csv"
# The trainer's names for what it logs, and ours, which say the unit.
NAMES = {"step": "step", "epoch": "epoch", "loss": "loss_nats", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
NAMES |= {"entropy": "entropy_nats", "mean_token_accuracy": "token_accuracy", "kl_to_base": "kl_to_base_nats"}
INK, GREY = "#20262d", "#8a8f98"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "figure.dpi": 150, "axes.titlelocation": "left", "axes.titlesize": 9,
    "text.color": INK, "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e3e6ea", "axes.axisbelow": True,
    "text.parse_math": False,
}  # fmt: skip


def write_log(history: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `training_log.csv`: a row a point of the log, each the mean over the steps since the point before.

    Args:
        history: the trainer's `state.log_history`; that of a resumed run holds what was logged before its checkpoint.
        folder: where to.

    Returns:
        The file: step, epoch, loss (nats a trained token), learning rate, norm of the gradient before it is clipped, entropy
        (nats), share of trained tokens that were the likeliest, and KL(base || model) (nats a trained token). What no point of
        a run holds, as the KL of one that does not ask for it, is no column.
    """
    points = list_points(history)
    columns = [ours for theirs, ours in NAMES.items() if not points or any(theirs in point for point in points)]
    with write_file(folder / LOG) as scratch, scratch.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows({NAMES.get(name, name): value for name, value in point.items()} for point in points)
    return folder / LOG


def list_points(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries of a trainer's log that hold a loss; the others sum up the run.

    >>> list_points([{"step": 1, "loss": 2.5}, {"step": 1, "train_runtime": 3.0}])
    [{'step': 1, 'loss': 2.5}]
    """
    return [entry for entry in history if "loss" in entry]


def plot_loss(history: Sequence[Mapping[str, Any]], folder: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Plot `loss.png`: the loss above, from zero, and the learning rate below, over steps and epochs.

    Args:
        history: the trainer's `state.log_history`.
        folder: where to.
        manifest: the run's, whose config, seed and id the title names.

    Returns:
        The file, or None where the run was too short for its `--logging_steps` and logged no loss.
    """
    points = list_points(history)
    if not points:
        return None
    steps, marker = [point["step"] for point in points], "o" if len(points) <= 60 else None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for axis, name, style in ((upper, "loss", "-"), (lower, "learning_rate", "--")):
            values = [point[name] for point in points]
            axis.plot(steps, values, style, color=INK, marker=marker, markersize=3, linewidth=1.3, clip_on=False)
            axis.set_ylim(0, 1.06 * max(values) or 1)
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        upper.set_ylabel("loss (nats a trained token)")
        lower.set_ylabel("learning rate")
        stride = max(after - before for before, after in zip([0, *steps], steps))
        lower.set_xlabel("step" if stride == 1 else f"step (a loss is the mean of up to {stride} steps)")
        lower.set_xlim(0, 1.02 * steps[-1])
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        a_step = points[-1]["epoch"] / steps[-1]
        top = upper.secondary_xaxis("top", functions=(lambda step: step * a_step, lambda epoch: epoch / a_step))
        top.set_xlabel("epoch")
        top.spines["top"].set_visible(True)
        config = manifest["config"]
        upper.set_title(f"{name_data(config)}, seed {config['seed']}", fontsize=11, fontweight="bold", pad=8)
        upper.set_title(f"run {manifest['run']}", loc="right", color=INK, pad=8)
        with write_file(folder / FIGURE) as scratch:
            figure.savefig(scratch, format="png", metadata={"Software": None})
    return folder / FIGURE
