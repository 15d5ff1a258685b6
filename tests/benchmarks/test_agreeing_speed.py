"""The benchmark of `agree` judges every row of its made-up data. No test looks at a clock."""

import polars as pl
from agreeing import write_readings, write_rows

from intervention.agreeing.agree import judge_turns
from lm_eval_tasks.contracts.conversations.reading import read_conversations


def test_made_up_rows_are_judged(tmp_path):
    write_rows(tmp_path / "rows.jsonl", 300)
    write_readings(tmp_path / "rows.jsonl", tmp_path / "readings")
    rows, _ = judge_turns(read_conversations(tmp_path / "rows.jsonl"), tmp_path / "readings", None, [])
    assert rows.height == 300
    assert rows["tokens_chat"].to_list() == rows["response"].str.count_matches(r"\S+").to_list()
    assert rows.filter(pl.col("says_tokens") == "clashes").height > 0
