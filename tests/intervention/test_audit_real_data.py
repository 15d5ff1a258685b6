"""What the audit finds in published banks and in the paper's own questions."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from audits import make
from made_up import write_jsonl, write_set

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.cleaning import (
    DUPLICATE,
    HELD_OUT,
    NEARLY_HELD_OUT,
    REPEATED,
    SHOWN,
    clean_questions,
)
from intervention.auditing.findings import list_findings, list_totals
from intervention.sources.published import read_published

REFERENCE = (Path(__file__).parents[2] / "../shared/reference").resolve()
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the paper's data is not at {REFERENCE}")


def read_lines(name: str) -> list[dict]:
    with gzip.open(REFERENCE / name, "rt") as stream:
        return [json.loads(line) for line in stream]


def audit_bank(name: str) -> pl.DataFrame:
    table, _ = read_published(name, str(REFERENCE / "banks" / name))
    return audit_questions(table.with_columns(set=pl.lit(name)))


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stems", "same_choices", "contradictory", "dropped"),
    [
        # Of MMLU's 38 texts with different answers two are of questions with the same choices, of which one contradicts itself.
        ("mmlu", 38, 2, 1, {REPEATED: 3, DUPLICATE: 2, HELD_OUT: 29, NEARLY_HELD_OUT: 8, SHOWN: 5}),
        ("cmmlu", 69, 5, 5, {}),
        ("ceval", 5, 1, 1, {}),
    ],
)
def test_real_banks_have_few_contradictory_questions_and_lose_none_for_a_stem(
    name: str, stems: int, same_choices: int, contradictory: int, dropped: dict[str, int]
) -> None:
    marked = audit_bank(name)
    texts = marked.group_by("domain", "text").agg(pl.col("says").n_unique(), pl.col("repeats").any())
    several = texts.filter(pl.col("says") > 1)
    assert (several.height, int(several["repeats"].sum())) == (stems, same_choices)
    found = dict(list_totals(list_findings(marked)).filter(split="all").select("finding", "n").iter_rows())
    assert found["repeated questions with different answers"] == contradictory
    gone = clean_questions(marked)[1]
    assert dict(gone.group_by("why").len().iter_rows()) == dropped
    stays = marked.filter(~pl.col("repeats"), ~pl.col("nearly_held_out"), ~pl.col("repeated"))
    assert gone.join(stays, on=["source", "domain", "id"], how="semi").is_empty()
    if name == "mmlu":
        history = list_findings(marked).filter(domain="history", split="all")
        counts = dict(history.select("finding", "n").iter_rows())
        assert (counts["shared passages"], counts["nearly repeated questions"]) == (633, 26)


@needs_reference
def test_every_known_flaw_of_the_papers_engineering_questions_is_found(tmp_path: Path) -> None:
    """In the paper's split 14 train rows repeat a choice, and 7 texts are asked twice, 3 of them with the same choices."""
    rows, raw = [], read_lines("xiezhi_raw/engineering.jsonl.gz")
    for part in read_lines("xiezhi_raw/engineering_split_ids.jsonl.gz"):
        for number in part["ids"]:
            choices = raw[number]["options"].split("\n")
            row = make(str(number), raw[number]["question"], split=part["split"], answer=choices.index(raw[number]["answer"]))
            rows.append(row | {"choices": choices})
    folder = tmp_path / "set"
    write_jsonl(tmp_path / "set.jsonl", rows)
    write_set(folder, rows)
    marked = audit_questions(read_sets([folder]))
    found = {(row["finding"], row["split"]): row["n"] for row in list_findings(marked).iter_rows(named=True)}
    assert (found["repeated questions", "all"], found["shared stems", "all"]) == (3, 5)  # one text is both
    assert found["repeated questions with different answers", "all"] == 0
    assert found["train questions nearly in test or dev, with the same answer", "train"] == 1
    assert (found["repeated choices", "train"], found["repeated choices", "test"]) == (14, 2)
    left, dropped = clean_questions(marked)
    counts = dict(dropped.group_by("why").len().iter_rows())
    assert counts == {NEARLY_HELD_OUT: 1, DUPLICATE: 3, REPEATED: 14}
    assert left.filter(split="test").height == 250
    assert (
        list_findings(audit_questions(left)).filter(split="train")["n"].sum()
        == list_findings(marked).filter(finding="answers in the question", split="train")["n"].sum()
        - dropped.join(marked.filter("given_away"), on="id", how="semi").height
    )
