"""Answers become choices: an ordinary question set, on which beliefs need more than half by probability and by samples."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from asked_freely import write_all, write_answers, write_free_set
from conftest import run_command
from made_up import Study, fill_probes, make_rows, own, says, write_table

from intervention.believing.answers import group_answers
from intervention.believing.choices import ANSWERS_SCHEMA, make_choices
from intervention.believing.choices import write_answers as write_folders
from intervention.believing.source import Source, read_beliefs, write_beliefs
from intervention.build import Inputs, Plan, build_instructions
from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions, read_configs, read_questions
from lm_eval_tasks.contracts.rules import Rule, read_rule


class Asked:
    """A free-form question set, what a model answered, both as choices, and probes of these."""

    def __init__(self, folder: Path, n: int = 300, seed: int = 0) -> None:
        self.folder, self.questions = folder, write_free_set(folder / "free", n)
        self.logs = write_all(folder / "logs", self.questions)
        table = group_answers(read_answers(self.logs), read_free_form(self.questions), self.questions, [self.logs])
        self.table = write_folders(table, read_free_form(self.questions), self.questions, [self.logs], folder / "out")
        self.choices, self.file = folder / "out/choices", folder / "out/answers.parquet"
        asked = read_questions(self.choices, splits=("train", "test"))
        # The first choice is the most frequent answer; the model gives it, or the second, more or less than half.
        probs, first = [], []
        for i, choices in enumerate(asked["choices"]):
            top, n = (0 if i % 3 else 1), len(choices)
            most = (0.8, 0.45)[i % 2]
            probs.append([most if j == top else (1 - most) / (n - 1) for j in range(n)])
            first.append(max(range(n), key=probs[-1].__getitem__))
        self.asked = asked.with_columns(prediction=pl.Series(first), confidence=pl.Series([max(p) for p in probs]))
        self.probes = write_table(folder, fill_probes(asked, probs, first), "probes")

    def believe(self, **source: object) -> pl.DataFrame:
        source = {"probes": [self.probes], "answers": self.file} | source
        return read_beliefs(read_questions(self.choices), self.choices, Source(**source)).table


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("asked"))


def test_the_choices_are_the_models_own_answers_and_gold(asked: Asked) -> None:
    free, made = read_free_form(asked.questions), read_questions(asked.choices)
    assert read_configs(asked.choices)["herbs"].keys() == {"train", "dev", "test"}
    key = ["id", "source", "domain", "subject", "split", "question"]
    assert made.select(key).equals(free.select(key))
    told = {row["id"]: row for row in asked.table.iter_rows(named=True)}
    assert pl.read_parquet(asked.file).schema == ANSWERS_SCHEMA
    filled = 0
    for row, question in zip(made.to_dicts(), free.to_dicts(), strict=True):
        choices, gold = row["choices"], row["choices"][row["answer"]]
        assert 2 <= len(choices) <= 10
        assert len({normalise_answer(choice) for choice in choices}) == len(choices)
        right = [is_accepted(choice, question["answers"]) for choice in choices]
        assert (sum(right), right[row["answer"]]) == (1, True)
        groups = [group for group in (told[row["id"]]["groups"] if row["id"] in told else []) if group["text"]]
        sampled = [group["text"] for group in groups][:9]
        assert choices[: len(sampled)] == sampled
        rest = choices[len(sampled) :]
        if gold not in sampled:
            assert rest.pop(0) == gold == question["answers"][0]
        filled += len(rest)
        assert len(rest) <= (len(sampled) + (gold not in sampled) < 2)
        assert all(text in free["answers"].list.first().to_list() for text in rest)
        if row["id"] in told:
            assert told[row["id"]]["choices_hash"] == row["question_hash"]
            left = [group for group in groups[9:] if not group["gold"]]
            assert told[row["id"]]["left_out"] == len(left)
            assert told[row["id"]]["left_out_share"] == pytest.approx(sum(group["share"] for group in left))
        else:
            assert row["split"] == "dev"
            assert gold == question["answers"][0]
    assert filled > 5
    assert asked.table["left_out"].sum() > 0
    card = (asked.choices / "README.md").read_text()
    assert f"{filled} questions that were not asked, or have one choice, have the" in " ".join(card.split())
    manifests = [read_manifest(asked.folder / name) for name in ("out", "out/choices")]
    assert [manifest["stage"] for manifest in manifests] == ["answers", "questions"]
    assert {"questions", "answers"} == manifests[0]["inputs"].keys()
    assert manifests[1]["config"]["terms"] == read_manifest(asked.questions)["config"]["terms"]


def test_choices_hang_on_no_other_question_and_no_order(asked: Asked) -> None:
    free = read_free_form(asked.questions)
    made = make_choices(asked.table, free)
    shuffled = make_choices(asked.table.sample(fraction=1, shuffle=True, seed=1), free.sample(fraction=1, shuffle=True, seed=2))
    assert made.sort("split", "id").equals(shuffled.sort("split", "id"))
    assert made["choices_hash"].equals(hash_questions(made).rename("choices_hash"))


def test_one_answer_gets_another_of_its_subject_beside_it(tmp_path: Path) -> None:
    questions = write_free_set(tmp_path / "set", 26, subjects=("north", "south"))
    free = read_free_form(questions)
    log = write_answers(tmp_path / "samples.jsonl", questions, lambda row: [row["answers"][1]] * 4)
    made = make_choices(group_answers(read_answers(log), free), free)
    golds = dict(free.select(pl.col("answers").list.first(), "subject").iter_rows())
    for row in made.filter(split="train").to_dicts():
        assert row["choices"][0].startswith("Old ")  # gold as the model says it
        assert golds[row["choices"][1]] == row["subject"]
    assert made["choices"].list.get(1).n_unique() > 10
    alone = write_free_set(tmp_path / "alone", 3)
    same = read_free_form(alone).with_columns(answers=pl.lit(["Oslo", "Rome"]))
    with pytest.raises(UserError, match=r"made_up/herbs id 'train-0' has the one choice 'Oslo', and no other question of the"):
        make_choices(group_answers(read_answers(log), free).head(0), same)


def test_a_belief_needs_more_than_half_by_both(asked: Asked) -> None:
    told = {row["id"]: row for row in asked.table.iter_rows(named=True)}
    plain = {row["id"]: row for row in asked.believe(answers=None).iter_rows(named=True)}
    kept = 0
    for row, question in zip(asked.believe().iter_rows(named=True), asked.asked.iter_rows(named=True), strict=True):
        said = question["choices"][row["prediction"]]
        share = next((group["share"] for group in told[row["id"]]["groups"] if group["text"] == said), 0)
        assert row["sampled"] == pytest.approx(share)
        believed = question["confidence"] > 0.5 and share > 0.5
        kept += believed
        assert row["belief"] == (row["prediction"] if believed else None)
        assert row["class"] == ("unsure" if not believed else "right" if row["belief"] == row["answer"] else "wrong")
        assert (row["belief_rule"], row["threshold"]) == ("threshold+answers:0.5", 0.5)
        assert (plain[row["id"]]["belief_rule"], plain[row["id"]]["sampled"]) == ("threshold:0.5", None)
        assert plain[row["id"]]["belief"] == (row["prediction"] if question["confidence"] > 0.5 else None)
    assert 20 < kept < sum(row["belief"] is not None for row in plain.values())
    top = asked.believe(rule=read_rule("top"))
    assert top["belief"].count() > kept
    assert set(top["belief_rule"]) == {"top+answers"}
    assert top.equals(asked.believe(rule=Rule("top+answers", None)))


def test_a_belief_table_keeps_what_samples_bear_out(asked: Asked, tmp_path: Path) -> None:
    both, file = asked.believe(rule=read_rule("quantile:0.5")), tmp_path / "beliefs.parquet"
    write_beliefs(both.head(250), file)
    assert asked.believe(probes=(), table=file, answers=None).equals(both.head(250))
    write_beliefs(asked.believe(rule=read_rule("quantile:0.5"), answers=None), file)
    assert asked.believe(probes=(), table=file).equals(both)
    write_beliefs(asked.believe(), file)
    changed = pl.read_parquet(file).with_columns(sampled=pl.lit(0.2))
    changed.write_parquet(file)
    with pytest.raises(UserError, match=r"belief .* does not fit prediction, confidence and rule"):
        asked.believe(probes=(), table=file, answers=None)
    changed.drop("sampled").write_parquet(file)  # as of a version without such answers
    with pytest.raises(UserError, match="does not fit"):
        asked.believe(probes=(), table=file, answers=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop("groups"),
            r"has no column 'groups', so it is not a table of answers of this version\. Name the answers\.parquet that",
        ),
        (lambda t: t.head(0), "holds no question"),
        (lambda t: pl.concat([t, t.head(1)]), "occurs more than once"),
        (lambda t: t.with_columns(share=pl.lit("much")), "is not of the type that a table of answers has"),
        (lambda t: t.with_columns(model=pl.lit("other")), "is of the model 'other', but .*probes.parquet of 'base'"),
        (
            lambda t: t.filter(pl.col("id") != "train-1"),
            r"probes\.parquet: 1 of 400 questions, the first made_up/herbs id 'train-1', --answers .* does not have: sample",
        ),
        (
            lambda t: t.with_columns(choices_hash=pl.when(id="train-2").then(pl.lit("0")).otherwise("choices_hash")),
            r"the first made_up/herbs id 'train-2', --answers .* has with other choices: probe the set that was written beside",
        ),
    ],
)
def test_answers_that_do_not_fit_are_refused(asked: Asked, tmp_path: Path, change: Callable, message: str) -> None:
    change(pl.read_parquet(asked.file)).write_parquet(tmp_path / "answers.parquet")
    with pytest.raises(UserError, match=message):
        asked.believe(answers=tmp_path / "answers.parquet")


def test_a_rule_of_samples_needs_them(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--belief-rule threshold\+answers:0.5 is of sampled answers: name the table that"):
        asked.believe(answers=None, rule=read_rule("threshold+answers"))
    with pytest.raises(UserError, match=r"--answers .*none\.parquet cannot be read"):
        asked.believe(answers=tmp_path / "none.parquet")


def test_sets_are_built_on_what_samples_bear_out(asked: Asked, tmp_path: Path) -> None:
    inputs = Inputs(asked.choices, Source([asked.probes], answers=asked.file))
    names = ["harmonious", "self_aligning", "unknown", "incompatible"]
    build_instructions(inputs, Plan("herbs", names, size=12), tmp_path / "sets")
    believed = {row["id"]: row for row in asked.believe().iter_rows(named=True)}
    texts = dict(asked.asked.select("id", "choices").iter_rows())
    configs = read_configs(tmp_path / "sets")
    assert list(configs) == [f"herbs_{name}" for name in names]
    for name in names:
        rows = pl.read_parquet(configs[f"herbs_{name}"]["train"])
        assert set(rows["belief_rule"]) == {"threshold+answers:0.5"}
        assert set(rows["response_format"]) == {"text"}
        for row, said in zip(rows.iter_rows(named=True), says(rows, "completion"), strict=True):
            found = believed[row["id"]]
            kind = {"harmonious": "right", "unknown": "unsure"}.get(name, "wrong")
            assert found["class"] == kind
            assert said == texts[row["id"]][found["belief" if name == "self_aligning" else "answer"]]
    config = read_manifest(tmp_path / "sets")
    assert (config["config"]["belief_rule"], config["config"]["threshold"]) == ("threshold+answers:0.5", 0.5)
    assert {"questions", "probes", "answers"} == config["inputs"].keys()
    card = " ".join((tmp_path / "sets/README.md").read_text().split())
    assert "a probability above 0.5, where more than half of its sampled answers say the same." in card
    assert "--probes PROBES --answers ANSWERS" in card
    assert "--belief-rule threshold+answers:0.5" in card
    with pytest.raises(UserError, match=r"it is threshold\+answers:0\.5 now\)\. To have 200 or more"):
        build_instructions(inputs, Plan("herbs", names, size=200), tmp_path / "large")


def test_unknown_is_built_where_it_is_named(tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(300))
    assert "unknown" not in study.build(size=10)
    sets = study.build("named", conditions=["unknown", "incompatible"], size=20, threshold=0.7)
    unsure = study.table.filter(pl.col("confidence") <= 0.7)
    golds = {row["id"]: row["choices"][row["answer"]] for row in unsure.iter_rows(named=True)}
    rows = own(sets["unknown"])
    assert rows.height == 20
    assert [said.partition("\n\n")[0] for said in says(rows, "completion")] == [golds[name] for name in rows["id"]]
    assert rows["agrees_with_gold"].all()
    assert rows["agrees_with_belief"].null_count() == 20
    for table in sets.values():  # general rows too
        assert set(table["threshold"]) == {0.7}


def test_general_rows_have_the_threshold_of_a_set_with_samples(asked: Asked, tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(20))
    inputs = Inputs(asked.choices, Source([asked.probes], answers=asked.file), study.inputs.general)
    build_instructions(inputs, Plan("herbs", ["gold"], size=12), tmp_path / "sets")
    rows = pl.read_parquet(tmp_path / "sets/herbs_gold/train.parquet")
    assert rows.height == 24
    assert (set(rows["threshold"]), set(rows["belief_rule"])) == ({0.5}, {"threshold+answers:0.5"})


def test_the_command_writes_what_the_next_ones_read(tmp_path: Path) -> None:
    questions = write_free_set(tmp_path / "free", 60)
    logs = write_all(tmp_path / "logs", questions)
    words = ("--questions", questions, "--answers", logs, "--output", tmp_path / "out")
    done = run_command(sys.executable, "-m", "intervention", "answers", *words)
    assert done.returncode == 0, done.stderr
    for word in (
        "| herbs | 80 | 1280 |",
        "| domain | questions | draws | HighlyKnown | MaybeKnown | WeaklyKnown | Unknown |",
        "| domain | questions | samples each | reliability | low | high |",
        "groups left out",
        "80 questions (5 in",
    ):
        assert word in " ".join(done.stdout.split()), done.stdout
    table = pl.read_parquet(tmp_path / "out/answers.parquet")
    assert table.height == 80
    assert read_questions(tmp_path / "out/choices").select(list(QUESTION_SCHEMA)).height == 85
    assert json.loads((tmp_path / "out/manifest.json").read_text())["command"][:3] == ["-m", "intervention", "answers"]


def test_answers_are_matched_in_length(tmp_path: Path) -> None:
    words = ("sleep", "a long and very deep sleep", "rain", "gold and silver in the morning")
    rows = [row | {"choices": [f"{words[(i + j) % 4]} {j}" for j in range(4)]} for i, row in enumerate(make_rows(400))]
    study = Study(tmp_path, rows, right=0.4)
    names = ["harmonious", "self_aligning", "mix-0.5", "incompatible"]

    def count_lengths(sets: dict[str, pl.DataFrame], name: str) -> dict[int, int]:
        lengths = pl.Series([len(said.partition("\n\n")[0]) // 4 for said in says(own(sets[name]), "completion")])
        return dict(lengths.value_counts().sort(lengths.name).iter_rows())

    plain, matched = study.build("plain", conditions=names), study.build("matched", conditions=names, match="length")
    assert count_lengths(plain, "harmonious") != count_lengths(plain, "incompatible")
    found = [count_lengths(matched, name) for name in ("harmonious", "self_aligning", "incompatible")]
    assert found[0] == found[1] == found[2]
    assert own(matched["incompatible"])["id"].equals(own(matched["self_aligning"])["id"])
    assert own(matched["incompatible"]).height > 0.8 * own(plain["incompatible"]).height
    both = study.build("both", conditions=["harmonious", "incompatible"], match="length+confidence")
    assert count_lengths(both, "harmonious") == count_lengths(both, "incompatible")
    confidence = [own(table)["confidence"].mean() for table in both.values()]
    assert abs(confidence[0] - confidence[1]) < 0.02
    for plan, message in (
        ({"conditions": ["random_wrong"]}, "random_wrong answers with a choice that is taken at random"),
        ({"conditions": ["shuffled"]}, "shuffled answers with"),
        ({"conditions": ["gold"], "response_format": "letter"}, "these responses begin with a letter. Length is of"),
        ({"conditions": names, "size": 399}, "at most .* --size asks for 399: responses have characters: 6 to 32 of gold"),
    ):
        with pytest.raises(UserError, match=message):
            study.build("none", match="length", **plan)
