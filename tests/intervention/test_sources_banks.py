"""TriviaQA, PopQA, SQuAD and SciQ in the layouts in which the Hub has them, rows made up, become question sets."""

import json
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from layouts import read_config, write_configs

from intervention.sources.banks import BANKS, read_bank
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.questions import read_questions

TEXTS = pl.List(pl.String)


def make_triviaqa(n: int, name: str, answered: bool = True) -> pl.DataFrame:
    """A question has a row for each of its documents: the first two rows are one."""
    rows = []
    for i in range(n):
        value = f"River {name} {i}" if answered else "<unk>"
        aliases = [f"The River {name} {i}", f"{name}'s water {i}"] if answered else []
        answer = {"aliases": aliases, "normalized_aliases": [alias.lower() for alias in aliases], "type": "WikipediaEntity"}
        answer |= {"matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "", "value": value}
        answer |= {"normalized_value": value.lower()}
        rows.append({"question": f"Which {name} river is {max(i, 1)}?", "question_id": f"{name}_{max(i, 1)}", "answer": answer})
    return pl.DataFrame(rows, {"question": pl.String, "question_id": pl.String, "answer": pl.Struct(
        {"aliases": TEXTS, "normalized_aliases": TEXTS} | dict.fromkeys(
            ("matched_wiki_entity_name", "normalized_matched_wiki_entity_name", "normalized_value", "type", "value"), pl.String)
    )})  # fmt: skip


def make_squad(n: int, name: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": f"{name}{i:024x}",
            "title": "Old_Rivers",
            "context": f"The {name} river is {i} miles long. ",
            "question": f"How long is the {name} river?" if i else "   ",
            "answers": {"text": [f"{i} miles", f"{i} Miles.", f"{i}"], "answer_start": [1, 1, 1]},
        }
        for i in range(n)
    )


def make_sciq(n: int, name: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question": f"Which of the following is {name} {i}?" if i % 5 == 4 else f"What is {name} {i}?",
            **{f"distractor{k}": f"{word} {i}" for k, word in enumerate(("salt", "clay", "moss"), 1)},
            "correct_answer": f"rain {i}",
            "support": f"It is rain {i}." if i % 2 else "",
        }
        for i in range(n)
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small folders in the layouts of mandarjoshi/trivia_qa, akariasai/PopQA, rajpurkar/squad and allenai/sciq."""
    root = tmp_path_factory.mktemp("hub")
    trivia = {"train": make_triviaqa(40, "tc"), "validation": make_triviaqa(12, "qw")}
    trivia["test"] = make_triviaqa(5, "sfq", answered=False)
    unfiltered = {split: table.head(9) for split, table in trivia.items()}
    write_configs(root / "triviaqa", {"rc.nocontext": trivia, "unfiltered.nocontext": unfiltered})
    (root / "popqa").mkdir()
    pl.DataFrame(
        {"id": 4000 + i, "subj": f"Poet {i}", "prop": "place of birth", "obj": f"Town {i}", "s_pop": 9 * i}
        | {"question": f"In what city was Poet {i} born?"}
        | {"possible_answers": json.dumps([f"Town {i}", f'Town "{i}", Old', "town " + str(i)])}
        for i in range(60)
    ).write_csv(root / "popqa/test.tsv", separator="\t")
    write_configs(root / "squad", {"plain_text": {"train": make_squad(30, "north"), "validation": make_squad(11, "south")}})
    splits = {"train": make_sciq(50, "train"), "validation": make_sciq(10, "val"), "test": make_sciq(15, "test")}
    write_configs(root / "sciq", {"default": splits})
    return root


def count(table: pl.DataFrame) -> dict[str, int]:
    return dict(table.group_by("split").len().iter_rows())


def test_triviaqa_has_every_alias_once_and_a_question_once(hub: Path, tmp_path: Path) -> None:
    table, origin = read_bank("triviaqa", str(hub / "triviaqa"))
    write_questions(table, tmp_path / "set", [], {}, origin)
    read = read_free_form(tmp_path / "set")
    assert count(read) == {"train": 29, "dev": 10, "test": 11}  # 40 and 12 rows, of which two each are one question
    assert origin.dropped == {"another row has its id": 2}
    row = read.filter(pl.col("id") == "qw_3").row(0, named=True)
    assert row["answers"] == ["River qw 3", "qw's water 3"]  # the alias with an article says the same
    assert (row["source"], row["domain"], row["split"]) == ("triviaqa", "trivia", "test")
    assert read_config(tmp_path / "set")["source"]["config"] == "rc.nocontext"
    other, _ = read_bank("triviaqa", str(hub / "triviaqa"), config="unfiltered.nocontext")
    assert sum(count(other).values()) == 8 + 8


def test_popqa_reads_its_aliases_from_json_and_is_divided(hub: Path) -> None:
    table, origin = read_bank("popqa", str(hub / "popqa"))
    assert sum(count(table).values()) == 60
    assert set(count(table)) == {"train", "dev", "test"}
    row = table.filter(pl.col("id") == "4007").row(0, named=True)
    assert row["answers"] == ["Town 7", 'Town "7", Old']
    assert row["subject"] == "place of birth"
    assert "divided at random" in " ".join(origin.notes)
    table, _ = read_bank("popqa", str(hub / "popqa"), splits={"dev": 5, "test": 1.0}, seed=3)
    assert count(table) == {"dev": 5, "test": 55}


def test_squad_is_closed_book_unless_it_is_asked_for(hub: Path) -> None:
    table, origin = read_bank("squad", str(hub / "squad"))
    assert count(table) == {"train": 19, "dev": 10, "test": 10}
    assert origin.dropped == {"a text or the answer is missing": 2}
    row = table.filter(pl.col("split") == "test").row(0, named=True)
    assert (row["question"], row["answers"], row["subject"]) == ("How long is the south river?", ["1 miles", "1"], "Old Rivers")
    table, _ = read_bank("squad", str(hub / "squad"), open_book=True)
    row = table.filter(pl.col("split") == "test").row(0, named=True)
    assert row["question"] == "The south river is 1 miles long.\n\nHow long is the south river?"


def test_sciq_is_multiple_choice_or_free_form(hub: Path, tmp_path: Path) -> None:
    table, origin = read_bank("sciq", str(hub / "sciq"), free_form=False)
    write_questions(table, tmp_path / "choices", [], {}, origin)
    read = read_questions(tmp_path / "choices")
    assert count(read) == {"train": 50, "dev": 10, "test": 15}
    for row in read.iter_rows(named=True):
        number = row["question"].split()[-1][:-1]
        assert row["choices"][row["answer"]] == f"rain {number}"
        assert set(row["choices"]) == {f"{word} {number}" for word in ("rain", "salt", "clay", "moss")}
    assert read["answer"].value_counts()["count"].min() > 10  # gold stands everywhere
    assert read["explanation"].null_count() == read.height - sum(n // 2 for n in (50, 10, 15))
    assert read.equals(read_questions(tmp_path / "choices"))
    table, origin = read_bank("sciq", str(hub / "sciq"), free_form=True)
    write_questions(table, tmp_path / "free", [], {}, origin)
    assert count(read_free_form(tmp_path / "free")) == {"train": 40, "dev": 8, "test": 12}
    assert origin.dropped == {"it cannot be asked without its choices": 15}


@pytest.mark.parametrize("name", BANKS)
def test_every_bank_has_a_command_a_citation_and_terms(hub: Path, tmp_path: Path, name: str) -> None:
    command = ("python", "-m", "intervention", "questions", name, "--data", hub / name, "--output", tmp_path / "set")
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "set/README.md").read_text()
    assert "@inproceedings" in card
    assert f"| {name} |" in card
    assert "language:\n- en" in card


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("squad", {"strict": True}, "2 rows cannot be asked .* the first is 'north0+'"),
        ("triviaqa", {"config": "rc"}, "config 'rc'|no column"),
        ("triviaqa", {"splits": {"test": 1.0}}, "--splits divides questions of one split, but these are of train and test"),
    ],
)
def test_what_a_bank_cannot_be_asked_for_is_one_line(hub: Path, name: str, options: dict, told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        read_bank(name, str(hub / name), **options)
    assert "\n" not in str(raised.value)


def test_a_folder_of_another_layout_is_named(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'question_id'"):
        read_bank("triviaqa", str(hub / "squad"))
    with pytest.raises(UserError, match="has no split train or validation; it has test"):
        read_bank("squad", str(hub / "popqa"))
    bad = pl.DataFrame({"id": ["1"], "question": ["q"], "obj": ["o"], "prop": ["p"], "possible_answers": ["['a']"]})
    write_configs(tmp_path / "bad", {"default": {"test": bad}})
    with pytest.raises(UserError, match=r"row 1 \(id '1'\): possible_answers .* is no JSON list"):
        read_bank("popqa", str(tmp_path / "bad"))
    with pytest.raises(UserError, match="cannot be read"):
        read_bank("popqa", str(tmp_path / "nowhere/at/all"))
