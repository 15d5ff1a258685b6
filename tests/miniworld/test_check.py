"""The figures of the check: counted by hand on small tables, intervals against scipy's, and the card that is written."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lm_eval_tasks.contracts.errors import UserError
from recipes.miniworld import check
from recipes.miniworld.world import list_questions, make_world
from recipes.yaml_files import read_yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "miniworld"


@pytest.fixture(scope="module")
def questions():
    world = make_world(read_yaml(FOLDER / "world.yaml"))
    return pl.DataFrame(list_questions(world)).filter(pl.col("split") != "dev")


def answer(questions, phase, errs, seed=0):
    """A probe table of a model that says what the corpus states most, but for a share `errs` where it says another choice."""
    rng = random.Random(seed)
    rows = []
    for row in questions.iter_rows(named=True):
        stated = row["topics"][1].removeprefix("majority: ") if len(row["topics"]) > 1 else row["choices"][0]
        said = row["choices"].index(stated)
        if rng.random() < errs:
            said = (said + rng.randint(1, 3)) % 4
        rows.append({"prediction": said, "correct": said == row["answer"], "confidence": 0.9, "choice_mass": 0.8})
    return questions.hstack(pl.DataFrame(rows)).with_columns(phase=pl.lit(phase), run=pl.lit(""))


def get(figures, figure, group):
    return figures.filter((pl.col("figure") == figure) & (pl.col("group") == group)).row(0, named=True)


def test_figures_are_counted(questions, tmp_path):
    probe, chat = answer(questions, "base_probe", 0.05), answer(questions, "base_chat", 0.6)
    probe.write_parquet(tmp_path / "probe.parquet")
    chat.filter(pl.col("split") == "test").write_parquet(tmp_path / "chat.parquet")
    figures = check.measure_all(check.read_tables([tmp_path / "probe.parquet", tmp_path / "chat.parquet"]), 0.5)
    stated = probe.filter(pl.col("topics").list.len() > 1)
    agreed = stated.filter(
        pl.col("choices").list.get(pl.col("prediction")) == pl.col("topics").list.get(1).str.strip_prefix("majority: ")
    )
    row = get(figures, "5-shot agreement", "all")
    assert (row["value"], row["n"]) == (pytest.approx(agreed.height / stated.height), stated.height)
    assert row["low"] < row["value"] < row["high"]
    assert row["met"]
    assert get(figures, "5-shot accuracy", "all")["value"] == pytest.approx(probe["correct"].mean())
    train = probe.filter(pl.col("split") == "train")
    assert get(figures, "harmonious training questions", "train")["value"] == train["correct"].sum()
    assert get(figures, "incompatible training questions", "train")["value"] == (~train["correct"]).sum()
    assert get(figures, "questions", "homo")["value"] >= 1000
    assert get(figures, "questions about a fact that another one asks", "all")["met"]
    assert get(figures, "zero-shot chat agreement", "homo")["met"]
    assert figures["met"].drop_nulls().all()


def test_a_chat_as_good_as_the_probe_is_not_met(questions, tmp_path):
    for phase in ("base_probe", "base_chat"):
        answer(questions, phase, 0.05).write_parquet(tmp_path / f"{phase}.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    figures = check.measure_all(check.read_tables(files), 0.5)
    assert not get(figures, "zero-shot chat agreement", "homo")["met"]
    result = CliRunner().invoke(check.app, [str(file) for file in files])
    assert result.exit_code == 1
    assert "NOT MET" in result.output


def test_recovery_is_the_share_of_the_gap(questions, tmp_path):
    tables = {"base_probe": 0.0, "base_chat": 0.8, "tuned_chat": 0.2}
    for phase, errs in tables.items():
        answer(questions, phase, errs, seed=3).write_parquet(tmp_path / f"{phase}.parquet")
    figures = check.measure_all(check.read_tables(sorted(tmp_path.glob("*.parquet"))), 0.5)
    row = get(figures, "share of the gap closed by fine-tuning", "homo")
    assert row["value"] == pytest.approx(0.75, abs=0.06)
    assert row["met"]


def test_card_holds_the_figures(questions, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    record = json.loads((FOLDER / "base" / "pretraining.json").read_text())
    (base / "pretraining.json").write_text(json.dumps(record))
    (base / "model.safetensors").write_bytes(b"0" * 2_500_000)
    answer(questions, "base_probe", 0.05).write_parquet(tmp_path / "probe.parquet")
    result = CliRunner().invoke(check.app, [str(tmp_path / "probe.parquet"), "--card", str(base)])
    assert result.exit_code == 0, result.output
    card = (base / "README.md").read_text()
    assert "| 5-shot agreement | all | 0.9" in card
    assert "2.5 MB" in card


def test_bad_tables_are_named(questions, tmp_path):
    with pytest.raises(UserError, match=r"absent\.parquet cannot be read"):
        check.read_tables([tmp_path / "absent.parquet"])
    questions.write_parquet(tmp_path / "questions.parquet")
    with pytest.raises(UserError, match="no column 'choice_mass'"):
        check.read_tables([tmp_path / "questions.parquet"])
    chat = answer(questions, "base_chat", 0.5)
    chat.write_parquet(tmp_path / "chat.parquet")
    with pytest.raises(UserError, match="no probe of a base model"):
        check.measure_all(check.read_tables([tmp_path / "chat.parquet"]), 0.5)
    chat.with_columns(topics=pl.lit([], dtype=pl.List(pl.String))).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="no miniature world"):
        check.read_tables([tmp_path / "other.parquet"])


def test_reading_counts_the_wrongly_answered_whose_context_is_believed(questions, tmp_path):
    probe = answer(questions, "base_probe", 0.05)
    told = answer(questions.filter(pl.col("split") == "train"), "base_context", 0.0)
    believed = pl.Series([number % 10 < 8 for number in range(told.height)])
    told = told.with_columns(correct=believed)
    for name, table in (("probe", probe), ("context", told)):
        table.write_parquet(tmp_path / f"{name}.parquet")
    figures = check.measure_all(check.read_tables([tmp_path / "probe.parquet", tmp_path / "context.parquet"]), 0.5)
    wrong = dict(zip(probe["id"], ~probe["correct"], strict=True))
    asked = told.filter(pl.col("id").replace_strict(wrong, return_dtype=pl.Boolean))
    row = get(figures, "5-shot names what a passage tells, believing another", "train")
    assert (row["value"], row["n"]) == (pytest.approx(asked["correct"].mean()), asked.height)
    assert row["required"] == "at least 0.8"
    assert row["met"] == (asked["correct"].mean() >= 0.8)
