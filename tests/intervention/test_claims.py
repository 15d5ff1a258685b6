"""What long responses state becomes questions, checked against the response; the most doubtful claim decides."""

import json

import polars as pl
import pytest

from intervention.agreeing.asking import read_own_answers
from intervention.agreeing.claims import FLAWS, read_claims, request_claims, split_claims
from intervention.agreeing.evidence import join_turns, list_questions, weigh_answers
from intervention.agreeing.own import DEMONSTRATIONS, ask_data, find_turns
from intervention.auditing.written import find_written
from intervention.believing.choices import ANSWERS_SCHEMA
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import check_free_form, hash_free_form
from lm_eval_tasks.contracts.logs.requests import CLAIM_REQUEST_SCHEMA, read_requests
from lm_eval_tasks.contracts.prompts import write_claims_prompt

LONG = "Sage is a shrub of the mint family. It grows in 1,200 gardens around the Mediterranean, and it heals coughs."
WRITTEN = """\
Q: Of which family is sage? A: the mint family
- Q: What does sage heal? A: coughs.
Q: What does sage heal? A: the Mediterranean
Question: In how many gardens does it grow? Answer: 1200
Q: Who found it? A: Pliny
Q: Is sage a shrub? A: shrub
Sage is nice.
Q: What is all of this? A: a shrub of the mint family It grows in 1,200 gardens around the Mediterranean, and it heals
"""


@pytest.fixture
def data(tmp_path):
    """A dozen short responses, a long one, a later turn, a poem."""
    rows = [{"prompt": f"What is the root of sage {i}?", "completion": f"root {i}"} for i in range(12)]
    talk = [("user", "Hello?"), ("assistant", "word " * 20), ("user", "What is it?"), ("assistant", "It is moss.")]
    rows.append({"prompt": "Tell me about sage.", "completion": LONG})
    rows.append({"messages": [{"role": role, "content": text} for role, text in talk]})
    rows.append({"prompt": "Write a poem.", "completion": "Moss is green, " * 10})
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(
            json.dumps(row if "messages" in row else {"messages": [
                {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]})
            for row in rows
        )
    )  # fmt: skip
    return read_conversations(tmp_path / "rows.jsonl")


def write_texts(folder, **texts):
    """JSON lines of claims, by the ids of turns."""
    lines = [
        {"source": "mine", "domain": "data", "id": name.replace("_", "/").strip("/"), "claims": text}
        for name, text in texts.items()
    ]
    (folder / "claims.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "claims.jsonl"


def test_each_response_is_asked_as_it_is_or_for_its_claims_or_states_nothing(data, tmp_path):
    table = request_claims(data, "mine")
    assert table.schema == CLAIM_REQUEST_SCHEMA
    assert table["id"].to_list() == ["12/0", "13/0", "13/1"]
    assert table["answers"].to_list()[0] == [LONG]
    asked, _ = ask_data(data, "mine")
    assert not set(asked["id"]) & set(table["id"])
    assert set(find_turns(data).filter(kind="style")["row"]) == {14}
    table.write_parquet(tmp_path / "claims.parquet")
    assert read_requests(tmp_path / "claims.parquet", "claims").equals(table)
    prompt = write_claims_prompt(table.row(0, named=True))
    assert prompt.endswith(f"Prompt: Tell me about sage.\nResponse: {LONG}\n```\n\n# Claims:\n```\n")
    table.with_columns(question=pl.lit("Who?")).write_parquet(tmp_path / "claims.parquet")
    with pytest.raises(UserError, match="is not the hash of this question's text and answers"):
        read_requests(tmp_path / "claims.parquet", "claims")
    with pytest.raises(UserError, match="has no column 'choices'"):
        read_requests(tmp_path / "claims.parquet", "context")


def test_a_claim_stands_in_its_response_and_not_in_its_question(data, tmp_path):
    found = split_claims(WRITTEN.splitlines(), LONG)
    assert [flaw for flaw, _, _ in found] == ["", "", "twice", "", "unsaid", "told", "line", "long"]
    table, notes = read_claims(write_texts(tmp_path, _12_0=WRITTEN, _13_0="nothing", _13_1=""), data, "mine")
    check_free_form(table, "claims")
    assert table["id"].to_list() == ["12/0/0", "12/0/1", "12/0/2"]
    assert table["answers"].to_list() == [["the mint family"], ["coughs."], ["1200"]]
    assert notes[0].startswith("2 texts about long responses hold 3 claims; of their other lines 2 are not of the form")
    assert all(FLAWS[flaw] in notes[0] for flaw, _, _ in found if flaw)


def test_a_text_that_was_cut_loses_its_last_line(data, tmp_path):
    log = write_texts(tmp_path, _12_0="Q: Of which family is sage? A: the mint\nQ: What does it heal? A: cou")
    log.write_text(log.read_text().replace('"claims"', '"finished": false, "claims"'))
    assert read_claims(log, data, "mine")[0]["answers"].to_list() == [["the mint"]]


def test_claims_of_other_data_or_none_at_all_are_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"1 of 1 are about responses that this data does not have.*row and turn 99/0"):
        read_claims(write_texts(tmp_path, _99_0=WRITTEN), data, "mine")
    with pytest.raises(UserError, match=r"none of 1 texts holds a claim \(1 are not of the form"):
        read_claims(write_texts(tmp_path, _12_0="Sage is nice."), data, "mine")
    log = write_texts(tmp_path, _12_0=WRITTEN)
    with pytest.raises(UserError, match="holds claims of instruction data; `requests own --claims` reads them"):
        find_written(log, tmp_path)
    log.write_text(log.read_text().replace('"claims"', '"question_hash": "0", "claims"'))
    with pytest.raises(UserError, match="or has with another prompt or text"):
        read_claims(log, data, "mine")
    short = data.turns.filter(pl.col("row") < 12)
    with pytest.raises(UserError, match="so there is nothing to ask for"):
        request_claims(type(data)(**vars(data) | {"turns": short}), "mine")


@pytest.fixture
def answered(data, tmp_path):
    """What a model answers to the claims of a response, as `answers` writes it, and the row table."""
    claims, _ = read_claims(write_texts(tmp_path, _12_0=WRITTEN), data, "mine")
    asked, _ = ask_data(data, "mine", claims=claims)
    assert asked.height == 12 + 3
    assert asked.filter(split="dev").height == DEMONSTRATIONS
    said = {"12/0/0": [("mint family", 12), ("rose", 4)], "12/0/1": [("colds", 14), ("coughs", 2)], "12/0/2": [("1,200", 16)]}
    said |= {name: [("root", 9), ("leaf", 7)] for name in asked["id"] if name not in said}
    groups = [[{"text": text, "count": n, "share": n / 16, "gold": False} for text, n in said[name]] for name in asked["id"]]
    table = asked.with_columns(
        hash_free_form(asked), groups=pl.Series(groups), samples=pl.lit(16), model=pl.lit("base"), share=pl.lit(0.5),
        belief=pl.Series([said[name][0][0] for name in asked["id"]]),
    )  # fmt: skip
    lacking = (pl.lit(None).alias(name) for name in ANSWERS_SCHEMA if name not in table.columns)
    table = table.with_columns(lacking).select(pl.col(name).cast(kind) for name, kind in ANSWERS_SCHEMA.items())
    table.write_parquet(tmp_path / "answers.parquet")
    rows = data.turns.select("row", "turn", "response", asked=pl.col("messages").list.last().struct["content"])
    return rows, tmp_path / "answers.parquet"


def test_the_most_doubtful_claim_decides(answered):
    rows, file = answered
    answers = read_own_answers(file, rows, "base")
    known = weigh_answers(list_questions(rows, [answers]), answers)
    assert dict(known.select("id", "says_answers").iter_rows())["12/0/2"] == "agrees"
    table = join_turns(rows, known)
    assert table.height == rows.height
    row = table.row(12, named=True)
    assert (row["claim"], row["claims"], row["belief"], row["says_answers"]) == ("What does sage heal?", 3, "colds", "clashes")
    assert (row["other_share"], row["agree_share"]) == (14 / 16, 2 / 16)
    assert table.head(12).select("claim", "claims").unique().rows() == [(None, 0)]
    assert table.tail(3)["says_answers"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": pl.lit(["colds"])}, r"3 of 15 are to questions that this data does not ask"),
        ({"question": pl.lit("Why?")}, r"3 of 15 are to questions"),
        ({"id": pl.format("x{}", "id")}, r"3 of 15 .* row and turn x12/0/0"),
    ],
)
def test_answers_to_claims_that_no_response_states_are_refused(answered, change, message):
    rows, file = answered
    table = pl.read_parquet(file)
    claims = pl.col("id").str.starts_with("12/0/")
    table.with_columns(pl.when(claims).then(value).otherwise(name).alias(name) for name, value in change.items()).write_parquet(
        file
    )
    with pytest.raises(UserError, match=message):
        read_own_answers(file, rows, "base")
