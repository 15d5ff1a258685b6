"""Explanations and contexts in instruction sets: who explains what, what is missing, what contradicts, what moves."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from made_up import Study, fill_probes, make_rows, own, says, write_jsonl, write_table

from intervention.texts.additions import Texts
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

ALL = ["harmonious", "incompatible", "self_aligning", "random_wrong", "mix", "gold"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, make_rows(200))


def explain(study: Study, role: str = "belief", skip: int = 0, text: str = "The model thinks so.") -> Path:
    """JSON lines with an explanation of each prediction, or of each gold answer."""
    column = "prediction" if role == "belief" else "answer"
    rows = [
        {name: row[name] for name in ("source", "domain", "id")} | {"response": row[column], "explanation": f"{text} {role}"}
        for row in study.table.iter_rows(named=True)
        if role == "gold" or row["prediction"] != row["answer"]
    ]
    return write_jsonl(study.folder / f"{role}-{skip}.jsonl", rows[skip:])


def reasons(table: pl.DataFrame) -> list[str]:
    return ["\n\n".join(text.split("\n\n")[1:]) for text in says(own(table), "completion")]


def test_by_default_gold_is_explained_where_nobody_has_to_explain_beliefs(study: Study) -> None:
    sets = study.build(conditions=["harmonious", "incompatible"])
    for table in sets.values():
        assert [r.startswith("The ") for r in reasons(table)] == [True] * own(table).height
        assert set(own(table)["explanation_from"]) == {"gold"}
    sets = study.build(conditions=ALL)
    assert all(set(reasons(table)) == {""} for table in sets.values())
    assert any("nobody explains the model's wrong beliefs" in note for note in study.notes)


def test_the_papers_explanations(study: Study) -> None:
    inputs = replace(study.inputs, texts=Texts([explain(study)]))
    sets = study.build(inputs=inputs, conditions=ALL, ratios=[0.4])
    for name in ("harmonious", "incompatible", "gold"):
        assert set(own(sets[name])["explanation_from"]) == {"gold"}
        assert all(reason.endswith("is known for it.") for reason in reasons(sets[name]))
    assert set(reasons(sets["self_aligning"])) == {"The model thinks so. belief"}
    assert set(own(sets["self_aligning"])["explanation_from"]) == {"model"}
    assert set(reasons(sets["random_wrong"])) == {""}
    assert own(sets["random_wrong"])["explanation_from"].is_null().all()
    for row, reason in zip(own(sets["mix-0.4"]).iter_rows(named=True), reasons(sets["mix-0.4"]), strict=True):
        assert row["explanation_from"] == ("model" if row["agrees_with_belief"] else "gold")
        assert reason.endswith("belief" if row["agrees_with_belief"] else "is known for it.")
    manifest = json.loads((study.folder / "out/manifest.json").read_text())
    assert manifest["config"]["explanations"] == "paper"
    assert not any("explanations are by" in note for note in study.notes)  # nobody knows by whom
    assert "explanations" in manifest["inputs"]


def test_the_model_explains_every_answer(study: Study) -> None:
    logs = [explain(study), explain(study, "gold")]
    conditions = ["harmonious", "incompatible", "self_aligning"]
    sets = study.build(inputs=replace(study.inputs, texts=Texts(logs)), conditions=conditions, explanations="model")
    assert set(reasons(sets["incompatible"])) == set(reasons(sets["harmonious"])) == {"The model thinks so. gold"}
    assert set(reasons(sets["self_aligning"])) == {"The model thinks so. belief"}
    with pytest.raises(UserError, match=r"no explanation of gold of question made_up/herbs id 'train-.* --allow-missing"):
        study.build(inputs=replace(study.inputs, texts=Texts(logs[:1])), conditions=["incompatible"], explanations="model")


def test_gold_explains_gold_alone(study: Study) -> None:
    sets = study.build(conditions=["incompatible", "self_aligning", "mix"], ratios=[0.5], explanations="gold")
    assert set(own(sets["incompatible"])["explanation_from"]) == {"gold"}
    assert own(sets["self_aligning"])["explanation_from"].is_null().all()
    mix = own(sets["mix-0.5"])
    assert (mix["explanation_from"].is_null() == mix["agrees_with_belief"]).all()


def test_self_distilled_rows_say_gold_in_the_models_own_words_and_differ_in_nothing_else(study: Study) -> None:
    inputs = replace(study.inputs, texts=Texts([explain(study, "gold")]))
    sets = study.build(inputs=inputs, conditions=["incompatible", "self_distilled", "gold"])
    assert set(reasons(sets["self_distilled"])) == {"The model thinks so. gold"}
    assert set(own(sets["self_distilled"])["explanation_from"]) == {"model"}
    assert all(set(reasons(sets[name])) == {""} for name in ("incompatible", "gold"))
    shared = ("id", "prompt", "response_letter", "order")
    assert own(sets["incompatible"]).select(shared).equals(own(sets["self_distilled"]).select(shared))
    sets = study.build(inputs=inputs, conditions=["incompatible", "self_distilled"], explanations="gold")
    assert all(reason.endswith("is known for it.") for reason in reasons(sets["incompatible"]))
    assert set(reasons(sets["self_distilled"])) == {"The model thinks so. gold"}


def test_a_question_without_the_models_words_leaves_all_conditions(study: Study) -> None:
    log = explain(study, "gold", skip=40)
    inputs = replace(study.inputs, texts=Texts([log], allow_missing=True))
    sets = study.build(inputs=inputs, conditions=["incompatible", "self_distilled"])
    explained = {json.loads(line)["id"] for line in log.read_text().splitlines()}
    assert {*own(sets["incompatible"])["id"]} == {*own(sets["self_distilled"])["id"]} <= explained


def test_a_partial_log_builds_a_partial_set_only_if_it_may(study: Study) -> None:
    texts = Texts([explain(study, skip=5)])
    with pytest.raises(UserError, match=r"no explanation of the belief of question .* \(and of \d more\)"):
        study.build(inputs=replace(study.inputs, texts=texts), conditions=["incompatible", "self_aligning"])
    whole = study.build(
        inputs=replace(study.inputs, texts=Texts([explain(study)])), conditions=["incompatible", "self_aligning"]
    )
    part = study.build(
        inputs=replace(study.inputs, texts=replace(texts, allow_missing=True)), conditions=["incompatible", "self_aligning"]
    )
    lost = set(own(whole["incompatible"])["id"]) - set(own(part["incompatible"])["id"])
    assert 0 < len(lost) <= 5
    assert part["incompatible"]["id"].equals(part["self_aligning"]["id"])
    n = own(whole["incompatible"]).height
    assert (
        f"{n - len(lost)} of {n} questions with a wrong belief have the explanation of the belief; the others are left out."
        in (study.notes)
    )


def test_explanations_of_another_model_are_told(study: Study) -> None:
    rows = [json.loads(line) for line in explain(study).read_text().splitlines()]
    keys = ("source", "domain", "id")
    docs = [
        {name: row[name] for name in (*keys, "response")}
        | {"text": row["explanation"], "task": "selfalign_explain", "model": "another", "finished": True}
        for row in rows
    ]
    log = write_jsonl(study.folder / "samples_x.jsonl", [{"doc_id": i, "doc": doc} for i, doc in enumerate(docs)])
    study.build(inputs=replace(study.inputs, texts=Texts([log])), conditions=["self_aligning"])
    assert "The model's explanations are by another, and the beliefs are of base." in study.notes


def test_a_log_in_which_every_text_is_empty_builds_nothing(study: Study) -> None:
    rows = [json.loads(line) for line in explain(study).read_text().splitlines()]
    log = write_jsonl(study.folder / "empty.jsonl", [row | {"explanation": " "} for row in rows])
    texts = Texts([log], allow_missing=True)
    with pytest.raises(UserError, match=r"none of the \d+ questions with a wrong belief has the explanation of the belief"):
        study.build(inputs=replace(study.inputs, texts=texts), conditions=["self_aligning"])


def test_texts_that_were_cut_are_counted(study: Study) -> None:
    rows = [json.loads(line) for line in explain(study).read_text().splitlines()]
    log = write_jsonl(study.folder / "cut.jsonl", [row | {"finished": i % 2 == 0} for i, row in enumerate(rows)])
    sets = study.build(inputs=replace(study.inputs, texts=Texts([log])), conditions=["self_aligning"])
    cut = {row["id"] for row in rows[1::2]}
    n = own(sets["self_aligning"]).height
    found = sum(i in cut for i in own(sets["self_aligning"])["id"])
    what = "texts (explanation of the belief, questions with a wrong belief)"
    assert f"{found} of {n} {what} were cut at the limit of tokens." in study.notes


def test_matched_conditions_have_no_explanations_unless_asked_for(study: Study) -> None:
    conditions = ["harmonious", "self_aligning"]
    assert set(reasons(study.build(conditions=conditions, match="confidence")["harmonious"])) == {""}
    inputs = replace(study.inputs, texts=Texts([explain(study)]))
    with pytest.raises(UserError, match="unless you say which: add --explanations model"):
        study.build(inputs=inputs, conditions=conditions, match="confidence")
    sets = study.build(inputs=inputs, conditions=conditions, match="confidence", explanations="paper")
    assert set(reasons(sets["self_aligning"])) == {"The model thinks so. belief"}


def test_explanations_that_contradict_are_flagged_or_left_out(tmp_path: Path) -> None:
    def state(i: int, row: dict) -> str:
        letter = "ABCD"[row["answer"] if i % 5 else (row["answer"] + 1) % 4]
        return f"The answer is {letter}." if i % 2 else "Nobody knows."

    study = Study(tmp_path, [row | {"explanation": state(i, row)} for i, row in enumerate(make_rows(300))])
    flagged = own(study.build(conditions=["harmonious", "incompatible"])["incompatible"])
    numbers = flagged["id"].str.strip_prefix("train-").cast(pl.Int64)
    expected = [None if i % 2 == 0 else i % 5 == 0 for i in numbers]
    assert flagged["contradicts"].to_list() == expected
    assert True in expected
    assert any("--drop-contradictions drops them" in note for note in study.notes)
    texts = replace(study.inputs.texts, drop_contradictions=True)
    clean = study.build(inputs=replace(study.inputs, texts=texts), conditions=["harmonious", "incompatible"])
    assert not any(table["contradicts"].any() for table in clean.values())
    assert all(own(table).height for table in clean.values())
    assert any("are left out" in note for note in study.notes)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"explanations": "mine"}, "--explanations mine is none of gold, model, none, paper, and no log at that path"),
        ({"explanations": "none", "texts": Texts([Path("x.jsonl")])}, "--explanations none uses no log"),
        ({"texts": Texts(keep_moved=True), "conditions": ["gold"]}, "about the condition contextualized"),
        ({"conditions": ["gold", "self_distilled"]}, "self_distilled needs what the base model says for gold"),
        (
            {"conditions": ["self_distilled"], "explanations": "model", "texts": Texts([Path("x.jsonl")])},
            "self_distilled would be no condition of its own",
        ),
        ({"explanations": "paper"}, "--explanations paper needs the base model's explanations"),
        ({"explanations": "model", "conditions": ["gold"]}, "--explanations model needs the base model's explanations"),
    ],
)
def test_what_explanations_need_is_said(study: Study, plan: dict, message: str) -> None:
    inputs = replace(study.inputs, texts=plan.pop("texts", Texts()))
    with pytest.raises(UserError, match=message):
        study.build(inputs=inputs, **plan)
    assert not (study.folder / "out").exists()


def test_explanations_of_other_questions(study: Study) -> None:
    line = {"source": "made_up", "domain": "herbs", "id": "elsewhere", "response": 0, "explanation": "So."}
    log = write_jsonl(study.folder / "other.jsonl", [line])
    with pytest.raises(UserError, match="question set does not have"):
        study.build(inputs=replace(study.inputs, texts=Texts([log])))


def write_contexts(study: Study, leak: int = 0) -> Path:
    rows = [
        {name: row[name] for name in ("source", "domain", "id")}
        | {"context": f"Option {'ABCD'[row['answer']]} is the right one." if i < leak else "Long ago it was found out."}
        for i, row in enumerate(study.table.iter_rows(named=True))
    ]
    return write_jsonl(study.folder / f"contexts-{leak}.jsonl", rows)


def test_contexts_that_name_the_letter_are_left_out(study: Study) -> None:
    inputs = replace(study.inputs, texts=Texts(contexts=write_contexts(study, 60)))
    sets = study.build(inputs=inputs, conditions=["incompatible", "contextualized"])
    assert not [text for text in says(own(sets["contextualized"]), "prompt") if "Option" in text]
    assert all(text.startswith("Long ago") for text in says(own(sets["contextualized"]), "prompt"))
    assert sets["contextualized"]["id"].equals(sets["incompatible"]["id"])
    assert not any("Long ago" in text for text in says(own(sets["incompatible"]), "prompt"))
    assert any("contexts give the answer away; these questions are left out" in note for note in study.notes)


def test_contexts_that_move_the_belief(study: Study) -> None:
    table = read_questions(study.questions, splits=["train"])
    first = [answer if i % 3 else (answer + 1) % 4 for i, answer in enumerate(table["answer"])]
    probs = [[0.7 if i == choice else 0.1 for i in range(4)] for choice in first]
    asked = fill_probes(table, probs, first, phase="base_context")
    moved = {row["id"] for row in asked.iter_rows(named=True) if row["correct"]}
    log = write_table(study.folder, asked, "probes_context")
    texts = Texts(contexts=write_contexts(study), context_probes=[log])
    sets = study.build(inputs=replace(study.inputs, texts=texts), conditions=["incompatible", "contextualized"])
    ids = own(sets["contextualized"])["id"]
    share = sum(i in moved for i in ids) / len(ids)
    (note,) = [note for note in study.notes if "after their context" in note]
    assert f"asked {len(ids)} of {len(ids)} questions with a wrong belief" in note
    assert f"in {share:.3f} [" in note
    other = write_table(study.folder, asked.with_columns(model=pl.lit("another")), "probes_other")
    with pytest.raises(UserError, match="probes of 'another', but the beliefs are of 'base'"):
        study.build("never", replace(study.inputs, texts=replace(texts, context_probes=[other])), conditions=["contextualized"])
    kept = study.build(
        inputs=replace(study.inputs, texts=replace(texts, keep_moved=True)), conditions=["incompatible", "contextualized"]
    )
    assert set(own(kept["incompatible"])["id"]) == {i for i in ids if i in moved}
    with pytest.raises(UserError, match=r"--keep-moved needs .* --context-probes LOG"):
        study.build(
            inputs=replace(study.inputs, texts=Texts(contexts=write_contexts(study), keep_moved=True)),
            conditions=["contextualized"],
        )
