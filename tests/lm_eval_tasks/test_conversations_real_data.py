"""Published instruction data, each row of it a turn, with what is wrong in it as it was found by hand."""

import gzip
import json
from pathlib import Path

import pytest

from lm_eval_tasks.contracts.conversations.flaws import count_flaws
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.conversations.writing import write_conversations

DATA = (Path(__file__).parents[2] / "../shared/reference/banks/instructions").resolve()
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published instruction data is not at {DATA}")


@pytest.mark.parametrize(
    ("name", "rows", "flaws"),
    [
        ("alpaca_2000.jsonl.gz", 2000, {}),
        ("alpaca_2000_distilled_llama2_chat.jsonl.gz", 2000, {"cut": 49}),
        ("dolly_2000.jsonl.gz", 2000, {"duplicate": 1, "contradictory_duplicate": 10, "cut": 23}),
        ("self_instruct", 427, {"cut": 2}),
    ],
)
def test_every_row_is_a_turn_and_its_flaws_are_counted(name: str, rows: int, flaws: dict, tmp_path: Path) -> None:
    found = read_conversations(DATA / name)
    assert (found.form, found.rows.height, found.turns.height) == ("alpaca", rows, rows)
    assert found.turns["row"].to_list() == list(range(rows))
    assert dict(count_flaws(found.flaws).select("flaw", "turns").rows()) == flaws
    write_conversations(found, tmp_path)
    assert read_conversations(tmp_path).rows.equals(found.rows)


def test_repeated_rows_are_those_that_a_plain_loop_finds() -> None:
    found = read_conversations(DATA / "dolly_2000.jsonl.gz")
    with gzip.open(DATA / "dolly_2000.jsonl.gz", "rt") as stream:
        rows = [(row["instruction"], row["input"].strip(), row["output"]) for row in map(json.loads, stream)]
    assert found.flaws.filter(flaw="duplicate")["row"].to_list() == [i for i, row in enumerate(rows) if row in rows[:i]]
    responses: dict[tuple, set] = {}
    for *asked, response in rows:
        responses.setdefault(tuple(asked), set()).add(response)
    several = [i for i, row in enumerate(rows) if len(responses[row[:2]]) > 1]
    assert found.flaws.filter(flaw="contradictory_duplicate")["row"].to_list() == several


def test_responses_that_a_limit_cut_are_found() -> None:
    """A model rewrote these rows up to a number of tokens; that the responses named are cut was seen by reading all of them."""
    found = read_conversations(DATA / "alpaca_2000_distilled_llama2_chat.jsonl.gz")
    cut = found.turns.join(found.flaws.filter(flaw="cut"), on=["row", "turn"], maintain_order="left")
    assert cut["response"].str.slice(-20).to_list()[:3] == [
        "trategy.\n7. Evaluate",
        "communicate with the",
        "ing the use of clean",
    ]
    assert cut["response"].str.split(" ").list.len().median() > 300
    assert found.turns["response"].str.split(" ").list.len().median() < 150
