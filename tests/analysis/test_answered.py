"""Answers in words before and after: measures as plain counting gives them, the report's chapter, and what it lacks."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import pytest
from answer_logs import write_answer_log
from spoiling import read_manifest_of
from studies import write_study

from analysis.chapters.answered import CHAPTER, SUMMARY_SCHEMA
from analysis.chapters.chapter import WORDS, Whole
from analysis.measures.answered import ANSWERED_SCHEMA, ROW, measure_answers
from analysis.measures.metrics import ANSWERED
from analysis.reading.study import Study, read_study
from analysis.reporting.contents import compute_frames, list_parts, list_tables
from lm_eval_tasks.contracts.answers import is_accepted, normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA, hash_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers

CONDITIONS = [("self_aligning", None, 0.9), ("incompatible", None, 0.5)]
RUNS = [f"{condition}-seed{seed}" for condition, _, _ in CONDITIONS for seed in (1, 2)]
SETS = {
    "seen": ("miniworld_exam", "herbs", "train"),
    "homo": ("miniworld_exam", "herbs", "test"),
    "id": ("miniworld_survey", "herbs", "test"),
    "ood": ("miniworld_survey", "engines", "test"),
}
TOWNS = ("Rome", "Oslo", "Bern", "Lima")


def make_questions(n: int) -> list[dict[str, Any]]:
    rows = [
        dict.fromkeys(FREE_FORM_SCHEMA)
        | {"id": f"{split}-{i}", "source": source, "domain": domain, "split": split}
        | {"question": f"Where does {domain} {i} of {source} grow?", "answers": [TOWNS[i % 4], f"Old {TOWNS[i % 4]}"]}
        for source, domain, split in SETS.values()
        for i in range(n)
    ]
    table = pl.DataFrame(rows, schema=FREE_FORM_SCHEMA | {"split": pl.String})
    return table.with_columns(hash_free_form(table)).to_dicts()


QUESTIONS = make_questions(9)


def say_at_random(who: str, n: int) -> Callable[[dict[str, Any]], list[str]]:
    """`n` answers of a model to a question: right in two wordings, wrong in two, or none."""

    def say(row: dict[str, Any]) -> list[str]:
        rng = random.Random(f"{who} {row['source']} {row['domain']} {row['id']}")
        town = TOWNS[(TOWNS.index(row["answers"][0]) + 1) % 4]
        return rng.choices([*row["answers"], town, f"the {town.lower()}!", "Paris", ""], weights=[4, 2, 3, 1, 1, 1], k=n)

    return say


def write_words(file: Path, who: str, questions: list = QUESTIONS, samples: int = 16, draw: int = 0, **names: object) -> None:
    """Logs of a model asked in words, greedily and sampled; `file` is the folder."""
    for greedy, n in ((False, samples), (True, 1)):
        name = f"samples_selfalign_answer_{'greedy_' if greedy else ''}{draw}.jsonl"
        said = say_at_random(f"{who} {draw} {greedy}", n)
        write_answer_log(file / name, questions, said, greedy=greedy, draw=draw, **names)


def write_all(runs: Path) -> None:
    """What the base model and all runs of a study answer in words."""
    tests = [row for row in QUESTIONS if row["split"] == "test"]
    write_words(runs / "words/base", "base")
    write_words(runs / "words/again", "again", draw=1, phase="base_again")
    write_words(runs / "words/base_chat", "base_chat", tests, phase="base_chat")
    for name in RUNS:
        names = {"run": read_manifest_of(runs, name)["run"], "model": f"models/{name}"}
        write_words(runs / f"words/{name}-chat", f"{name} chat", phase="tuned_chat", **names)
        write_words(runs / f"words/{name}-probe", f"{name} probe", tests, phase="tuned_probe", **names)


@pytest.fixture(scope="session")
def silent(share_folder: Callable) -> Path:
    """A study in which nobody answered in words."""
    return share_folder("silent", lambda folder: write_study(folder / "runs", n=8, conditions=CONDITIONS)) / "runs"


@pytest.fixture(scope="session")
def whole(silent: Path, share_folder: Callable) -> Path:
    """The same study, and answers in words."""

    def make(folder: Path) -> None:
        write_all(shutil.copytree(silent, folder / "runs"))

    return share_folder("answered", make) / "runs"


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "runs")


@pytest.fixture(scope="module")
def study(whole: Path) -> Study:
    return read_study(whole)


def count_groups(texts: list[str], accepted: list[str]) -> dict[str, float]:
    """The shares of what was said, by plain counting."""
    counts = Counter("GOLD" if is_accepted(text, accepted) else normalise_answer(text) for text in texts)
    return {group: count / len(texts) for group, count in counts.items()}


def find_logs(runs: Path, who: str, greedy: bool) -> Iterator[dict[str, Any]]:
    """The documents of a model's greedy or sampled logs, one a question and draw."""
    for log in sorted((runs / "words" / who).glob(f"samples_selfalign_answer_{'greedy_' if greedy else '[0-9]'}*")):
        yield from (json.loads(line)["doc"] for line in log.open())


def pool(runs: Path, who: str, greedy: bool) -> dict[tuple, tuple[list[str], list[str]]]:
    """A question's answers over all draws, and the accepted ones."""
    pooled: dict[tuple, tuple[list[str], list[str]]] = {}
    for doc in find_logs(runs, who, greedy):
        key = (doc["source"], doc["domain"], doc["id"])
        pooled.setdefault(key, ([], doc["answers"]))[0].extend(doc["samples"])
    return pooled


def test_measures_are_what_plain_counting_gives(tmp_path: Path):
    for draw in (0, 1):
        write_words(tmp_path / "words/base", "base", samples=5, draw=draw)
        write_words(tmp_path / "words/tuned", "tuned", QUESTIONS[::2], samples=7, draw=draw, phase="tuned_probe", run="r")
    names = {name: pl.lit(None, kind) for name, kind in ANSWERED_SCHEMA.items() if name in ROW[2:5]}
    answers = read_answers(tmp_path).with_columns(**names, question_domain="domain")
    measured = measure_answers(answers)
    assert measured.schema == ANSWERED_SCHEMA
    before, after = ({way: pool(tmp_path, who, way) for way in (False, True)} for who in ("base", "tuned"))
    tuned = measured.filter(phase="tuned_probe")
    assert tuned.height == len(QUESTIONS[::2])
    for row in tuned.iter_rows(named=True):
        key = (row["source"], row["question_domain"], row["id"])
        p, q = (count_groups(*side[False][key]) for side in (before, after))
        assert row["samples"] == 14
        assert row["accepted_samples"] == pytest.approx(q.get("GOLD", 0))
        assert row["total_variation"] == pytest.approx(sum(abs(p.get(g, 0) - q.get(g, 0)) for g in {*p, *q}) / 2)
        (first, accepted), (then, _) = before[True][key], after[True][key]
        assert row["exact_match"] == mean(is_accepted(text, accepted) for text in then)
        same = [len(count_groups([*pair], accepted)) == 1 for pair in product(first, then)]
        assert row["same_answer"] == mean(same)
    assert tuned["same_answer"].n_unique() > 2  # they are of all kinds
    assert tuned["total_variation"].n_unique() > 5
    probe = measured.filter(phase="base_probe")
    assert probe.select("same_answer", "total_variation").null_count().row(0) == (probe.height, probe.height)


def test_the_same_samples_do_not_differ_and_others_differ_wholly():
    row = dict.fromkeys(ROW, "") | {"ratio": None, "seed": None, "answers": ["Rome", "Roma"], "greedy": False}
    said = {"base_probe": ["Rome"] * 7 + ["Oslo"] * 3, "tuned_probe": ["oslo!"] * 3 + ["Roma"] * 7, "tuned_chat": ["Bern"]}
    measured = measure_answers(pl.DataFrame([row | {"phase": phase, "samples": texts} for phase, texts in said.items()]))
    assert measured["total_variation"].to_list() == [None, 0, 1]
    assert measured["exact_match"].null_count() == measured.height


def test_every_question_has_its_set(study: Study):
    assert study.gaps == []
    for phase, sets in {"tuned_chat": {*SETS}, "tuned_probe": {*SETS} - {"seen"}}.items():
        asked = study.answered.filter(phase=phase)
        assert set(asked["split"]) == sets
        for name in sets:
            where = asked.filter(split=name).select("source", "question_domain").unique().rows()
            assert where == [SETS[name][:2]]
            assert asked.filter(split=name).height == 9 * len(RUNS)
    base = study.answered.filter(run="")
    assert set(base.filter(phase="base_probe")["split"]) == {*SETS} - {"seen"} | {"train"}
    assert set(study.answered["model"]) == {"base"}


def test_the_chapter_averages_over_questions_and_seeds(whole: Path, study: Study):
    frame = compute_frames(study).frames["answered"]
    assert frame.schema == SUMMARY_SCHEMA
    names = [name for name in RUNS if name.startswith("incompatible")]
    for name, (source, domain, _) in SETS.items():
        rows = {
            row["metric"]: row
            for row in frame.filter(condition="incompatible", phase="tuned_chat", split=name).iter_rows(named=True)
        }
        assert [*rows] == [*ANSWERED]
        keys = [(source, domain, row["id"]) for row in QUESTIONS if (row["source"], row["domain"], row["split"]) == SETS[name]]
        greedy = {who: pool(whole, f"{who}-chat", True) for who in names}
        sampled = {who: pool(whole, f"{who}-chat", False) for who in names} | {"again": pool(whole, "again", False)}
        first = pool(whole, "base", False)

        def vary(who: str, keys: list = keys, sampled: dict = sampled, first: dict = first) -> float:
            pairs = ((count_groups(*first[key]), count_groups(*sampled[who][key])) for key in keys)
            return mean(sum(abs(p.get(g, 0) - q.get(g, 0)) for g in {*p, *q}) / 2 for p, q in pairs)

        right = [mean(is_accepted(texts[0], gold) for texts, gold in map(greedy[who].get, keys)) for who in names]
        assert rows["exact_match"]["value"] == pytest.approx(mean(right))
        assert rows["total_variation"]["value"] == pytest.approx(mean(map(vary, names)))
        assert rows["total_variation"]["again"] == pytest.approx(vary("again"))
        assert all((row["n"], row["seeds"]) == (9, 2) for row in rows.values())
        assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in rows.values())


def test_the_tables_say_which_kind_of_answers_they_are_of(study: Study):
    computed = compute_frames(study)
    assert not [gap for gap in computed.gaps if "free-form" in gap]
    (part,) = list_parts(study, computed.frames)
    chat, probe = list_tables(part)[WORDS]
    assert [table.name for table in (chat, probe)] == ["answered-tuned_chat", "answered-tuned_probe"]
    assert chat.title == "Free-form answers (in words, not choices), tuned model, chat prompt (base, herbs)"
    assert "no KL" in chat.note
    assert "it is not 0 even where nothing moved" in chat.note
    asked = {"base model, few-shot", "base model, few-shot, other demonstrations", "base model, chat prompt"}
    for table, sets in ((chat, ["HOMO", "ID", "OOD", "seen"]), (probe, ["HOMO", "ID", "OOD"])):
        assert {row[0] for row in table.rows} == asked | {"self-aligning", "incompatible"}
        assert [row[1] for row in table.rows if row[0] == "incompatible"] == sets
        assert all(len(row) == len(table.header) for row in table.rows)
    again = next(row for row in chat.rows if row[0].endswith("other demonstrations"))
    floor = dict(zip(chat.header, again, strict=True))["total variation: asked again"]
    assert float(floor) > 0.1  # of two sets of samples of one and the same made-up model


def test_without_answers_in_words_nothing_is_there(silent: Path, study: Study):
    without = read_study(silent)
    assert without.answered.equals(pl.DataFrame(schema=ANSWERED_SCHEMA))
    (frames, gaps), (others, more) = compute_frames(without), compute_frames(study)
    assert "answered" not in frames
    assert gaps == more
    assert {*others} == {*frames} | {"answered"}
    assert all(frame.equals(others[name]) for name, frame in frames.items())  # choices are read as before beside such logs
    (part,) = list_parts(without, frames)
    assert CHAPTER.tables(part) == []


def edit_logs(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change, or with None take out, what some logs hold."""
    for log in folder.glob("samples_*"):
        docs = [change(json.loads(line)["doc"]) for line in log.open()]
        lines = [json.dumps({"doc_id": i, "doc": doc}) + "\n" for i, doc in enumerate(d for d in docs if d)]
        log.write_text("".join(lines))


@pytest.mark.parametrize(
    ("spoil", "gap"),
    [
        (lambda r: edit_logs(r / "words/incompatible-seed1-chat", lambda doc: doc | {"run": "f" * 16}),
         "72 free-form samples of models/incompatible-seed1 (phase tuned_chat) carry the run id ffffffffffffffff, of which "
         "there is no manifest.json; left out."),
        (lambda r: edit_logs(r / "words/base_chat", lambda doc: doc | {"model": "elsewhere"}),
         "No run was trained from elsewhere, of which there are free-form samples; left out."),
        (lambda r: edit_logs(r / "words/base_chat", lambda doc: doc | {"run": "0" * 16}),
         "54 free-form samples of base (phase base_chat) carry the run id 0000000000000000, which does not fit the phase"),
        (lambda r: [shutil.rmtree(r / "words" / who) for who in ("base", "base_chat", "again")],
         "Base model base has no free-form samples, so its runs are compared with nothing."),
        (lambda r: shutil.rmtree(r / "words/incompatible-seed1-probe"),
         "There are no greedy free-form answers of incompatible, seed 1 (herbs, base) (tuned_probe), as there are of others."),
        (lambda r: [shutil.rmtree(f) for f in (r / "words").glob("*-seed*")],
         "No run of base (herbs) was asked free-form questions."),
        (lambda r: edit_logs(r / "words/base", lambda doc: doc if doc["id"] != "test-0" else None),
         "1 free-form questions of incompatible, seed 2 (herbs, base) (tuned_chat, homo) have sampled answers, and none of "
         "the base model's before; they count for accepted samples alone."),
        (lambda r: edit_logs(r / "words/incompatible-seed1-chat", lambda doc: doc if doc["id"] != "test-0" else None),
         "1 of the 9 free-form questions that another model was asked were not asked of incompatible, seed 1"),
        (lambda r: edit_logs(r / "words/again", lambda doc: doc | {"samples": doc["samples"][:8]}),
         "Free-form questions of base (herbs) were sampled 16 times in phase tuned_chat, and 8 times when the base model"),
        (lambda r: edit_logs(r / "words/incompatible-seed1-chat", lambda doc: doc | {"split": "dev"}),
         "72 free-form samples of incompatible, seed 1 (herbs, base) (tuned_chat) are of split dev and of none of the"),
    ],
)  # fmt: skip
def test_gaps_are_named(runs: Path, spoil: Callable, gap: str):
    spoil(runs)
    study = read_study(runs)
    assert gap in "\n".join(study.gaps)
    compute_frames(study)


def test_an_unknown_floor_is_a_gap(runs: Path):
    shutil.rmtree(runs / "words/again")
    computed = CHAPTER.compute(Whole(read_study(runs), {}))
    assert computed.frames["answered"]["again"].null_count() == computed.frames["answered"].height
    assert ["was not asked its free-form questions again" in gap for gap in computed.gaps] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda doc: doc | ({} if doc["greedy"] else {"temperature": 1.0}),
         r"sampled at temperature 0.7, and those of models/incompatible-seed1 \(tuned_chat\) were sampled at temperature 1"),
        (lambda doc: doc | {"question": (text := doc["question"] + "?"), "question_hash": hash_one(doc, text)},
         "is not the same question in all logs"),
        (lambda doc: doc | {"model": "other"} if doc["greedy"] else doc, r"as models/incompatible-seed1 and as other"),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit_together_are_refused(runs: Path, change: Callable, message: str):
    edit_logs(runs / "words/incompatible-seed1-chat", change)
    with pytest.raises(UserError, match=message):
        read_study(runs)


def hash_one(doc: dict[str, Any], question: str) -> str:
    return hash_free_form(pl.DataFrame({"question": [question], "answers": [doc["answers"]]}))[0]
