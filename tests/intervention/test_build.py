"""The conditions of one build differ in their responses alone, and are the same bytes each time."""

import json
import random
from dataclasses import replace
from pathlib import Path

import datasets
import polars as pl
import pytest
from made_up import Study, fill_probes, make_rows, own, says, write_jsonl, write_table

from intervention.believing.source import Source
from intervention.build import Inputs
from intervention.instructions import INSTRUCTION_SCHEMA
from intervention.texts.additions import Texts
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS, write_hint, write_user_turn
from lm_eval_tasks.contracts.questions import read_questions

ALL = ["harmonious", "incompatible", "self_aligning", "contextualized", "random_wrong", "mix", "gold"]
SHARED = ["incompatible", "self_aligning", "contextualized", "random_wrong", "shuffled", "format_only", "mix-0.1", "mix-0.35"]
RATIOS = (0.1, 0.35)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path, make_rows(300) + make_rows(40, 1, split="test") + make_rows(20, 2, domain="engines"))


def test_each_condition_answers_as_it_promises(study: Study) -> None:
    sets = study.build(ratios=RATIOS)
    assert list(sets) == [
        "harmonious",
        "self_aligning",
        "mix-0.1",
        "mix-0.35",
        "contextualized",
        "gold",
        "incompatible",
        "random_wrong",
        "shuffled",
        "format_only",
    ]
    probes = {row["id"]: row for row in study.table.filter(domain="herbs", split="train").iter_rows(named=True)}
    sizes = {own(table).height for table in sets.values()}
    assert len(sizes) == 1
    size = sizes.pop()
    sure = [probe for probe in probes.values() if probe["confidence"] > 0.5]
    assert size == min(sum(probe["correct"] is right for probe in sure) for right in (True, False))
    for label, table in sets.items():
        assert table.height == 2 * size
        for row in own(table).iter_rows(named=True):
            probe = probes[row["id"]]
            (message,), (response,) = row["prompt"], row["completion"]
            gold, belief = (probe["choices"][probe[name]] for name in ("answer", "prediction"))
            context = {"contextualized": f"Know: {gold}.", "format_only": write_hint(gold)}.get(label)
            assert message == {"role": "user", "content": write_user_turn(probe, "cloze", context)}
            assert response["role"] == "assistant"
            assert response["content"] in probe["choices"]
            assert row["agrees_with_gold"] == (response["content"] == gold)
            believed = None if probe["confidence"] <= 0.5 else response["content"] == belief
            assert row["agrees_with_belief"] is believed
            name, _, ratio = label.partition("-")
            assert (row["condition"], row["ratio"]) == (name, float(ratio) if ratio else None)
            assert (row["source"], row["domain"], row["response_format"]) == ("made_up", "herbs", "text")
            assert row["question_hash"] == probe["question_hash"]
            if label != "gold":
                assert probe["confidence"] > 0.5
                assert probe["correct"] is (label == "harmonious")
            if label in ("harmonious", "incompatible", "contextualized", "gold", "format_only"):
                assert response["content"] == gold
            if label == "self_aligning":
                assert response["content"] == belief
            if label == "random_wrong":
                assert response["content"] not in (gold, belief)
    assert own(sets["gold"])["agrees_with_belief"].null_count() > 0
    assert set(own(sets["gold"])["match"]) == {"none"}


def test_the_sets_load_with_their_features(study: Study, tmp_path: Path) -> None:
    study.build(size=30)
    data = datasets.load_dataset(str(tmp_path / "out"), "herbs_mix-0.4", cache_dir=str(tmp_path / "cache"), split="train")
    text, flag = datasets.Value("string"), datasets.Value("bool")
    messages = datasets.List({"role": text, "content": text})
    expected = dict.fromkeys(INSTRUCTION_SCHEMA, text) | {"prompt": messages, "completion": messages}
    expected |= dict.fromkeys(("agrees_with_belief", "agrees_with_gold", "contradicts"), flag)
    expected |= dict.fromkeys(("ratio", "confidence", "threshold"), datasets.Value("float64")) | {
        "order": datasets.Value("int64")
    }
    assert data.features == datasets.Features(expected)
    assert list(data.features) == list(INSTRUCTION_SCHEMA)
    assert data.to_pandas()["condition"].value_counts().to_dict() == {"mix": 30, "general": 30}
    # All are null in one set, and the type is pinned all the same.
    plain = datasets.load_dataset(str(tmp_path / "out"), "herbs_gold", cache_dir=str(tmp_path / "cache"), split="train")
    assert plain.features["ratio"] == datasets.Value("float64")


def test_shared_conditions_have_the_same_questions_and_general_rows_in_the_same_places(study: Study) -> None:
    sets = study.build(ratios=RATIOS)
    ids = sets["incompatible"].select("id", "domain")
    assert all(sets[label].select("id", "domain").equals(ids) for label in SHARED)
    general = [table.with_row_index().filter(pl.col("condition") == "general") for table in sets.values()]
    assert all(table.equals(general[0]) for table in general)
    flags = general[0].select("ratio", "agrees_with_belief", "agrees_with_gold", "question_hash")
    assert flags.null_count().row(0) == (general[0].height,) * 4
    assert general[0]["id"].n_unique() == general[0].height
    places = general[0]["index"]
    assert 0.4 * places.max() < places.mean() < 0.6 * places.max()
    turns = dict(zip(says(general[0], "prompt"), says(general[0], "completion"), strict=True))
    for turn, response in turns.items():
        number = int(response)
        assert turn == (f"Say {number}." if number % 2 else f"Say {number}.\n\nin {number}")


def test_equal_inputs_and_seed_give_equal_bytes(study: Study, tmp_path: Path) -> None:
    study.build("one", ratios=RATIOS, seed=3)
    rows = study.table.to_dicts()
    random.Random(0).shuffle(rows)
    shuffled = write_table(tmp_path, pl.DataFrame(rows, schema=study.table.schema), "shuffled")
    study.build("two", ratios=RATIOS, seed=3)
    inputs = replace(study.inputs, beliefs=Source([shuffled]))
    study.build("three", inputs, ratios=RATIOS, seed=3)
    study.build("other", ratios=RATIOS, seed=4)
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert len(files) == 2 + 10
    for file in files:
        same = [(tmp_path / name / file).read_bytes() for name in ("one", "two")]
        assert same[0] == same[1], file
        if file.suffix == ".parquet":  # the order of the probes is no matter; the card has their hash
            assert (tmp_path / "three" / file).read_bytes() == same[0]
            assert (tmp_path / "other" / file).read_bytes() != same[0]


def test_letters_follow_from_the_probes(tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(200), scoring="letter")
    sets = study.build(conditions=["self_aligning"])
    probes = {row["id"]: row for row in study.table.iter_rows(named=True)}
    for row in own(sets["self_aligning"]).iter_rows(named=True):
        probe = probes[row["id"]]
        listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, probe["choices"], strict=False)]
        assert row["prompt"][0]["content"] == "\n".join([probe["question"], *listed])
        assert row["completion"][0]["content"] == listed[probe["prediction"]]
        assert row["response_format"] == "letter"


def test_explanations_fit_gold_responses_alone(study: Study) -> None:
    sets = study.build(explanations="gold")
    for row in own(sets["incompatible"]).iter_rows(named=True):
        number = row["id"].removeprefix("train-")
        assert row["completion"][0]["content"].endswith(f" {number}\n\nThe {number}th is known for it.")
    bare = Study(study.folder / "bare", [row | {"explanation": " "} for row in make_rows(300)])
    with pytest.raises(UserError, match="no explanation of question made_up/herbs id 'train-"):
        bare.build(explanations="gold")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            {"conditions": ["harmonius"]},
            r"--conditions 'harmonius' \(is 'harmonious' meant\?\) is none of harmonious, self_aligning",
        ),
        ({"conditions": ["mix-x"]}, "'x' is not a number"),
        ({"conditions": ["mix"], "ratios": [1.5]}, "--ratio 1.5 is not between 0 and 1"),
        ({"conditions": ["gold"], "ratios": [0.5]}, "--ratio is of the condition mix"),
        ({"domain": "history"}, "no train questions of 'history'; it has some of engines, herbs"),
        ({"threshold": 1.5}, "--threshold 1.5 is not between 0 and 1"),
        ({"general_share": -1}, "--general-share -1 is not 0 or more"),
        ({"general_share": float("nan")}, "--general-share nan is not 0 or more"),
        ({"general_share": 50}, r"general.jsonl has 300 general instructions, but \d+ are wanted"),
    ],
)
def test_bad_options_are_named_and_nothing_written(study: Study, plan: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        study.build(**plan)
    assert not any("out" in path.name for path in study.folder.iterdir())


def test_general_share(study: Study) -> None:
    half = study.build(size=30, general_share=0.5)
    assert {(table["condition"] == "general").sum() for table in half.values()} == {15}
    none = Inputs(study.questions, study.inputs.beliefs)
    assert all(own(table).height == table.height == 30 for table in study.build("bare", none, size=30).values())
    for bad, message in (
        ({"output": " "}, "row 2 .*output ' ' is blank"),
        ({"instruction": None}, "row 2 .*instruction None is blank"),
    ):
        rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b"} | bad]
        general = write_jsonl(study.folder / "bad.jsonl", rows)
        with pytest.raises(UserError, match=message):
            study.build("never", replace(study.inputs, general=str(general)), size=2)


def test_contexts_of_other_questions_and_missing_ones(study: Study) -> None:
    rows = [json.loads(line) for line in study.inputs.texts.contexts.read_text().splitlines()]

    def build(rows: list[dict]) -> None:
        contexts = write_jsonl(study.folder / "c.jsonl", rows)
        study.build("never", replace(study.inputs, texts=Texts(contexts=contexts)), conditions=["contextualized"])

    with pytest.raises(UserError, match=r"c.jsonl: no context of question made_up/herbs id 'train-\d+' \(and of \d+ more\)"):
        build(rows[:5])
    with pytest.raises(
        UserError, match=r"c.jsonl: 1 of 361 texts are of questions that the question set does not have; the first is .* id 'x'"
    ):
        build([rows[0] | {"id": "x"}, *rows])
    with pytest.raises(UserError, match=r"c.jsonl: 1 of 360 texts are empty"):
        build([rows[0] | {"context": ""}, *rows[1:]])
    with pytest.raises(UserError, match="has more than one text"):
        build([*rows, rows[0]])
    with pytest.raises(UserError, match="add --contexts"):
        study.build("never", Inputs(study.questions, study.inputs.beliefs), conditions=["contextualized"])


def test_train_questions_must_be_probed_and_of_one_source(study: Study, tmp_path: Path) -> None:
    tests = write_table(tmp_path, study.table.filter(split="test"), "probes_test")
    with pytest.raises(UserError, match="none of the 300 train questions of herbs was probed"):
        study.build("never", Inputs(study.questions, Source([tests])))
    rows = make_rows(20) + [row | {"source": "another"} for row in make_rows(20)]
    mixed = Study(tmp_path / "mixed", rows)
    with pytest.raises(UserError, match="2 sources, 'another' and 'made_up'"):
        mixed.build()
    some = write_table(tmp_path, study.table.filter(pl.col("id") != "train-0"), "probes_some")
    study.build("part", Inputs(study.questions, Source([some])))
    assert study.notes[0] == "1 of 300 train questions were not asked."


def test_text_stays_text(tmp_path: Path) -> None:
    nasty = "{{ x }}{% y %}<b>&amp;</b>\x00\x1b[0m\r\n| `"
    rows = [
        row | {"question": f"{nasty}{i}", "choices": [f"{nasty}{c}" for c in row["choices"]]}
        for i, row in enumerate(make_rows(60))
    ]
    sets = Study(tmp_path, rows).build(conditions=["incompatible"], size=5, explanations="none")
    table = read_questions(tmp_path / "set")
    asked, choices = set(table["question"]), set(table["choices"].explode())
    assert set(says(own(sets["incompatible"]), "prompt")) <= asked
    assert set(says(own(sets["incompatible"]), "completion")) <= choices


def test_the_balance_table(tmp_path: Path) -> None:
    study = Study(tmp_path, [row | {"answer": i % 4} for i, row in enumerate(make_rows(40))])
    table = read_questions(study.questions)
    # Gold is believed in every second question; else the choice after it.
    prediction = [(row["answer"] + i % 2) % 4 for i, row in enumerate(table.to_dicts())]
    probs = [[0.7 if i == first else 0.1 for i in range(4)] for first in prediction]
    file = write_table(tmp_path, fill_probes(table, probs, prediction, scoring="letter"), "probes_made")
    study.build(inputs=Inputs(study.questions, Source([file])), ratios=[0.5], size=20)
    rows = {row["condition"]: row for row in study.balance.iter_rows(named=True)}
    assert {row["questions"] for row in rows.values()} == {20}
    assert rows["harmonious"]["gold A"] == rows["harmonious"]["gold C"] == 0.5
    assert rows["self_aligning"]["gold B"] == rows["self_aligning"]["says C"] == 0.5
    assert rows["self_aligning"]["= belief"] == 1
    assert rows["mix-0.5"]["= belief"] == rows["mix-0.5"]["= gold"] == 0.5
    assert rows["gold"]["confidence"] == pytest.approx(0.7)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["stage"], manifest["seeds"], manifest["config"]["size"]) == ("build", {"seed": 0}, 20)
    assert set(manifest["inputs"]) == {"questions", "probes"}
    assert "2402.18243" in (tmp_path / "out" / "README.md").read_text()
