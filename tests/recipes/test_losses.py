"""The log and the loss figure of a run, of made-up histories and of one that was interrupted."""

import csv
from pathlib import Path

import matplotlib as mpl
import pytest
from finished import CONFIG, HISTORY
from matplotlib.figure import Figure
from trainers import make_rows, make_trainer

from recipes.training.losses import plot_loss, write_log

MANIFEST = {"run": "0123456789abcdef", "config": CONFIG}


@pytest.fixture
def plotted(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs))[1])
    return figures


def test_the_log_is_a_table_with_units(tmp_path: Path) -> None:
    with write_log(HISTORY, tmp_path).open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["loss_nats"])) for row in rows] == [(10, 4.0), (20, 2.0), (30, 4.0 / 3), (40, 1.0)]
    assert rows[0] | {"gradient_norm": "1.0", "learning_rate": "0.001"} == rows[0]
    assert not {"entropy_nats", "kl_to_base_nats"} & rows[0].keys()  # no point holds them


def test_the_figure_shows_the_whole_log_from_zero_with_units(tmp_path: Path, plotted: list[Figure]) -> None:
    file = plot_loss(HISTORY, tmp_path, MANIFEST)
    assert mpl.image.imread(file).shape[:2] == (630, 960)
    (figure,) = plotted
    upper, lower = figure.axes
    for axis, name in ((upper, "loss"), (lower, "learning_rate")):
        (line,) = axis.lines
        assert line.get_xdata().tolist() == [10, 20, 30, 40]
        assert line.get_ydata().tolist() == [entry[name] for entry in HISTORY[:4]]
        assert axis.get_ylim()[0] == 0
        assert axis.get_ylim()[1] > max(line.get_ydata())
        assert axis.get_xlim()[0] == 0
    assert upper.get_ylabel() == "loss (nats a trained token)"
    assert lower.get_xlabel() == "step (a loss is the mean of up to 10 steps)"
    (epochs,) = upper.child_axes
    assert epochs.get_xlabel() == "epoch"
    assert epochs.get_xlim()[1] == pytest.approx(2.0 * 1.02)  # two epochs, and the margin of the steps
    assert upper.get_title("left") == "herbs_harmonious, seed 1"
    assert upper.get_title("right") == "run 0123456789abcdef"


def test_a_run_too_short_for_a_point_has_no_figure(tmp_path: Path) -> None:
    assert plot_loss(HISTORY[4:], tmp_path, MANIFEST) is None
    assert plot_loss([], tmp_path, MANIFEST) is None
    assert not list(tmp_path.iterdir())
    assert len(write_log(HISTORY[4:], tmp_path).read_text().splitlines()) == 1


def test_names_that_look_like_formulas_are_plotted_as_they_are(tmp_path: Path) -> None:
    plot_loss(HISTORY, tmp_path, {"run": "0", "config": CONFIG | {"dataset_config": r"$\nothing{ 100%_#"}})


def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """A checkpoint keeps what was logged before it; the count of tokens, which restarts, is not in the table."""
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(tmp_path / "whole", make_rows(20), 4, 1, **settings)
    whole.train()
    again = make_trainer(tmp_path / "again", make_rows(20), 4, 1, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    logs = []
    for name, trainer in (("whole", whole), ("again", again)):
        (tmp_path / name / "log").mkdir()
        logs.append(write_log(trainer.state.log_history, tmp_path / name / "log").read_text().splitlines())
    assert len(logs[0]) == 1 + 10
    assert logs[0] == logs[1]
