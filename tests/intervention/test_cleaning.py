"""What a cleaned copy of questions drops and keeps."""

import json
import sys
from pathlib import Path

import pytest
from audits import CLEAN, LONG, count, drop, make, mark
from conftest import run_command
from made_up import write_set

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.cleaning import (
    CONTRADICTS,
    HELD_OUT,
    NEARLY_HELD_OUT,
    REPEATED,
    SHOTS,
    SHOWN,
    clean_questions,
    describe_shown,
    write_clean,
)
from intervention.auditing.findings import list_findings
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions


@pytest.mark.parametrize("split", ["dev", "test"])
def test_train_questions_that_are_held_out_are_found_and_go(tmp_path: Path, split: str) -> None:
    marked = mark(make("o1", "What heals?"), make("o2", "what heals", split=split, answer=1), tmp_path=tmp_path)
    assert count(marked, f"train questions that are in {split}") == [("all", 1, 3, "made_up/herbs/o1")]
    assert drop(marked) == [("o1", "question", HELD_OUT, "made_up/herbs/o2")]
    other = mark(make("o1", "What heals?", split="dev"), make("o2", "What heals?", split="test"), tmp_path=tmp_path)
    assert count(other, "dev questions that are in test") == [("all", 1, 2, "made_up/herbs/o1")]
    assert drop(other) == []


@pytest.mark.parametrize(("spare", "gone"), [(0, 0), (1, 1), (9, 2)])
def test_dev_questions_that_are_asked_leave_dev_as_far_as_enough_are_left(tmp_path: Path, spare: int, gone: int) -> None:
    """The test question stays, and so does what is asked under the same text with other choices."""
    own = [make(f"v{i}", f"What is the {i}th to heal?", split="dev") for i in range(SHOTS + spare - 3)]  # CLEAN has one more
    asked = [make("a1", "What heals?", split="dev"), make("a2", "What stings?", split="dev")]
    test = [make("t1", "what heals", answer=1, split="test"), make("t2", "What stings?", "nettle sage ivy oak", split="test")]
    test += [make("t3", "What stings?", "ivy nettle sage elder", split="test")]
    rows = [*own[:2], *asked, *own[2:], *test, make("o1", "What heals?")]
    marked = mark(*rows, tmp_path=tmp_path)
    left, dropped = clean_questions(marked)
    found = dropped.filter(why=SHOWN).select("id", "split", "like").rows()
    assert found == [("a1", "dev", "made_up/herbs/t1"), ("a2", "dev", "made_up/herbs/t3")][:gone]
    assert dropped.filter(why=HELD_OUT).select("id", "like").rows() == [("o1", "made_up/herbs/t1")]
    names = [row["id"] for row in [CLEAN[1], *rows] if row["split"] == "dev"]
    assert left.filter(split="dev")["id"].to_list() == [name for name in names if name not in [row[0] for row in found]]
    assert left.filter(split="test").height == 4
    assert left.filter(split="dev").height >= SHOTS
    told = [
        f"{gone} dev question(s) asked in test too left dev: made_up/herbs/a1{', made_up/herbs/a2' * (gone > 1)}.",
        f"{2 - gone} dev question(s) asked in test too stay, because fewer than {SHOTS} dev questions of their domain would be "
        f"left: {'made_up/herbs/a1, ' * (gone < 1)}made_up/herbs/a2.",
    ]
    assert describe_shown(marked) == [line for line, n in zip(told, (gone, 2 - gone)) if n]


def test_train_questions_nearly_held_out_go_where_the_answer_is_the_same(tmp_path: Path) -> None:
    near = LONG.replace("long ago", "once")
    finding = "train questions nearly in test or dev, with the same answer"
    same = mark(make("n1", LONG), make("n2", near, "ivy oak sage elm", 2, split="test"), tmp_path=tmp_path)
    assert count(same, finding) == [("train", 1, 3, "made_up/herbs/n1")]
    assert drop(same) == [("n1", "question", NEARLY_HELD_OUT, "made_up/herbs/n2")]
    other = mark(make("n1", LONG), make("n2", near, answer=1, split="test"), tmp_path=tmp_path)
    assert count(other, finding) == []
    assert drop(other) == []


def test_explanations_of_another_choice_go_and_their_questions_stay(tmp_path: Path) -> None:
    rows = [
        make("x1", "Which one?", explanation="The answer is B. So it is."),
        make("x2", "Which two?", explanation="The answer is ivy."),
        make("x3", "Which three?", explanation="Option B is wrong."),
        make("x4", "Which four?", explanation="The answer is B.", split="test"),
    ]
    marked = mark(*rows, tmp_path=tmp_path)
    other = "made_up/herbs/x1"
    assert count(marked, "explanations of another choice") == [("train", 2, 3, other), ("test", 1, 1, "made_up/herbs/x4")]
    assert count(marked, "explanations of another letter")[0] == ("train", 1, 2, other)
    left, _ = clean_questions(marked)
    assert drop(marked) == [(name, "explanation", CONTRADICTS, None) for name in ("x1", "x2")]
    told = dict(left.select("id", "explanation").iter_rows())
    assert (told["x1"], told["x2"], told["x3"], told["x4"]) == (None, None, "Option B is wrong.", "The answer is B.")


def test_several_sets_are_audited_together_and_one_id_in_two_is_an_error_of_the_copy(tmp_path: Path) -> None:
    train = write_set(tmp_path / "train", [make("a", "What heals?"), make("b", "What stings?")])
    test = write_set(tmp_path / "test", [make("t", "What heals?", split="test")])
    marked = audit_questions(read_sets([train, test]))
    assert count(marked, "train questions that are in test") == [("all", 1, 2, "made_up/herbs/a")]
    write_clean(marked, [train, test], tmp_path / "out", 0.8, 0)
    left = read_questions(tmp_path / "out").select("id", "split").rows()
    assert sorted(left) == [("b", "train"), ("t", "test")]
    both = [train, write_set(tmp_path / "more", [make("b", "What else stings?")])]
    with pytest.raises(UserError, match="id 'b' occurs more than once"):
        write_clean(audit_questions(read_sets(both)), both, tmp_path / "never", 0.8, 0)
    bad = write_set(tmp_path / "bad", [make("a", "What?", "ivy ivy sage elm")])
    with pytest.raises(UserError, match="no question is left"):
        write_clean(audit_questions(read_sets([bad])), [bad], tmp_path / "never", 0.8, 0)
    with pytest.raises(UserError, match="no question set is named"):
        read_sets([])
    with pytest.raises(UserError, match="--similarity 0 is not above 0"):
        audit_questions(read_sets([train]), similarity=0)
    assert not (tmp_path / "never").exists()


def test_the_command_prints_writes_json_and_a_copy_that_is_clean(tmp_path: Path) -> None:
    rows = [*CLEAN, make("r1", "Which | one?", "sage ivy sage oak"), make("x1", "Which two?", explanation="The answer is B.")]
    folder = write_set(tmp_path / "set", rows)
    words = (sys.executable, "-m", "intervention", "audit", folder)
    done = run_command(*words, "--json", tmp_path / "a.json", "--fix", tmp_path / "clean")
    assert done.returncode == 0, done.stderr
    assert "repeated choices" in done.stdout
    assert "33.33%" not in done.stdout.splitlines()[0]
    report = json.loads((tmp_path / "a.json").read_text())
    repeated = [row for row in report["findings"] if row["finding"] == "repeated choices" and row["split"] == "train"]
    assert [(row["n"], row["of"], row["example"]) for row in repeated] == [(1, 4, "made_up/herbs/r1")]
    assert {(row["finding"], row["id"]) for row in report["questions"]} >= {("repeated choices", "r1")}
    lines = [json.loads(line) for line in (tmp_path / "clean" / "dropped.jsonl").read_text().splitlines()]
    assert [(line["id"], line["dropped"], line["why"]) for line in lines] == [
        ("r1", "question", REPEATED),
        ("x1", "explanation", CONTRADICTS),
    ]
    manifest = json.loads((tmp_path / "clean" / "manifest.json").read_text())
    assert (manifest["stage"], manifest["config"]["terms"][0]["source"]) == ("questions", "made_up")
    again = audit_questions(read_sets([tmp_path / "clean"]))
    assert list_findings(again)["n"].sum() == 0
    run_command(*words, "--json", tmp_path / "b.json", "--fix", tmp_path / "clean2")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for name in ("herbs/train.parquet", "dropped.jsonl", "README.md"):
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "clean2" / name).read_bytes()
    wrong = run_command(sys.executable, "-m", "intervention", "audit", tmp_path / "nowhere")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "is not a data set folder" in wrong.stderr
