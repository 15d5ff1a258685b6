"""Each pair of phases compares the same questions on both sides, and its numbers are those of a plain loop over them."""

from collections.abc import Iterator
from math import exp, inf, log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata
from studies import write_study

from analysis.chapters.contrasts import compare_conditions
from analysis.chapters.pairs import (
    LANES,
    MEASURED,
    PAIR_SCHEMA,
    PAIRS,
    compute_pairs,
    list_missing,
    plot_pairs,
    tabulate_changes,
    tabulate_pairs,
)
from analysis.reading.study import read_study
from analysis.showing.latex import write_latex
from lm_eval_tasks.contracts.logs.samples import read_probes

QUESTION = ("source", "question_domain", "id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, n=24, conditions=[("harmonious", None, 0.93), ("mix", 0.4, 0.75), ("incompatible", None, 0.5)])
    return folder


@pytest.fixture(scope="module")
def measures(folder: Path) -> pl.DataFrame:
    """Of a study whose base model was asked fewer questions in the chat prompt, and whose masses differ."""
    measures = read_study(folder).measures
    mass = pl.col("choice_mass") * (0.5 + pl.col("confidence") / 2)
    return measures.filter((pl.col("phase") != "base_chat") | (pl.col("id") != "test-3")).with_columns(choice_mass=mass)


@pytest.fixture(scope="module")
def pairs(measures: pl.DataFrame) -> pl.DataFrame:
    return compute_pairs(measures)


def pick(pairs: pl.DataFrame, **where: object) -> dict[str, dict]:
    return {row["metric"]: row for row in pairs.filter(**where).iter_rows(named=True)}


def loop_over_questions(folder: Path, measures: pl.DataFrame) -> Iterator[tuple[tuple, dict[str, float]]]:
    """The group, run and numbers of every question and pair, one at a time."""
    base = {"base_probe": read_probes(folder / "probe").rename({"domain": "question_domain"})}
    base["base_chat"] = measures.filter(phase="base_chat")
    asked = {phase: {tuple(row[key] for key in QUESTION): row for row in t.to_dicts()} for phase, t in base.items()}
    for after in measures.filter(pl.col("run") != "").iter_rows(named=True):
        for pair, phases in PAIRS.items():
            before = asked[phases[0]].get(tuple(after[key] for key in QUESTION))
            if phases[1] != after["phase"] or before is None:
                continue
            p, q = before["probs"], after["probs"]
            ranks = [rankdata(side, method="dense") for side in (p, q)]
            numbers = {
                "kl_nats": sum(a * (log(a) - log(b)) for a, b in zip(p, q, strict=True)),
                "rank_pearson": np.corrcoef(*ranks)[0, 1],
                "top1_agreement": float(np.argmax(p) == np.argmax(q)),
                "accuracy_before": float(np.argmax(p) == after["answer"]),
                "accuracy": float(np.argmax(q) == after["answer"]),
                "choice_mass_before": before["choice_mass"],
                "choice_mass": after["choice_mass"],
            }
            for name in ("accuracy", "choice_mass"):
                numbers[f"{name}_change"] = numbers[name] - numbers[f"{name}_before"]
            yield (after["condition"], after["ratio"], after["split"], pair, after["run"]), numbers


def test_values_are_those_of_a_plain_loop_over_questions(folder: Path, measures: pl.DataFrame, pairs: pl.DataFrame):
    runs: dict[tuple, list[dict[str, float]]] = {}
    for key, numbers in loop_over_questions(folder, measures):
        runs.setdefault(key, []).append(numbers)
    groups: dict[tuple, list[list[dict[str, float]]]] = {}
    for key, rows in runs.items():
        groups.setdefault(key[:-1], []).append(rows)
    tuned = pairs.filter(pl.col("condition") != "base")
    assert pairs.schema == PAIR_SCHEMA
    assert tuned.height == len(groups) * len(MEASURED)
    assert {key[-1] for key in groups} == set(PAIRS)
    for row in tuned.iter_rows(named=True):
        group = groups[row["condition"], row["ratio"], row["split"], row["pair"]]
        means = [np.mean([question[row["metric"]] for question in rows]) for rows in group]
        assert row["value"] == pytest.approx(np.mean(means), abs=1e-12)
        assert (row["n"], row["seeds"], row["infinite"]) == (len(group[0]), 2, 0)
        bounds = [row[name] for name in ("low", "low_questions", "value", "high_questions", "high")]
        assert min(np.diff(bounds)) > -1e-12


def test_intervals_are_those_of_the_rest_of_the_report(measures: pl.DataFrame, pairs: pl.DataFrame):
    summary, _ = compare_conditions(measures.filter(pl.col("condition") != "harmonious"))
    numbers = ("value", "low", "high", "low_questions", "high_questions", "n", "seeds")
    for pair, phase in (("few_shot", "tuned_probe"), ("as_used", "tuned_chat")):
        for metric in ("kl_nats", "rank_pearson", "top1_agreement", "accuracy", "choice_mass"):
            for condition in ("mix", "incompatible"):
                where = {"condition": condition, "split": "homo", "metric": metric}
                expected = summary.filter(phase=phase, **where).select(numbers).row(0)
                assert pairs.filter(pair=pair, **where).select(numbers).row(0) == pytest.approx(expected)


def test_the_base_model_shows_what_the_prompt_alone_moves(measures: pl.DataFrame, pairs: pl.DataFrame):
    base = pairs.filter(condition="base")
    assert set(base["pair"]) == {"as_used"}
    chat = measures.filter(phase="base_chat", split="ood")
    row = pick(base, split="ood")["kl_nats"]
    assert row["value"] == pytest.approx(chat["kl_nats"].mean())
    assert (row["n"], row["seeds"]) == (chat.height, 0)


def test_only_the_chat_pair_lacks_what_the_base_model_was_not_asked_in_the_chat_prompt(pairs: pl.DataFrame):
    counts = {row["pair"]: row["n"] for row in pairs.filter(condition="mix", split="homo", metric="accuracy").to_dicts()}
    assert counts == {"few_shot": 24, "chat": 23, "as_used": 24}
    assert set(pairs.filter(split="seen")["pair"]) == {"as_used"}
    assert pick(pairs, condition="mix", split="seen", pair="as_used").keys() == set(MEASURED)
    for table in (tabulate_pairs(pairs), tabulate_changes(pairs)):
        assert "few-shot seen; chat prompt seen." in table.note
        assert {tuple(row[1:3]) for row in table.rows if row[1] == "seen"} == {("seen", "few-shot to chat")}


def test_a_base_model_without_chat_logs_has_no_chat_pair(measures: pl.DataFrame):
    pairs = compute_pairs(measures.filter(pl.col("phase") != "base_chat"))
    assert set(pairs["pair"]) == {"few_shot", "as_used"}
    assert "base" not in set(pairs["condition"])
    assert "chat prompt HOMO; chat prompt ID; chat prompt OOD; chat prompt seen" in tabulate_pairs(pairs).note
    labels = [text.get_text() for text in plot_pairs(pairs, "Title").legends[0].get_texts()]
    assert labels == ["few-shot, before and after", "few-shot to chat"]


def test_without_a_base_model_there_is_nothing(measures: pl.DataFrame):
    lost = measures.filter(pl.col("run") != "").with_columns(kl_nats=pl.lit(None, pl.Float64))
    pairs = compute_pairs(lost)
    assert pairs.schema == PAIR_SCHEMA
    assert not pairs.height
    assert tabulate_pairs(pairs).rows == tabulate_changes(pairs).rows == []


def test_one_seed_gives_intervals_over_questions(measures: pl.DataFrame, pairs: pl.DataFrame):
    first = compute_pairs(measures.filter(pl.col("seed").is_null() | (pl.col("seed") == 1)))
    tuned = first.filter(pl.col("condition") != "base")
    assert set(tuned["seeds"]) == {1}
    for bound in ("low", "high"):
        assert tuned[bound].to_list() == pytest.approx(tuned[f"{bound}_questions"].to_list())
    assert first.height == pairs.height
    assert "1 seed" in plot_pairs(first, "Title").axes[0].texts[0].get_text()


def test_answers_without_a_choice_mass_are_left_out_of_it_on_both_sides(measures: pl.DataFrame):
    null = pl.lit(None, pl.Float64)
    lost = pl.struct("phase", "id").is_in([{"phase": "base_chat", "id": "test-5"}, {"phase": "tuned_chat", "id": "test-6"}])
    some = compute_pairs(measures.with_columns(choice_mass=pl.when(~lost).then("choice_mass")))
    found = pick(some, condition="mix", split="homo", pair="chat")
    assert {found[name]["n"] for name in MEASURED if name.startswith("choice")} == {21}
    assert found["accuracy"]["n"] == 23
    kept = measures.filter(~pl.col("id").is_in(["test-3", "test-5", "test-6"]), split="homo")
    for name, asked in (
        ("choice_mass", {"phase": "tuned_chat", "condition": "mix"}),
        ("choice_mass_before", {"phase": "base_chat"}),
    ):
        assert found[name]["value"] == pytest.approx(kept.filter(**asked)["choice_mass"].mean())
    assert any("(n = 21)" in cell for row in tabulate_changes(some).rows for cell in row)
    none = compute_pairs(measures.with_columns(choice_mass=null, choice_mass_before=null))
    assert {name for name in none["metric"] if name.startswith("choice")} == set()
    assert all(row[6:9] == ["–"] * 3 for row in tabulate_changes(none).rows)
    figure = plot_pairs(none, "Title")
    assert {axis.get_xlabel() for axis in figure.axes} == {"KL(before || after), nats"}


def test_an_infinite_kl_is_left_out_of_the_mean_and_counted(measures: pl.DataFrame):
    measures = measures.filter(pl.col("condition").is_in(["base", "mix"]))
    hit = (pl.col("condition") == "mix") & (pl.col("phase") == "tuned_chat") & (pl.col("split") == "homo")
    one = hit & (pl.col("id") == "test-0") & (pl.col("seed") == 1)

    def spoil(which: pl.Expr) -> pl.DataFrame:
        impossible = pl.concat_list(pl.lit([-inf]), pl.col("loglikelihoods").list.slice(1))
        return measures.with_columns(
            loglikelihoods=pl.when(which).then(impossible).otherwise("loglikelihoods"),
            kl_nats=pl.when(which).then(inf).otherwise("kl_nats"),
        )

    where = {"condition": "mix", "split": "homo"}
    pairs = compute_pairs(spoil(one))
    for pair, n in (("chat", 22), ("as_used", 23)):
        row = pick(pairs, pair=pair, **where)["kl_nats"]
        assert (row["n"], row["infinite"]) == (n, 1)
        assert np.isfinite(row["value"])
    kept = measures.filter(hit, ~one, phase="tuned_chat")
    means = [run["kl_nats"].mean() for run in kept.partition_by("run")]
    assert pick(pairs, pair="as_used", **where)["kl_nats"]["value"] == pytest.approx(np.mean(means))
    assert pick(pairs, pair="few_shot", **where)["kl_nats"]["infinite"] == 0
    cell = next(row[3] for row in tabulate_pairs(pairs).rows if row[:3] == ["mix 0.4", "HOMO", "few-shot to chat"])
    assert cell.endswith("(n = 23, 1 infinite)")
    every = compute_pairs(spoil(hit))
    row = pick(every, pair="as_used", **where)["kl_nats"]
    assert (row["value"], row["low"], row["n"], row["infinite"]) == (None, None, 0, 48)
    cells = {tuple(row[:3]): row for row in tabulate_pairs(every).rows}
    assert cells["mix 0.4", "HOMO", "few-shot to chat"][3] == "– (n = 0, 48 infinite)"
    plot_pairs(every, "Title").draw_without_rendering()


def test_a_base_model_stands_once_for_each_trained_domain(measures: pl.DataFrame, pairs: pl.DataFrame):
    # Of another domain, the chat prompt of the base model gives a uniform answer.
    k = pl.col("choices").list.len()
    other = measures.with_columns(
        domain=pl.lit("engines"), run=pl.when(pl.col("run") != "").then(pl.col("run") + "x").otherwise(pl.lit(""))
    )
    flat = pl.when(phase="base_chat").then(pl.col("probs").list.eval(pl.element() * 0 + log(0.01))).otherwise("loglikelihoods")
    both = compute_pairs(pl.concat([measures, other.with_columns(loglikelihoods=flat)]))
    assert both.filter(domain="herbs").equals(pairs)
    where = {"condition": "mix", "split": "homo", "pair": "chat"}
    after = measures.filter(pl.col("id") != "test-3", condition="mix", split="homo", phase="tuned_chat").with_columns(k=k)
    expected = np.mean([sum((log(1 / row["k"]) - log(q)) / row["k"] for q in row["probs"]) for row in after.to_dicts()])
    assert pick(both, domain="engines", **where)["kl_nats"]["value"] == pytest.approx(expected)


def test_the_tables_tell_all_rows_apart_and_can_be_typeset(pairs: pl.DataFrame):
    tables = tabulate_pairs(pairs), tabulate_changes(pairs)
    assert len({table.name for table in tables}) == 2
    for table in tables:
        labels = [tuple(row[:3]) for row in table.rows]
        assert len(set(labels)) == len(labels) == pairs.select("condition", "ratio", "split", "pair").n_unique()
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert labels[:4] == [
            *(("base model, chat prompt", split, "few-shot to chat") for split in ("HOMO", "ID", "OOD")),
            ("harmonious", "HOMO", "few-shot"),
        ]
        assert r"\bottomrule" in write_latex(table)
    row = next(row for row in tables[1].rows if row[:3] == ["mix 0.4", "HOMO", "chat prompt"])
    change = pick(pairs, condition="mix", split="homo", pair="chat")["accuracy_change"]
    assert row[5].startswith(f"{change['value']:.3f} [".replace("-", "−"))
    part = pairs.filter((pl.col("condition") != "mix") | (pl.col("pair") != "chat") | (pl.col("split") != "id"))
    assert "chat prompt ID (mix 0.4)" in list_missing(part)


def test_the_figure_shows_every_mean_where_it_is(pairs: pl.DataFrame):
    figure = plot_pairs(pairs, "Title")
    figure.draw_without_rendering()
    splits = [split for split in ("homo", "id", "ood", "seen") if split in set(pairs["split"])]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["harmonious", "mix 0.4", "incompatible"]
    for i, metric in enumerate(("kl_nats", "choice_mass")):
        for j, split in enumerate(splits):
            axis = figure.axes[i * len(splits) + j]
            part = pairs.filter(pl.col("condition") != "base", split=split, metric=metric)
            plotted = {
                (round(float(line.get_xdata()[0]), 9), round(float(line.get_ydata()[0]), 2))
                for line in axis.lines
                if line.get_marker() not in ("None", None, "|", ">") and line.get_markersize() == 6
            }
            ends = {
                round(float(x), 9) for line in axis.lines if line.get_markersize() == 4.5 for x in line.get_xdata()
            }  # of the seeds
            assert ends == {round(row[name], 9) for row in part.to_dicts() for name in ("least", "greatest")}
            order = {name.replace("-", "_").removesuffix(" 0.4"): i for i, name in enumerate(names)}
            expected = {
                (round(row["value"], 9), round(order[row["condition"]] + LANES[row["pair"]], 2)) for row in part.to_dicts()
            }
            assert plotted == expected
            ticks = {round(float(line.get_xdata()[0]), 9) for line in axis.lines if line.get_marker() == "|"}
            before = pairs.filter(pl.col("condition") != "base", split=split, metric="choice_mass_before")
            assert ticks == (set(before["value"].round(9)) if metric == "choice_mass" else set())
            least, most = axis.get_xlim()
            assert least == 0
            assert most >= part["high_questions"].max()
            dotted = [line for line in axis.lines if line.get_linestyle() == ":"]
            assert len(dotted) == (metric == "kl_nats" and split != "seen")
    assert "n = 23 to 24, 2 seeds" in figure.axes[0].texts[0].get_text()


def test_an_interval_beyond_the_axis_is_an_arrow(pairs: pl.DataFrame):
    one = (pl.col("metric") == "kl_nats") & (pl.col("condition") == "mix")
    wide = pairs.with_columns(high=pl.when(one).then(pl.lit(exp(5))).otherwise(pl.min_horizontal("high", "high_questions")))
    arrows = [line for axis in plot_pairs(wide, "Title").axes[:3] for line in axis.lines if line.get_marker() == ">"]
    assert sorted(round(float(y) - 1, 2) for line in arrows for y in line.get_ydata()) == [-0.27] * 3 + [0] * 3 + [0.27] * 3
