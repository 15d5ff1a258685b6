"""Whatever is published of a data set, or written for others beside it, names no path of its machine and holds no secret."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import Study, make_rows, own, says, write_jsonl
from private import COMMAND, HOME, HUB, find_private

from intervention.build import Plan, build_instructions
from intervention.comparing.compare import compare_sets
from intervention.publishing.package import Package, read_package
from intervention.sources.questions import convert_jsonl
from lm_eval_tasks.contracts.questions import read_questions


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study in a folder with its user's name, of a base model in another."""
    (tmp_path / "anna muster").mkdir()
    return Study(tmp_path / "anna muster/study", make_rows(200), model=f"{HOME}/my model")


def read_texts(package: Package) -> dict[str, str]:
    """What is published beside the rows."""
    texts = {name: part if isinstance(part, bytes) else part.read_bytes() for name, part in package.files.items()}
    return {name: text.decode() for name, text in texts.items() if not name.endswith(".parquet")}


def test_nothing_that_is_pushed_of_a_question_set_is_private(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "questions.jsonl", make_rows(6))
    convert_jsonl([file], tmp_path / "anna muster/set", command=COMMAND)
    texts = read_texts(read_package(tmp_path / "anna muster/set"))
    assert texts.keys() == {"README.md", "manifest.json"}
    assert not find_private(texts, [tmp_path])


def test_nothing_that_is_pushed_of_an_instruction_set_is_private(study: Study, tmp_path: Path) -> None:
    """The log that explains does not say which model wrote it, so its file stands for the author."""
    explained = [
        {"source": row["source"], "domain": "herbs", "id": row["id"], "response": i, "explanation": "It is so."}
        for row in read_questions(study.questions).iter_rows(named=True)
        for i in range(4)
    ]
    log = write_jsonl(study.folder / "explained.jsonl", explained)
    inputs = replace(study.inputs, texts=replace(study.inputs.texts, explanations=[log]))
    build_instructions(
        inputs, Plan("herbs", ["harmonious", "self_aligning"], explanations="paper"), study.folder / "out", COMMAND
    )
    texts = read_texts(read_package(study.folder / "out"))
    assert "`my model`" in texts["README.md"]
    assert not find_private(texts, [tmp_path])
    stays = (study.folder / "out/manifest.json").read_text()
    assert json.loads(stays)["config"]["model"] == f"{HOME}/my model"  # on this machine
    assert HUB not in stays
    assert "s3cret" not in stays.lower()


def test_questions_are_data_and_stay_as_they_are(tmp_path: Path) -> None:
    """A question about a path, an address or a password is asked as it is."""
    text = f"What does {HOME}/x hold, MY_TOKEN=abc, C:\\Users\\anna or http://a:b@c.org, says anna@work.org?"
    rows = [row | {"question": f"{i}. {text}"} for i, row in enumerate(make_rows(60))]
    study = Study(tmp_path / "study", rows)
    sets = study.build(conditions=["incompatible"], size=3)
    assert all(text in turn for turn in says(own(sets["incompatible"]), "prompt"))
    assert read_questions(study.questions)["question"].to_list() == [row["question"] for row in rows]


def test_no_table_or_figure_of_a_comparison_is_private(study: Study, tmp_path: Path) -> None:
    study.build("one", conditions=["harmonious", "incompatible"], size=20)
    study.build("two", conditions=["harmonious", "incompatible"], size=30)
    compare_sets([study.folder / "one", study.folder / "two"], None, tmp_path / "out", COMMAND)
    texts = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.suffix in (".md", ".csv", ".svg")}
    assert {"balance.md", "balance.csv", "loveplot.svg"} <= texts.keys()
    assert not find_private(texts, [tmp_path])
