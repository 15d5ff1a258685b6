"""Figures of bars and marks show what the tables say: nothing beyond an axis without an arrow, nothing by colour alone."""

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from studies import KEPT, write_study

from analysis.chapters import choice_mass, consistency, contrasts, knowledge, summary
from analysis.chapters.calibration import compute_calibration, plot_calibration
from analysis.chapters.chapter import Part
from analysis.chapters.contrasts import compare_conditions, plot_contrasts
from analysis.chapters.knowledge import plot_both_ways
from analysis.reading.study import read_study, summarise_results
from analysis.showing.grids import Panel, plot_grid
from analysis.showing.panels import find_limits
from lm_eval_tasks.contracts.style import COLOURS, MARKERS, find_look
from lm_eval_tasks.contracts.vocabulary import EVALUATION_SETS, name_condition

ARROWS = ("<", ">")
CLOSE = 1e-9
Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
GRIDS = {"accuracy": summary.PANELS, "consistency": consistency.PANELS, "format": choice_mass.PANELS}


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    runs = tmp_path_factory.mktemp("runs")
    write_study(runs, n=24, conditions=KEPT[2:])
    return read_study(runs).measures


@pytest.fixture(scope="module")
def study(measures: pl.DataFrame) -> Frames:
    """The summary, the contrasts and the results of a made-up study."""
    return *compare_conditions(measures), summarise_results(measures)


@pytest.fixture(scope="module")
def figures(study: Frames) -> dict[str, Figure]:
    return plot_figures(*study)


@pytest.fixture(scope="module")
def extreme(study: Frames) -> Frames:
    """The same study, with seeds, base model and wider intervals far from the rest."""
    summary, contrasts, results = study
    mix, home = pl.col("condition") == "mix", pl.col("split") == "homo"
    one = mix & home & (pl.col("phase") == "tuned_chat") & (pl.col("seed") == 1)
    wild = pl.col("metric").replace_strict({"kl_nats": 40.0, "rank_pearson": -0.29}, default=pl.col("value"))
    results = results.with_columns(value=pl.when(one).then(wild).otherwise("value"))
    chat = (pl.col("phase") == "base_chat") & (pl.col("metric") == "rank_pearson")
    wide = {"low": pl.min_horizontal("low", -0.9), "high": pl.max_horizontal("high", 30.0)}
    mixed = mix & home & pl.col("metric").is_in(["kl_nats", "rank_pearson"])
    summary = summary.with_columns(
        value=pl.when(chat).then(-0.4).otherwise("value"),
        **{name: pl.when(mixed).then(end).otherwise(name) for name, end in wide.items()},
    )
    contrasts = contrasts.with_columns(
        difference=pl.when(mix & home).then(-0.97).otherwise("difference"),
        low=pl.when(mix).then(-2.5).otherwise("low"),
        low_questions=pl.col("low_questions") / 5,
        high_questions=pl.col("high_questions") / 5,
    )
    return summary, contrasts, results


def plot_figures(means: pl.DataFrame, differences: pl.DataFrame, results: pl.DataFrame) -> dict[str, Figure]:
    """The figures of these chapters by their names."""
    part = Part("base", "herbs", "", {"summary": means, "contrasts": differences, "results": results})
    chapters = (summary, contrasts, consistency, knowledge, choice_mass)
    return {sketch.name: sketch.figure for chapter in chapters for sketch in chapter.CHAPTER.figures(part)}


def list_marks(axis: Axes) -> list[Line2D]:
    """What is plotted as marks, arrows left out."""
    return [line for line in axis.lines if line.get_marker() not in (*ARROWS, "None")]


def list_ticks(axis: Axes) -> dict[str, int]:
    """The rows of a panel by their names."""
    return {label.get_text(): round(y) for y, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)}


def check_axis(axis: Axes) -> int:
    """Assert that all marks, bars and lines lie within the axis, but for intervals with an arrow there; returns arrows."""
    left, right = axis.get_xlim()
    arrows = {(line.get_marker(), *at) for line in axis.lines if line.get_marker() in ARROWS for at in line.get_xydata()}
    for line in axis.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_linewidth() == 0.9 and line.get_marker() == "None":  # the wider intervals
            for low, high, at in zip(x[::3], x[1::3], y[::3], strict=True):
                assert (low < left - CLOSE) == (("<", left, at) in arrows)
                assert (high > right + CLOSE) == ((">", right, at) in arrows)
        else:
            assert np.nanmin(x) >= left - CLOSE, (axis.get_xlabel(), x)
            assert np.nanmax(x) <= right + CLOSE, (axis.get_xlabel(), x)
    for patch in axis.patches:
        assert left - CLOSE <= patch.get_bbox().x0 <= patch.get_bbox().x1 <= right + CLOSE
    return len(arrows)


def check_panels(figure: Figure, table: pl.DataFrame, metrics: list[str]) -> None:
    """Assert that every panel names its split, questions, seeds and rows."""
    splits = [split for split in EVALUATION_SETS if split in set(table["split"])]
    assert len(figure.axes) == len(metrics) * len(splits)
    rows = [name_condition(*row) for row in table.select("condition", "ratio").unique().rows()]
    assert sorted(list_ticks(figure.axes[0])) == sorted(rows)
    assert len(set(rows)) == len(rows)
    for axis, split in zip(figure.axes, splits, strict=False):  # the top row
        part = table.filter(split=split)
        n = sorted({part["n"].min(), part["n"].max()})
        words = f"{EVALUATION_SETS[split]}\nn = {' to '.join(map(str, n))}, {part['seeds'].max()} seeds"
        assert words in [text.get_text() for text in axis.texts]


def check_grid(figure: Figure, frames: Frames, metrics: list[str]) -> None:
    """Assert that bars are the summary's means in the conditions' colours, and marks and lines the seeds' and the base's."""
    summary, _, results = frames
    tuned = summary.filter(pl.col("metric").is_in(metrics), phase="tuned_chat")
    check_panels(figure, tuned, metrics)
    splits = [split for split in EVALUATION_SETS if split in set(tuned["split"])]
    ticks = list_ticks(figure.axes[0])
    for i, axis in enumerate(figure.axes):
        where = {"metric": metrics[i // len(splits)], "split": splits[i % len(splits)]}
        part = tuned.filter(**where)
        bars = {round(bar.get_y() + bar.get_height() / 2): bar for bar in axis.patches}
        assert len(bars) == len(axis.patches) == part.height
        for row in part.iter_rows(named=True):
            bar = bars[ticks[name_condition(row["condition"], row["ratio"])]]
            assert bar.get_width() == pytest.approx(row["value"])
            assert to_hex(bar.get_facecolor()) == COLOURS[row["condition"]].lower()
        marks = np.concatenate([line.get_xdata() for line in list_marks(axis)])
        assert sorted(marks) == pytest.approx(sorted(results.filter(phase="tuned_chat", **where)["value"]))
        assert all(not line.get_clip_on() for line in list_marks(axis))
        lines = [line.get_xdata()[0] for line in axis.lines if line.get_linewidth() == 1.3]
        assert sorted(lines) == pytest.approx(sorted(summary.filter(condition="base", **where)["value"]))
        check_axis(axis)


@pytest.mark.parametrize("name", GRIDS)
def test_bars_marks_and_lines_are_the_tables_numbers(figures: dict[str, Figure], study: Frames, name: str):
    check_grid(figures[name], study, [panel.metric for panel in GRIDS[name]])


@pytest.mark.parametrize("name", GRIDS)
def test_an_axis_holds_seeds_and_base_models_far_from_the_rest(extreme: Frames, name: str):
    summary, _, results = extreme
    panels = GRIDS[name]
    figure = plot_grid(summary, results, panels, "Title")
    check_grid(figure, extreme, [panel.metric for panel in panels])
    if name == "consistency":
        plotted = {panel.metric: axis for panel, axis in zip(panels, figure.axes[::4], strict=True)}
        assert plotted["kl_nats"].get_xlim()[1] > 40
        assert -0.7 < plotted["rank_pearson"].get_xlim()[0] < -0.4
        assert plotted["top1_agreement"].get_xlim() == (0, 1)
        assert check_axis(plotted["rank_pearson"]) >= 2  # the wider interval goes on at both ends
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == ["base model, chat prompt (untrained floor)"]


def test_a_seed_of_no_row_and_a_base_model_of_no_panel_are_neither_plotted_nor_named(study: Frames):
    summary, _, results = study
    home = summary.filter((pl.col("split") == "homo") != (pl.col("condition") == "base"))  # its base: of other splits only
    figure = plot_grid(home, results, [Panel("kl_nats", "KL", (0, None))], "Title")
    assert not figure.legends
    marks = np.concatenate([line.get_xdata() for line in list_marks(figure.axes[0])])
    assert sorted(marks) == pytest.approx(sorted(results.filter(phase="tuned_chat", metric="kl_nats", split="homo")["value"]))
    # Far seeds of splits that no panel shows do not stretch the axis.
    far = results.with_columns(value=pl.when(pl.col("split") == "ood").then(99.0).otherwise("value"))
    assert plot_grid(home, far, [Panel("kl_nats", "KL", (0, None))], "").axes[0].get_xlim() == figure.axes[0].get_xlim()


def test_limits_are_the_usual_ones_unless_a_value_lies_beyond():
    assert find_limits(pl.Series([0.0, 0.4, 1.0]), 0, 1) == (0, 1)
    assert find_limits(pl.Series([0.2, np.nextafter(1, 2)]), 0, 1) == (0, 1)
    assert find_limits(pl.Series([-0.5, 0.5]), 0, 1) == pytest.approx((-0.62, 1))
    assert find_limits(pl.Series([1.0, 10.0]), 0, None) == pytest.approx((0, 10.8))
    assert find_limits(pl.Series([0.0, 0.0]), 0, None) == (0, 1)


@pytest.mark.parametrize("kind", ["study", "extreme"])
def test_contrasts_are_the_tables_differences_in_markers_of_their_conditions(kind: str, request: pytest.FixtureRequest):
    _, contrasts, results = request.getfixturevalue(kind)
    contrasts = contrasts.filter(phase="tuned_chat", metric="accuracy")
    figure = plot_contrasts(contrasts, results, "Title")
    check_panels(figure, contrasts, ["accuracy"])
    ticks, arrows = list_ticks(figure.axes[0]), 0
    for axis, split in zip(figure.axes, EVALUATION_SETS, strict=True):
        marks = {round(line.get_ydata()[0]): line for line in list_marks(axis) if line.get_markerfacecolor() != "white"}
        part = contrasts.filter(split=split)
        assert len(marks) == part.height
        for row in part.iter_rows(named=True):
            mark = marks[ticks[name_condition(row["condition"], row["ratio"])]]
            assert mark.get_xdata()[0] == pytest.approx(row["difference"])
            assert (mark.get_color(), mark.get_marker()) == (COLOURS[row["condition"]], MARKERS[row["condition"]])
        arrows += check_axis(axis)
    assert kind == "study" or arrows >= 4  # the mix's interval goes on beyond every axis


def test_seeds_are_plotted_one_by_one_and_set_the_axis_and_intervals_over_them_do_not(study: Frames):
    _, contrasts, results = study
    contrasts = contrasts.filter(phase="tuned_chat", metric="accuracy")
    runs = results.filter(phase="tuned_chat", metric="accuracy")
    for moved in (0.0, 0.4):
        # One seed of the mix lies apart, so that the others cannot stand for it.
        apart = moved * ((pl.col("condition") == "mix") & (pl.col("seed") == 1))
        shifted = runs.with_columns(value=pl.col("value") + apart)
        reference = shifted.filter(condition="incompatible").select("split", "seed", reference="value")
        expected = shifted.join(reference, on=["split", "seed"]).filter(pl.col("condition") != "incompatible")
        figure = plot_contrasts(contrasts, shifted, "Title")
        for axis, split in zip(figure.axes, EVALUATION_SETS, strict=True):
            marks = [line for line in list_marks(axis) if line.get_markerfacecolor() == "white"]
            values = np.concatenate([line.get_xdata() for line in marks])
            own = expected.filter(split=split)
            assert sorted(values) == pytest.approx(sorted(own["value"] - own["reference"]))
            assert {line.get_markeredgecolor() for line in marks} == {COLOURS[name] for name in own["condition"].unique()}
            assert {line.get_marker() for line in marks} == {MARKERS[name] for name in own["condition"].unique()}
            check_axis(axis)
    limits = [axis.get_xlim() for axis in plot_contrasts(contrasts, runs, "Title").axes]
    wide = plot_contrasts(contrasts.with_columns(low=pl.lit(-5.0), high=pl.lit(5.0)), runs, "Title")
    assert [axis.get_xlim() for axis in wide.axes] == limits
    assert sum(map(check_axis, wide.axes)) == 2 * contrasts.height


def test_one_seed_has_no_mark_of_its_own(study: Frames):
    means, contrasts, results = study
    one = results.filter(pl.col("seed").is_null() | (pl.col("seed") == 1))
    for figure in plot_figures(means, contrasts, one).values():
        small = [line for axis in figure.axes for line in list_marks(axis) if line.get_markersize() == 4.5]
        assert not small


def test_knowledge_is_asked_both_ways_within_its_axis(figures: dict[str, Figure], study: Frames):
    summary = study[0]
    both = summary.filter(pl.col("phase").is_in(["tuned_chat", "tuned_probe"]) & (pl.col("split") != "seen"), metric="accuracy")
    check_panels(figures["knowledge"], both, ["accuracy"])
    splits = [split for split in EVALUATION_SETS if split != "seen"]
    for axis, split in zip(figures["knowledge"].axes, splits, strict=True):
        check_axis(axis)
        marks = {(round(line.get_ydata()[0] * 100), line.get_xdata()[0]): line for line in list_marks(axis)}
        for row in both.filter(split=split).iter_rows(named=True):
            row_at = list_ticks(figures["knowledge"].axes[0])[name_condition(row["condition"], row["ratio"])]
            chat = row["phase"] == "tuned_chat"
            mark = marks.pop((100 * row_at + (-17 if chat else 17), row["value"]))
            assert mark.get_marker() == MARKERS[row["condition"]]
            assert mark.get_markerfacecolor() == (COLOURS[row["condition"]] if chat else "white")
        assert not marks


def test_knowledge_of_nothing_but_trained_questions_is_no_figure(study: Frames):
    summary, contrasts, results = study
    seen = summary.filter(split="seen", metric="accuracy")
    seen = pl.concat([seen, seen.with_columns(phase=pl.lit("tuned_probe"))])
    assert "knowledge" not in plot_figures(seen, contrasts.clear(), results)


def test_marks_at_the_ends_of_an_axis_are_plotted_whole(study: Frames):
    summary = study[0].with_columns(pl.lit(1.0).alias(name) for name in ("value", "low_questions", "high_questions"))
    both = summary.filter(pl.col("phase").is_in(["tuned_chat", "tuned_probe"]) & (pl.col("split") != "seen"), metric="accuracy")
    figure = plot_both_ways(both, summary, "Title")
    marks = [line for axis in figure.axes for line in list_marks(axis)]
    assert len(marks) == both.height
    assert not any(line.get_clip_on() for line in marks)


def test_calibration_is_within_its_axis_and_has_no_line_at_trained_questions(measures: pl.DataFrame):
    calibration = compute_calibration(measures)
    # Even where the trained questions happen to be the same for all conditions.
    calibration = calibration.with_columns(
        value=pl.when((pl.col("moment") == "before") & (pl.col("split") == "seen")).then(0.5).otherwise("value")
    )
    figure = plot_calibration(calibration, "Title")
    after = calibration.filter(pl.col("condition") != "base", phase="tuned_chat", moment="after")
    check_panels(figure, after, ["accuracy"])
    for axis, split in zip(figure.axes, EVALUATION_SETS, strict=True):
        check_axis(axis)
        assert len([line for line in axis.lines if line.get_linewidth() == 1.2]) == (0 if split == "seen" else 2)
        assert {line.get_marker() for line in list_marks(axis)} == {MARKERS[condition] for condition, _, _ in KEPT[2:]}
    assert len(figure.legends[0].get_texts()) == 4
    only = plot_calibration(calibration.filter(split="seen"), "Title")
    assert [text.get_text() for text in only.legends[0].get_texts()] == ["accuracy after", "confidence after"]


def test_every_condition_has_a_marker_and_a_colour_of_its_own():
    assert len(set(MARKERS.values())) == len(set(COLOURS.values())) == len(COLOURS) == len(MARKERS)
    assert find_look("mix") == (COLOURS["mix"], MARKERS["mix"])
    assert find_look("of_another_project")[0] not in COLOURS.values()
