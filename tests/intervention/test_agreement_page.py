"""The page of `agree`: what it holds, that text of the data stays text, and its size."""

import json
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from browser import Elements
from judged_rows import END, NAMED, START, fill_page, make_data, make_rows, read_rows, write_hostile

from intervention.agreeing import agree
from intervention.agreeing.page import CHARACTERS, LIMIT, PAGE_BYTES, name_model, order_rows, write_page
from intervention.agreeing.shares import share_verdicts
from intervention.agreeing.verdicts import VERDICTS, judge
from lm_eval_tasks.contracts.conversations.reading import Conversations, read_conversations
from lm_eval_tasks.contracts.files import write_parquet
from lm_eval_tasks.contracts.logs.readings import READING_SCHEMA, TOKEN_SCHEMA, name_part
from lm_eval_tasks.contracts.manifest import read_manifest, write_manifest


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Conversations, pl.DataFrame, Path]:
    return write_hostile(tmp_path_factory.mktemp("hostile"))


def test_data_cannot_leave_its_script_and_is_escaped_elsewhere(hostile):
    data, rows, page = hostile
    text = page.read_text()
    elements = Elements(text)
    tags = Counter(tag for tag, _ in elements.found)
    assert (tags["script"], tags["img"], tags["b"] > 0) == (2, 0, True)
    assert not any(name.startswith("on") for _, attrs in elements.found for name in attrs)
    assert not any({"src", "srcset", "action"} & {*attrs} for _, attrs in elements.found)
    assert {attrs["href"] for tag, attrs in elements.found if tag == "a" and "://" in attrs["href"]} == set()
    assert "<!--" not in text
    assert text.count("{{ 7 * 7 }}") >= rows.height * 4
    shown = {row["row"]: row for row in read_rows(text)}
    assert len(shown) == rows.height
    for row in rows.iter_rows(named=True):
        packed = shown[row["row"]]
        assert packed["id"] == [row["id"], 0]
        assert packed["prompt"] == [row["asked"], 0]
        assert "".join(part for part, _ in packed["response"]) == row["response"]
        assert packed["response"][1][0] == (row["response"][START:END] if row["row"] % 4 == 0 else "")
        assert packed["belief"] == (row["belief"] and [row["belief"], 0])
        assert packed["verdict"] == row["verdict"]
    assert shown[1]["numbers"][0] is None  # infinite, which JSON does not know
    assert str(Path(data.source).parent) not in text


def test_the_page_says_what_was_judged_and_that_a_clash_is_no_error(hostile):
    _, rows, page = hostile
    text = page.read_text()
    assert "my rows.jsonl</bdi>, in the form prompt/completion: 60 rows, 60 assistant turns judged" in text
    assert "me/base" in text
    assert "A clash is no error of the data." in text
    assert "A person should look at confident clashes first" in text
    for verdict, share, low, high, turns, n in share_verdicts(rows).iter_rows():
        line = re.search(rf'<tr class="{verdict}">.*?</tr>', text)[0]
        assert f"{VERDICTS[verdict]}<" in line
        assert f"<b>{100 * share:.1f}%</b><small>{100 * low:.1f}% to {100 * high:.1f}%</small>" in line
        assert f"{turns} of {n}<" in line
    assert "All 60 turns" in text


def test_groups_that_differ_are_marked(hostile):
    _, _, page = hostile
    lines = re.findall(r'<tr><th scope="row" class="group"><bdi>(\w+).*?</th>(.*?)</tr>', page.read_text())
    assert [name for name, _ in lines] == ["fact", *NAMED]
    assert [line.count("▲") for _, line in lines] == [0, 2, 2]  # even rows clash or have no belief, odd ones agree or nothing
    assert [line.count("▼") for _, line in lines] == [0, 2, 2]


def test_clashes_come_first_and_what_is_left_out_is_said(tmp_path):
    data = make_data(tmp_path, ["word"] * (LIMIT + 400))
    rows = make_rows(data)
    ordered = order_rows(rows, rows.height)
    clashes = rows.filter(verdict="clashes").height
    assert ordered["verdict"][:clashes].to_list() == ["clashes"] * clashes
    assert ordered["belief_share"][:clashes].is_sorted(descending=True)
    assert "clashes" not in ordered["verdict"][clashes:].to_list()
    assert not ordered["row"][clashes:].is_sorted()
    assert order_rows(rows.reverse(), rows.height)["row"][clashes:].equals(ordered["row"][clashes:])
    text = fill_page(rows, data)
    assert [row["row"] for row in read_rows(text)] == ordered["row"][:LIMIT].to_list()
    missing = Counter(ordered["verdict"][LIMIT:])
    told = re.search(r"Left out here, where 2,000 find room: (.*?)\. ", text)[1]
    assert told == ", ".join(f"{missing[name]} {name.replace('_', ' ')}" for name in VERDICTS if missing[name])
    assert sum(missing.values()) == 400


def test_a_page_of_long_rows_stays_under_its_size(tmp_path):
    data = make_data(tmp_path, ["é and " * 166] * LIMIT)
    rows = make_rows(data).with_columns(id=pl.col("row").cast(pl.String))
    text = fill_page(rows, data)
    assert rows["response"].str.len_chars().min() > 1000
    assert len(read_rows(text)) == LIMIT
    data = make_data(tmp_path, ["<汉> " * 1000] * LIMIT)
    text = fill_page(make_rows(data), data)
    held = read_rows(text)
    assert PAGE_BYTES * 0.98 < len(text.encode()) <= PAGE_BYTES
    assert 0 < len(held) < LIMIT
    assert f"{len(held):,} of 2,000 turns" in text
    assert "so that this page stays small" in text
    # Of a long text a part is shown, and how many characters are not.
    row, full = held[0], make_rows(data).filter(row=held[0]["row"]).row(0, named=True)
    assert row["prompt"] == [full["asked"][:CHARACTERS], len(full["asked"]) - CHARACTERS]
    assert row["response"][0] == [full["response"][:START], 0]
    assert row["response"][2] == [full["response"][END : END + CHARACTERS], len(full["response"]) - END - CHARACTERS]


def test_one_kind_of_evidence_gives_no_verdict_and_the_page_says_so(tmp_path):
    data = make_data(tmp_path, ["word"] * 4)
    rows = judge(
        make_rows(data).drop("verdict", "evidence", "says_answers", "says_contrast", "belief", "belief_share", "samples")
    )
    text = write_page(rows, data, "me/base", {"tokens": agree.count_verdicts(rows["says_tokens"])}, share_verdicts(rows), {})
    assert "One kind of evidence alone gives no verdict" in text
    assert {row["belief"] for row in read_rows(text)} == {None}


def test_a_turn_says_what_stands_before_it(tmp_path):
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": messages}, {"messages": messages[1:3]}]))
    data = read_conversations(tmp_path / "chat.json")
    judged = make_rows(data)
    told = {"tokens": agree.count_verdicts(judged["says_tokens"])}
    rows = read_rows(write_page(judged, data, "me/base", told, share_verdicts(judged), {}))
    rows.sort(key=lambda row: (row["row"], row["turn"]))
    stand = [[row[name] for name in ("row", "turn", "turns", "before", "system")] for row in rows]
    assert stand == [[0, 0, 2, 0, True], [0, 1, 2, 2, True], [1, 0, 1, 0, False]]


def test_groups_without_a_name_are_counted():
    rows = pl.DataFrame({"verdict": ["agrees", "clashes"], "source": [None, "a"]}, schema_overrides={"source": pl.String})
    shares = share_verdicts(rows, ["source"]).filter(verdict="agrees")
    assert shares.select("source", "turns", "n").rows() == [(None, 1, 1), ("a", 0, 1)]


def test_the_model_is_named_without_a_path():
    assert name_model({"config": {"model": "me/base", "adapter": None}}) == "me/base"
    assert name_model({"config": {"model": "/home/me/my models/base", "adapter": "a/b"}}) == "base + a/b"


def test_the_page_is_written_beside_the_rows_and_names_no_path(tmp_path, monkeypatch):
    data = make_data(tmp_path, ["word"] * 8)
    rows = make_rows(data)
    readings = tmp_path / "readings"
    readings.mkdir()
    write_parquet(pl.DataFrame(schema=READING_SCHEMA), readings / name_part(0))
    write_parquet(pl.DataFrame(schema=TOKEN_SCHEMA), readings / "tokens.parquet")
    write_manifest(readings, "read", [], {"parts": 1, "model": f"{tmp_path}/base"}, {}, {})
    monkeypatch.setattr(agree, "judge_turns", lambda *_: (rows, read_manifest(readings)))
    tables = agree.write_agreement(data, readings, tmp_path / "out", None, [], [], [])
    text = (tmp_path / "out" / agree.PAGE).read_text()
    assert {title for title, _ in tables} >= {"Verdicts by the kind of row", "Verdicts by source"}
    assert "By source" in text
    assert "judged by <bdi>base</bdi>" in text
    assert str(tmp_path) not in text
