"""The csv folders in which the benchmarks' authors publish them give the same questions as the Hub's layout."""

import re
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command

from intervention.sources.published import read_published
from lm_eval_tasks.benchmarks import load_ceval, load_cmmlu, load_mmlu
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.published import ASKED, BENCHMARKS, read_mmlu, read_subjects
from lm_eval_tasks.contracts.questions import read_questions

REFERENCE = (Path(__file__).parents[2] / "../shared/reference/banks").resolve()
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the real question banks are not at {REFERENCE}")
LOAD = {"mmlu": load_mmlu, "cmmlu": load_cmmlu, "ceval": load_ceval}
FOLDER = {"validation": "val"}  # the authors' names of splits, where the Hub has another


def write_classic(folder: Path, name: str, rows: pl.DataFrame, split: str) -> None:
    """Rows as `published` gives them, in the files of a benchmark's authors."""
    split = FOLDER.get(split, split)
    (folder / split).mkdir(parents=True, exist_ok=True)
    for (subject,), part in rows.group_by("subject", maintain_order=True):
        table = part.select(
            question="question",
            **{letter: pl.col("choices").list.get(i) for i, letter in enumerate("ABCD")},
            answer=pl.lit("ABCD").str.slice(pl.col("answer"), 1),
            explanation="explanation" if "explanation" in part.columns else pl.lit(None),
        )
        if name == "mmlu":
            table.drop("explanation").write_csv(folder / split / f"{subject}_{split}.csv", include_header=False)
        elif name == "cmmlu":
            table = table.drop("explanation").rename({"question": "Question", "answer": "Answer"}).with_row_index("")
            table.write_csv(folder / split / f"{subject}.csv")
        else:
            told = table if split == "dev" else table.drop("explanation")
            told.with_row_index("id").write_csv(folder / split / f"{subject}_{split}.csv")


def make_rows(subjects: tuple[str, ...], n: int, split: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question": f'{split} of "{subject}",\n{i}?',
            "subject": subject,
            "choices": [f"{word}, {i}" for word in ("0.10", "None", "NA", "s")],
            "answer": i % 4,
            "explanation": f"因为 {i}" if i % 2 else "",
        }
        for subject in subjects
        for i in range(n)
    )


SUBJECTS = {
    "mmlu": ("abstract_algebra", "virology"),
    "cmmlu": ("agronomy", "virology"),
    "ceval": ("accountant", "law"),
}
SPLITS = {"mmlu": ("dev", "validation", "test"), "cmmlu": ("dev", "test"), "ceval": ("dev", "val")}


@pytest.fixture(scope="module", params=["", "data"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three benchmarks' csv folders, the folders of splits in them or in their folder `data`."""
    root = tmp_path_factory.mktemp("classic")
    for name, splits in SPLITS.items():
        for split in splits:
            write_classic(root / name / request.param, name, make_rows(SUBJECTS[name], 5, split), split)
    return root


@pytest.mark.parametrize("name", list(SPLITS))
def test_the_authors_files_are_read_by_questions_and_tasks_alike(folders: Path, name: str) -> None:
    domains = [] if name == "mmlu" else list(SUBJECTS[name])
    table, origin = read_published(name, str(folders / name), domains)
    assert not origin.dropped
    counts = dict(table.group_by("split").len().iter_rows())
    assert counts == dict.fromkeys(("train", "dev", "test") if name == "mmlu" else ("dev", "test"), 10)
    asked, dev = (table.filter(split=split) for split in ("test", "dev"))
    expected = make_rows(SUBJECTS[name], 5, ASKED[name])
    for column in ("question", "choices", "answer", "subject"):
        assert asked[column].to_list() == expected[column].to_list()
    assert asked["id"].to_list() == [f"{subject}/{i}" for subject in SUBJECTS[name] for i in range(5)]
    told = [f"因为 {i}" if i % 2 else None for i in range(5)] * 2
    assert dev["explanation"].to_list() == (told if name == "ceval" else [None] * 10)
    assert asked["explanation"].null_count() == 10
    task = LOAD[name]("task", **{name: str(folders / name)}, domain=domains)
    for split, part in (("test", asked), ("dev", dev)):
        own = task[split].to_polars()
        for column in ("id", "question", "choices", "answer", "explanation"):
            assert own[column].to_list() == part[column].to_list()


def test_the_command_reads_them(folders: Path, tmp_path: Path) -> None:
    words = ["python", "-m", "intervention", "questions", "ceval", "--data", folders / "ceval", "--output", tmp_path / "set"]
    done = run_command(*words, "--domain", "law", "--domain", "accountant")
    assert done.returncode == 0, done.stderr
    table = read_questions(tmp_path / "set", splits=["dev"])
    assert table["explanation"].drop_nulls().to_list() == ["因为 1", "因为 3"] * 2
    wrong = run_command(*words)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert re.search(r"error: .*dev/advanced_mathematics_dev.csv does not exist. .* domains: accountant, law\.", wrong.stderr)


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path) -> None:
    rows = make_rows(("virology",), 2, "test")
    write_classic(tmp_path / "mmlu", "mmlu", rows, "test")
    with pytest.raises(UserError, match=r"mmlu/dev holds no files \*_dev.csv, which are mmlu's dev questions. Fetch them too"):
        read_mmlu(str(tmp_path / "mmlu"), "dev")
    file = tmp_path / "mmlu/test/virology_test.csv"
    file.write_text("question,a\nq,b\n")
    with pytest.raises(UserError, match=r"virology_test.csv has 2 columns, but they are question, A, B, C, D, answer"):
        read_mmlu(str(tmp_path / "mmlu"), "test")
    file.write_bytes(b"q,a,b,c,d,A\nq\xff,a,b,c,d,A\n")
    with pytest.raises(UserError, match=r"virology_test.csv cannot be read as a CSV file"):
        read_mmlu(str(tmp_path / "mmlu"), "test")
    file.write_text("q,a,b,c,d,A\nq,a,,c,d,B\nq,a,b,c,d,E\n")
    assert read_published_counts(tmp_path / "mmlu") == ["virology/1", "virology/2"]
    (tmp_path / "cmmlu/test").mkdir(parents=True)
    (tmp_path / "cmmlu/test/virology.csv").write_text("Question,A,B,C,Answer\nq,a,b,c,A\n")
    with pytest.raises(UserError, match=r"virology.csv has no column 'D'; it has Question, A, B, C, Answer"):
        read_subjects(BENCHMARKS["cmmlu"], str(tmp_path / "cmmlu"), ["virology"], "test")


def read_published_counts(folder: Path) -> list[str]:
    """The ids of the rows that are no questions."""
    from lm_eval_tasks.contracts.published import make_questions

    return make_questions(read_mmlu(str(folder), "test"), "mmlu", "test")[1]


@needs_reference
@pytest.mark.launched
@pytest.mark.parametrize("name", list(SPLITS))
def test_every_row_of_the_real_banks_is_the_same_in_the_authors_layout(name: str, tmp_path: Path) -> None:
    bank = REFERENCE / name
    for split in SPLITS[name]:
        rows = read_mmlu(str(bank), split) if name == "mmlu" else None
        if rows is None:
            rows = read_subjects(BENCHMARKS[name], str(bank), list(BENCHMARKS[name].subjects), split)
        write_classic(tmp_path / name, name, rows, split)
    own, theirs = (read_published(name, str(folder)) for folder in (tmp_path / name, bank))
    key = ["split", "source", "domain", "id"]
    assert own[0].sort(key).equals(theirs[0].sort(key))
    counts = {"mmlu": 14042 + 285 + 1531, "cmmlu": 11582 + 335, "ceval": 1346 + 260}
    assert (own[0].height, own[1].dropped, theirs[1].dropped) == (counts[name], {}, {})
