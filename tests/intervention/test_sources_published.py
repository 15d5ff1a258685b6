"""MMLU, CMMLU and C-Eval as question sets hold the questions that the tasks ask, under the same ids."""

from pathlib import Path

import datasets
import polars as pl
import pytest
from conftest import run_command
from layouts import read_config, write_configs

from intervention.sources.published import read_published
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import hash_questions, read_questions

SUBJECTS = ("abstract_algebra", "virology", "professional_law")


def make_mmlu(n: int, name: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question": f"{name} of {subject} {i}?",
            "subject": subject,
            "choices": [f"{word} {i}" for word in "pqrs"],
            "answer": i % 4,
        }
        for subject in SUBJECTS
        for i in range(n)
    )


def make_chinese(n: int, upper: bool, name: str) -> pl.DataFrame:
    rows = [
        {"question": f"问题{name}{i}", **{letter: f"{letter}{i}" for letter in "ABCD"}, "answer": "BDCA"[i % 4]}
        for i in range(n)
    ]
    table = pl.DataFrame(rows)
    return table.rename({"question": "Question", "answer": "Answer"}) if upper else table


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small folders in the layout of cais/mmlu, haonan-li/cmmlu and ceval/ceval-exam."""
    root = tmp_path_factory.mktemp("hub")
    splits = {"test": 12, "validation": 3, "dev": 5}
    write_configs(root / "mmlu", {"all": {split: make_mmlu(n, split) for split, n in splits.items()}})
    cmmlu = {split: make_chinese(n, True, split) for split, n in (("test", 8), ("dev", 5))}
    write_configs(root / "cmmlu", dict.fromkeys(("agronomy", "virology"), cmmlu))
    ceval = {split: make_chinese(n, False, split) for split, n in (("test", 3), ("val", 7), ("dev", 5))}
    write_configs(root / "ceval", dict.fromkeys(("law", "accountant"), ceval))
    return root


def test_mmlu_has_the_papers_domains_and_the_ids_of_the_tasks(hub: Path, tmp_path: Path) -> None:
    table, origin = read_published("mmlu", str(hub / "mmlu"))
    write_questions(table, tmp_path / "set", [], {}, origin)
    found = read_questions(tmp_path / "set")
    counts = found.group_by("domain", "split").len().sort("domain", "split")
    assert counts.rows() == [
        (domain, split, n)
        for domain in ("jurisprudence", "math", "medicine")
        for split, n in (("dev", 5), ("test", 12), ("train", 3))
    ]
    row = found.filter(pl.col("id") == "virology/3").row(0, named=True)
    assert (row["question"], row["answer"], row["subject"], row["domain"], row["split"]) == (
        "test of virology 3?", 3, "virology", "medicine", "test"
    )  # fmt: skip
    assert found.filter(pl.col("id") == "dev/virology/3")["question"].item() == "dev of virology 3?"
    assert found.filter(pl.col("id") == "validation/virology/2")["split"].item() == "train"
    assert "auxiliary_train is left out" in origin.notes[0]


def test_the_tasks_ask_the_same_questions(hub: Path) -> None:
    from lm_eval_tasks.benchmarks import load_ceval, load_mmlu

    for name, load, domain in (("mmlu", load_mmlu, "medicine"), ("ceval", load_ceval, "law")):
        table, _ = read_published(name, str(hub / name), [domain])
        asked = load("task", **{name: str(hub / name)}, domain=domain)["test"].to_polars()
        test = table.filter(pl.col("split") == "test")
        assert test["id"].to_list() == asked["id"].to_list()
        assert hash_questions(test).to_list() == asked["question_hash"].to_list()


@pytest.mark.parametrize(("name", "domain", "asked", "n"), [("cmmlu", "agronomy", "test", 8), ("ceval", "law", "val", 7)])
def test_the_chinese_benchmarks_have_a_domain_a_subject(hub: Path, name: str, domain: str, asked: str, n: int) -> None:
    table, origin = read_published(name, str(hub / name), [domain])
    assert table.group_by("split").len().sort("split").rows() == [("dev", 5), ("test", n)]
    test = table.filter(pl.col("split") == "test")
    assert test["question"].to_list() == [f"问题{asked}{i}" for i in range(n)]
    assert test["answer"].to_list()[:4] == [1, 3, 2, 0]
    assert table["domain"].unique().to_list() == [domain]
    assert "no train questions" in origin.notes[0]


def test_rows_that_are_no_questions_are_counted(tmp_path: Path) -> None:
    splits = {split: make_mmlu(4, split) for split in ("test", "validation", "dev")}
    splits["test"] = splits["test"].with_columns(answer=pl.when(pl.int_range(pl.len()) != 5).then("answer"))
    folder = write_configs(tmp_path / "mmlu", {"all": splits})
    table, origin = read_published("mmlu", str(folder))
    assert origin.dropped == {"a text or the answer is missing": 1}
    assert "virology/1" not in table["id"].to_list()
    assert not read_published("mmlu", str(folder), ["math"])[1].dropped
    with pytest.raises(UserError, match=r"mmlu, test: 1 of 12 rows lack a text or an answer; the first is virology/1\. Mend"):
        read_published("mmlu", str(folder), strict=True)
    assert read_published("mmlu", str(folder), ["math"], strict=True)[0].height == 12


@pytest.mark.parametrize("layout", ["parquet", "csv", "authors"])
def test_a_text_that_looks_like_a_number_or_like_none_stays_that_text(tmp_path: Path, layout: str) -> None:
    words = ["NA", "None", "null", "nan", "True", "1,000", "3.0", "0.10", "007", "1e5", "-", "2020-01-01"]
    rows = pl.DataFrame(
        {"question": word, **{letter: words[i - n] for n, letter in enumerate("ABCD")}, "answer": "ABCD"[i % 4]}
        for i, word in enumerate(words)
    )
    splits = ("dev", "val")
    if layout == "authors":
        for split in splits:
            (tmp_path / split).mkdir()
            rows.write_csv(tmp_path / split / f"law_{split}.csv")
    else:
        write_configs(tmp_path, {"law": dict.fromkeys(splits, rows)})
    if layout == "csv":
        for split in splits:
            rows.write_csv(tmp_path / f"law/{split}.csv")
        card = tmp_path / "README.md"
        card.write_text(card.read_text().replace(".parquet", ".csv"))
    table, origin = read_published("ceval", str(tmp_path), ["law"])
    assert (table.height, origin.dropped) == (2 * len(words), {})
    test = table.filter(split="test")
    assert test["question"].to_list() == words
    assert test["choices"].to_list() == [[words[i - n] for n in range(4)] for i in range(len(words))]
    assert test["answer"].to_list() == [i % 4 for i in range(len(words))]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """`datasets` caches a folder with a card by its name and its card."""
    for place in ("one", "two"):
        write_configs(
            tmp_path / place / "mmlu", {"all": {split: make_mmlu(4, place) for split in ("test", "validation", "dev")}}
        )
    for place in ("one", "two"):
        assert read_published("mmlu", str(tmp_path / place / "mmlu"))[0]["question"].str.starts_with(place).all()


def test_what_is_not_in_a_benchmark_is_said(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, domain, message in (
        ("mmlu", "herbs", "mmlu has no domain 'herbs'; it has biology, business"),
        ("mmlu", "physics", "has no questions of physics"),
        ("ceval", "physician", "config 'physician', split 'dev' cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            read_published(name, str(hub / name), [domain])
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cais/mmlu, .* cannot be read: .*Run it once where there is a network") as caught:
        read_published("mmlu")
    assert "\n" not in str(caught.value)


def test_the_command_writes_terms_and_a_card(hub: Path, tmp_path: Path) -> None:
    words = ["questions", "cmmlu", "--data", hub / "cmmlu", "--domain", "agronomy", "--output", tmp_path / "set"]
    done = run_command("python", "-m", "intervention", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "CMMLU has no train questions" in done.stdout
    config = read_config(tmp_path / "set")
    assert [(part["source"], part["licence"]) for part in config["terms"]] == [("cmmlu", "cc-by-nc-4.0")]
    card = (tmp_path / "set/README.md").read_text()
    assert "@misc{li2023cmmlu" in card
    assert "language:\n- zh" in card
    bad = run_command("python", "-m", "intervention", *words[:3], hub / "ceval", *words[4:])
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "config 'agronomy', split 'dev' cannot be read" in bad.stderr
