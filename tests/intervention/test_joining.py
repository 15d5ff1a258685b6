"""Question sets as one: renamed domains, chosen splits, and at most so many questions, taken by the seed."""

import polars as pl
import pytest
from conftest import run_command

from intervention.sources.joining import join_sets, take_most
from intervention.sources.questions import convert_jsonl
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.questions import read_questions


def write_bank(folder, source, domain, n):
    """A question set of one domain: `n` train, 2 dev and `n` test questions."""
    lines = [
        {"id": f"{split}/{i}", "source": source, "domain": domain, "split": split, "question": f"{source} {split} {i}?"}
        | {"choices": ["yes", "no"], "answer": i % 2}
        for split, count in (("train", n), ("dev", 2), ("test", n))
        for i in range(count)
    ]
    file = folder / f"{source}-{domain}.jsonl"
    pl.DataFrame(lines).write_ndjson(file)
    convert_jsonl([file], folder / file.stem)
    return folder / file.stem


@pytest.fixture
def banks(tmp_path):
    return write_bank(tmp_path, "mine", "science", 20), write_bank(tmp_path, "theirs", "physics", 30)


def count(table):
    return {row[:3]: row[3] for row in table.group_by("source", "domain", "split").len().rows()}


def test_sets_are_joined_with_the_splits_the_names_and_the_numbers_asked_for(banks, tmp_path):
    mine, theirs = banks
    words = ["join", mine, f"dev,test={theirs}", "--domain", "science=physics", "--most", "test=7", "--output", tmp_path / "q"]
    done = run_command("python", "-m", "intervention", "questions", *map(str, words))
    assert done.returncode == 0, done.stderr
    table = read_questions(tmp_path / "q")
    assert count(table) == {
        ("mine", "science", "train"): 20,
        ("mine", "science", "dev"): 2,
        ("mine", "science", "test"): 7,
        ("theirs", "science", "dev"): 2,
        ("theirs", "science", "test"): 7,
    }
    manifest = read_manifest(tmp_path / "q")
    assert manifest["seeds"] == {"sample": 0}
    assert manifest["config"]["source"]["most"] == ["test=7"]
    card = (tmp_path / "q/README.md").read_text()
    assert "physics is science" in card
    assert "taken at random (test=7; seed 0)" in card


def test_what_names_a_domain_wins_and_the_seed_decides_what_is_taken(banks):
    most = ["test=5", "physics/test=9", "train=0"]
    table, _ = join_sets(list(map(str, banks)), most=most)
    assert count(table.filter(split="test")) == {("mine", "science", "test"): 5, ("theirs", "physics", "test"): 9}
    assert not table.filter(split="train").height
    again, other = (join_sets(list(map(str, banks)), most=most, seed=seed)[0] for seed in (0, 1))
    assert again.equals(table)
    assert not other.equals(table)
    whole, told = take_most(table, {}, 0)
    assert whole.equals(table)
    assert told == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": ["science"]}, "--domain science: write NEW=OLD,OLD"),
        ({"domains": ["x=physic"]}, "--domain x=physic: no set has the domain 'physic' (is 'physics' meant?)"),
        ({"domains": ["x=physics", "y=physics"]}, "physics is renamed to x, too"),
        ({"most": ["tests=3"]}, "--most tests=3: write SPLIT=N"),
        ({"most": ["test=few"]}, "--most test=few: write SPLIT=N"),
        ({"most": ["chemistry/test=3"]}, "--most chemistry/test=3: there is no domain 'chemistry'"),
    ],
)
def test_what_cannot_be_read_is_named(banks, options, message):
    with pytest.raises(UserError) as caught:
        join_sets(list(map(str, banks)), **options)
    assert message in str(caught.value)


def test_the_same_questions_twice_are_refused(banks):
    with pytest.raises(UserError, match="domain 'science', id 'train/0' occurs more than once"):
        join_sets([str(banks[0]), str(banks[0])])
