"""Measures, evidence and verdicts of instruction data, on made-up readings and answers, so that what is right is known."""

import json

import numpy as np
import polars as pl
import pytest

from intervention.agreeing.agree import judge_turns, write_agreement
from intervention.agreeing.evidence import (
    find_agreeing,
    join_turns,
    list_questions,
    weigh_answers,
    weigh_contrast,
    weigh_tokens,
)
from intervention.agreeing.kinds import find_kind
from intervention.agreeing.measures import find_spans, measure_readings
from intervention.agreeing.own import DEMONSTRATIONS, ask_data
from intervention.agreeing.shares import share_verdicts
from intervention.agreeing.verdicts import VERDICTS, judge
from intervention.believing.choices import ANSWERS_SCHEMA
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_parquet
from lm_eval_tasks.contracts.free_form import hash_free_form
from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA
from lm_eval_tasks.contracts.logs.readings import READING_SCHEMA, STARTED, TOKEN_SCHEMA, name_part
from lm_eval_tasks.contracts.logs.scores import read_probe
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import hash_questions

ASKED = "What is the root of the sage?"


def make_data(folder, responses):
    """Instruction data with one prompt a row."""
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"{i}: {ASKED}", "completion": text}) for i, text in enumerate(responses)))
    return read_conversations(file)


def make_reading(data, row, prompt, probabilities, best):
    """A reading in which each word is a token: its probability, and that of the model's best token."""
    response = data.turns["response"][row]
    words = response.split()
    starts = [response.index(word) for word in words]
    own, top = np.log(probabilities), np.log(best)
    return {
        "row": row, "turn": 0, "text_hash": data.turns["text_hash"][row], "prompt": prompt, "whole": True,
        "tokens": list(range(len(words))), "starts": starts,
        "ends": [start + len(word) for start, word in zip(starts, words, strict=True)],
        "logprobs": own.tolist(), "entropies": [0.5] * len(words), "tops": [7] * len(words), "top_logprobs": top.tolist(),
        "ranks": [0] * len(words),
    }  # fmt: skip


def write_readings(folder, rows):
    folder.mkdir()
    write_parquet(pl.DataFrame(rows, schema=READING_SCHEMA), folder / name_part(0))
    write_parquet(pl.DataFrame({"token": [7], "text": [" red"]}, schema=TOKEN_SCHEMA), folder / "tokens.parquet")
    (folder / STARTED).write_text("{}")
    write_manifest(folder, "read", [], {"parts": 1, "model": "base"}, {}, {})
    return folder


def test_measures_are_those_of_the_formulas_and_look_at_claims_alone(tmp_path):
    data = make_data(tmp_path, ["The root is blue"])
    # "The", "root" and "is" stand in the prompt: that the model expects other words there claims nothing.
    reading = make_reading(data, 0, "chat", [0.01, 0.5, 0.5, 0.02], [0.9, 0.5, 0.5, 0.6])
    (row,) = measure_readings(pl.DataFrame([reading], schema=READING_SCHEMA).lazy(), data.turns).iter_rows(named=True)
    assert row["surprisal_nats"] == pytest.approx(-np.log([0.01, 0.5, 0.5, 0.02]).mean(), rel=1e-5)
    assert (row["tokens"], row["claimed"], row["overruled"], row["conflicts"]) == (4, 1, 1, 1)
    assert row["hard"] == 0.5
    assert row["excess_nats"] == pytest.approx(np.log(0.6 / 0.02), rel=1e-5)
    assert (row["span_start"], row["span_end"], row["preferred"]) == (12, 16, 7)


def test_all_words_of_the_prompt_are_a_claim_where_there_is_no_other(tmp_path):
    data = make_data(tmp_path, ["root"])
    reading = make_reading(data, 0, "chat", [0.01], [0.9])
    measured = measure_readings(pl.DataFrame([reading], schema=READING_SCHEMA).lazy(), data.turns)
    assert measured["claimed"].to_list() == [1]
    assert measured["overruled"].to_list() == [1]


@pytest.mark.parametrize(
    ("marked", "weights", "bounds", "spans"),
    [
        ([1, 1, 0, 0, 1], [1] * 5, [0, 5], [[0, 1, 2]]),
        ([1, 0, 1, 0, 0, 1], [1] * 6, [0, 6], [[0, 2, 2]]),
        ([1, 0, 0, 1], [1, 0, 0, 3], [0, 4], [[3, 3, 1]]),  # of runs of one length that with the largest sum
        ([0, 1, 1, 0], [1] * 4, [0, 2, 4], [[1, 1, 1], [2, 2, 1]]),  # a run ends with its part
        ([0, 0], [1, 1], [0, 1, 1, 2], [[-1, -1, 0]] * 3),
    ],
)
def test_the_longest_run_of_each_part(marked, weights, bounds, spans):
    found = find_spans(np.array(marked, bool), np.array(weights, float), np.array(bounds))
    assert found.tolist() == spans


@pytest.fixture
def judged(tmp_path):
    """Four rows: what the model holds, what it denies in every way, what it says in another form, what it has no idea of."""
    data = make_data(tmp_path, ["red", "blue", "it is RED indeed", "green"])
    sure, denied, torn = ([0.9], [0.9]), ([0.01], [0.9]), ([0.1], [0.3])
    seen = {0: (sure, sure), 1: (denied, denied), 3: (torn, torn)}
    rows = [
        make_reading(data, row, prompt, *numbers)
        for row, pair in seen.items()
        for prompt, numbers in zip(("chat", "in_context"), pair, strict=True)
    ]
    form = [0.9, 0.9, 0.9]
    rows.append(make_reading(data, 2, "chat", [0.02, 0.5, 0.5, 0.5], [0.9, *form]))
    rows.append(make_reading(data, 2, "in_context", [0.5] * 4, [0.9, *form]))
    rows.sort(key=lambda row: (row["prompt"], row["row"]))
    group = {"red": [("red", 15), ("blue", 1)], "none": [(f"word {i}", 4) for i in range(4)]}
    shared = {"source": "rows", "domain": "data", "split": "test", "samples": 16, "model": "base", "choices_hash": "c"}
    asked = pl.DataFrame(
        [
            shared
            | {"id": f"{row}/0", "question": f"{row}: {ASKED}", "answers": [data.turns["response"][row]]}
            | {"belief": None if row == 3 else "red", "share": 0.25 if row == 3 else 0.9}
            | {"groups": [{"text": text, "count": n, "share": n / 16, "gold": False} for text, n in said]}
            for row, said in enumerate([group["red"]] * 3 + [group["none"]])
        ]
    )
    asked = asked.with_columns(hash_free_form(asked))
    lacking = (pl.lit(None).alias(name) for name in ANSWERS_SCHEMA if name not in asked.columns)
    answers = asked.with_columns(lacking).select(pl.col(name).cast(kind) for name, kind in ANSWERS_SCHEMA.items())
    write_parquet(answers, tmp_path / "answers.parquet")
    return data, write_readings(tmp_path / "readings", rows), tmp_path / "answers.parquet"


def test_a_verdict_needs_two_kinds_of_evidence(judged):
    data, readings, answers = judged
    rows, _ = judge_turns(data, readings, answers, [])
    assert rows["says_tokens"].to_list() == ["agrees", "clashes", "style", "no_belief"]
    assert rows["says_answers"].to_list() == ["agrees", "clashes", "agrees", "no_belief"]
    assert rows["verdict"].to_list() == ["agrees", "clashes", "style", "no_belief"]
    assert rows["evidence"].to_list() == [["tokens", "answers"]] * 4
    assert rows["expected"].to_list() == [None, " red", None, None]
    assert judge_turns(data, readings, None, [])[0]["verdict"].unique().to_list() == ["undecided"]
    for low, share, high in rows.select("agree_low", "agree_share", "agree_high").iter_rows():
        assert 0 <= low <= share <= high <= 1


def test_the_output_holds_every_row_and_says_shares_with_intervals(judged, tmp_path):
    data, readings, answers = judged
    tables = dict(write_agreement(data, readings, tmp_path / "out", answers, [], [], ["agree"]))
    assert pl.read_parquet(tmp_path / "out/rows.parquet").height == 4
    shares = tables["Verdicts (intervals: 95%, Wilson)"]
    assert shares["verdict"].to_list() == list(VERDICTS)
    assert shares["turns"].to_list() == [1, 1, 1, 1, 0]
    assert tables["Clashes to look at first"]["the model"].to_list() == ["red"]


def test_readings_and_answers_of_other_data_are_refused(judged, tmp_path):
    data, readings, answers = judged
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="holds readings of other data: row 3"):
        judge_turns(make_data(tmp_path / "b", ["red", "blue", "it is RED indeed", "grey"]), readings, None, [])
    table = pl.read_parquet(answers)
    other = hash_free_form(table.with_columns(answers=pl.concat_list(pl.lit("grey"))))
    for change, message in (
        (table.with_columns(id=pl.format("9{}", "id")), "4 of 4 are to questions that this data does not ask.*90/0"),
        (table.with_columns(other), "4 of 4 are to questions that this data does not ask, or has with another prompt"),
        (table.with_columns(model=pl.lit("chat")), "is of the model 'chat', but the readings of 'base'"),
        (table.drop("groups"), "has no column 'groups', so it is not a table of answers"),
    ):
        change.write_parquet(tmp_path / "strange.parquet")
        with pytest.raises(UserError, match=message):
            judge_turns(data, readings, tmp_path / "strange.parquet", [])
    with pytest.raises(UserError, match="cannot be read"):
        judge_turns(data, readings, tmp_path / "absent.parquet", [])


def make_probe(row, **changes):
    """A probe of a question whose choices are two answers of the model."""
    question = {"source": "rows", "domain": "data", "id": f"{row}/0", "split": "test", "question": f"{row}: {ASKED}"}
    question |= {"subject": None, "explanation": None, "topics": [], "choices": ["red", "blue"], "answer": 0}
    own = read_probe([-0.1, -3.0], 0) | {"model": "base", "run": "", "phase": "base_probe", "scoring": "cloze", "draw": 0}
    return question | own | {"order": 0, "task": "selfalign_probe_cloze", "score": "sum"} | changes


def test_probes_are_of_the_answers_and_once_each(judged, tmp_path):
    data, readings, file = judged
    answers = pl.read_parquet(file)
    probes = pl.DataFrame([make_probe(row) for row in range(4)], infer_schema_length=None)
    probes = probes.with_columns(hash_questions(probes))
    answers = answers.with_columns(probes.get_column("question_hash").alias("choices_hash"))
    answers.write_parquet(file)

    def judge_with(table):
        lacking = (pl.lit(None).alias(name) for name in PROBE_SCHEMA if name not in table.columns)
        table = table.with_columns(lacking).select(pl.col(name).cast(kind) for name, kind in PROBE_SCHEMA.items())
        write_parquet(table, tmp_path / "probes.parquet")
        return judge_turns(data, readings, file, [tmp_path / "probes.parquet"])[0]

    assert judge_with(probes)["says_contrast"].to_list() == ["agrees"] * 4
    again = probes.with_columns(draw=pl.lit(1, pl.Int64))
    other = probes.with_columns(choices=pl.lit(["red", "grey"]))
    for table, message in (
        (pl.concat([probes, again]), "row and turn 0/0 was probed several times"),
        (other.with_columns(hash_questions(other)), "was asked with another text, choices or answer"),
        (probes.with_columns(model=pl.lit("chat")), "is of the model 'chat'"),
        (probes.with_columns(phase=pl.lit("base_chat")), "of phase 'base_chat'"),
    ):
        with pytest.raises(UserError, match=message):
            judge_with(table)
    with pytest.raises(UserError, match="name these too"):
        judge_turns(data, readings, None, [tmp_path / "probes.parquet"])


def test_the_contrast_counts_every_answer_that_the_response_says():
    rows = pl.DataFrame({"row": [0, 1, 2], "turn": [0, 0, 0], "response": ["The root is red.", "blue", "It is crimson."]})
    probes = pl.DataFrame(
        {
            "id": ["0/0", "1/0", "2/0"],
            "choices": [["Red", "The root is red.", "blue"], ["red", "blue"], ["red", "blue", "It is crimson."]],
            "answer": [1, 1, 2],
            "probs": [[0.6, 0.1, 0.3], [1.0, 0.0], [0.6, 0.3, 0.1]],
        }
    )
    groups = [[], [], [{"text": "red", "wordings": ["red", "crimson"], "share": 0.5}]]
    answers = pl.DataFrame({"id": probes["id"], "groups": groups})
    found = weigh_contrast(list_questions(rows, [probes.select("id")]), answers, probes)
    assert found["probability"].to_list() == pytest.approx([0.7, 0.0, 0.7])
    assert found["contrast_nats"].to_list() == pytest.approx([np.log(0.7 / 0.3), np.log(1e-9), np.log(0.7 / 0.3)])
    assert found["says_contrast"].to_list() == ["agrees", "clashes", "agrees"]


def test_answers_are_compared_word_for_word():
    groups = [{"text": "St. Louis", "share": 0.5}, {"text": "Louis", "share": 0.25}, {"text": "", "share": 0.25}]
    assert find_agreeing("It is st louis, Missouri.", groups) == (0.75, 0.0)
    assert find_agreeing("Saint-Louisville", groups) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        (("clashes", "clashes", None), "clashes"),
        (("clashes", "clashes", "agrees"), "undecided"),
        (("clashes", "agrees", "agrees"), "style"),
        (("agrees", "agrees", "no_belief"), "agrees"),
        (("no_belief", "no_belief", "clashes"), "undecided"),
        ((None, "agrees", "agrees"), "agrees"),
        ((None, None, None), "undecided"),
        (("style", None, None), "undecided"),
    ],
)
def test_verdicts(says, verdict):
    columns = dict(zip(("says_tokens", "says_answers", "says_contrast"), ([word] for word in says), strict=True))
    rows = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    assert judge(rows)["verdict"].to_list() == [verdict]


def test_tokens_say_nothing_where_not_both_prompts_were_read():
    assert weigh_tokens(pl.DataFrame({"row": [0]}))["says_tokens"].to_list() == [None]


def test_answers_of_turns_that_were_not_asked_are_null():
    rows = pl.DataFrame({"row": [0, 1], "turn": [0, 0], "response": ["red", "long"]})
    asked = {"id": ["0/0"], "samples": [4], "belief": ["red"], "share": [1.0], "question_hash": ["h"]}
    groups = [[{"text": "red", "count": 4, "share": 1.0, "gold": True}]]
    answers = pl.DataFrame(asked | {"groups": groups})
    found = join_turns(rows, weigh_answers(list_questions(rows, [answers.select("id")]), answers))
    assert found["says_answers"].to_list() == ["agrees", None]
    assert found["samples"].to_list() == [4, None]


def test_shares_are_of_all_turns_and_of_groups():
    rows = pl.DataFrame({"verdict": ["agrees", "agrees", "clashes"], "kind": ["fact", "style", "fact"]})
    shares = share_verdicts(rows, ["kind"]).filter(verdict="agrees")
    assert shares.select("kind", "share", "turns", "n").rows() == [("fact", 0.5, 1, 2), ("style", 1.0, 1, 1)]
    assert all(low <= share <= high for low, share, high in shares.select("low", "share", "high").iter_rows())


@pytest.mark.parametrize(
    ("asked", "response", "kind"),
    [
        ("Name the root of the sage.", "nibit", "fact"),
        ("Write a poem about moss.", "Moss is green.", "style"),
        ("How do I pick a lock?", "I can't help with that.", "refusal"),
        ("What is 3 + 4?", "3 + 4 = 7", "reasoning"),
        ("Moss and fern and sage, all of them in the garden", " ".join(["word"] * 20), "other"),
        ("Say something angry.", '"I can\'t believe it," he said.', "fact"),
    ],
)
def test_kinds(asked, response, kind):
    assert pl.DataFrame({"asked": [asked], "response": [response]}).select(find_kind()).item() == kind


def test_short_facts_are_asked_and_the_rest_is_said(tmp_path):
    rows = [{"prompt": f"What is the root of sage {i}?", "completion": f"root\n {i}"} for i in range(DEMONSTRATIONS + 3)]
    rows += [{"prompt": "Why?", "completion": "word " * 30}, {"prompt": "Write a poem.", "completion": "Moss."}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = read_conversations(tmp_path / "rows.jsonl")
    table, notes = ask_data(data, "mine")
    assert table.height == DEMONSTRATIONS + 3
    assert table["split"].value_counts().sort("count").rows() == [("test", 3), ("dev", DEMONSTRATIONS)]
    assert table.filter(id="2/0").select("question", "answers").row(0) == ("What is the root of sage 2?", ["root 2"])
    assert any("1 of 15 responses have more than 12 words" in note for note in notes)
    assert any("1 of 15 responses state no fact" in note for note in notes)
    assert ask_data(data, "mine")[0].equals(table)
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows[:3])))
    with pytest.raises(UserError, match="3 responses are short answers"):
        ask_data(read_conversations(tmp_path / "few.jsonl"), "few")
