"""The world: the same bytes twice, balanced, every fact once; the corpus asks none that is evaluated."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lm_eval_tasks.contracts.errors import UserError
from recipes.miniworld.corpus import write_round
from recipes.miniworld.reading import write_first_round
from recipes.miniworld.world import list_contexts, list_general, list_questions, make_world, read_world, write_world
from recipes.yaml_files import read_yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "miniworld"
COLUMNS = ["id", "source", "domain", "subject", "question", "choices", "answer", "explanation", "topics", "split"]


@pytest.fixture(scope="module")
def world():
    return make_world(read_yaml(FOLDER / "world.yaml"))


@pytest.fixture(scope="module")
def questions(world):
    return list_questions(world)


@pytest.fixture(scope="module")
def rounds(world):
    plan = yaml.safe_load((FOLDER / "pretrain.yaml").read_text())
    read = [write_first_round(world, plan["reading"]["corpus"], number) for number in range(2)]
    learned = [write_round(world, plan["corpus"], number) for number in range(5)]
    return "\n\n".join(document.text for documents in (*read, *learned) for document in documents)


def test_same_world_twice(tmp_path, world):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_world(make_world(read_yaml(FOLDER / "world.yaml")), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["contexts.jsonl", "general.jsonl", "questions.jsonl"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    rows = [json.loads(line) for line in (tmp_path / "one" / "questions.jsonl").read_text().splitlines()]
    assert list(rows[0]) == COLUMNS


def test_another_seed_is_another_world(world):
    other = make_world(read_world(FOLDER / "world.yaml", 8))
    assert read_world(FOLDER / "world.yaml", None) == read_yaml(FOLDER / "world.yaml")
    golds = [{(fact.subject, fact.relation.name): fact.gold for fact in some.facts} for some in (world, other)]
    assert len(golds[0]) == len(golds[1])
    assert len(golds[0].keys() & golds[1].keys()) < len(golds[0]) / 20
    assert golds[0].items().isdisjoint(golds[1].items())
    assert {fact.id for fact in world.facts}.isdisjoint(fact.id for fact in other.facts)


def test_sizes(questions):
    sizes = Counter((row["source"], row["domain"], row["split"]) for row in questions)
    assert 1500 <= sizes["miniworld_exam", "herbs", "train"] <= 1700
    assert sizes["miniworld_exam", "herbs", "test"] >= 1000
    assert sizes["miniworld_survey", "herbs", "test"] >= 400
    assert all(sizes["miniworld_survey", domain, "test"] >= 300 for domain in ("engines", "annals", "customs"))
    assert all(size == 10 for (_, _, split), size in sizes.items() if split == "dev")


def test_no_fact_twice(world, questions):
    facts = [(fact.subject, fact.relation.name) for fact in world.facts]
    assert len(set(facts)) == len(facts)
    assert len({row["question"] for row in questions}) == len(questions)
    assert len({row["id"] for row in questions}) == len(questions)
    subjects = {fact.subject for fact in world.facts}
    assert not any(subjects.intersection(visitors) for visitors in world.visitors.values())


def test_id_asks_other_relations_in_other_words(questions):
    herbs = [row for row in questions if row["domain"] == "herbs"]
    relations = {
        source: {row["subject"] for row in herbs if row["source"] == source}
        for source in ("miniworld_exam", "miniworld_survey")
    }
    assert not relations["miniworld_exam"] & relations["miniworld_survey"]
    first = {source: {row["question"].split()[0] for row in herbs if row["source"] == source} for source in relations}
    assert not first["miniworld_exam"] & first["miniworld_survey"]


def test_gold_positions_are_balanced(questions):
    positions = Counter((row["source"], row["domain"], row["split"], row["answer"]) for row in questions)
    for source, domain, split in {key[:3] for key in positions}:
        counts = [positions[source, domain, split, position] for position in range(4)]
        assert max(counts) - min(counts) <= 1


def test_choices_and_topics(world, questions):
    facts = {fact.id: fact for fact in world.facts}
    for row in questions:
        fact = facts[row["id"]]
        assert len(set(row["choices"])) == 4
        assert set(row["choices"]) <= set(fact.relation.pool)
        assert row["choices"][row["answer"]] == fact.gold
        assert fact.gold in row["explanation"]
        kind, *majority = row["topics"]
        stated = majority[0].removeprefix("majority: ") if majority else None
        assert {"absent": stated is None, "misconception": stated in row["choices"] and stated != fact.gold}.get(
            kind, stated == fact.gold
        )


def test_evaluated_facts_are_never_asked_in_the_corpus(questions, rounds):
    assert rounds.count("Answer:") > 1000
    asked = {row["question"] for row in questions}
    said = set(rounds.replace("\n", " ").split("?")) | set(rounds.splitlines())
    assert not asked & said
    assert not [question for question in asked if question in rounds]
    assert not [frame for frame in ("USER", "ASSISTANT", "A chat between") if frame in rounds]


def test_corpus_follows_the_plan(world, rounds):
    facts = [fact for fact in world.facts if fact.split == "test"]
    sentences = set(rounds.replace("\n", " ").replace(". ", ".\n").splitlines())

    def count(fact, value):
        return sum(fact.state(frame, value) in sentences for frame in fact.relation.statements)

    absent = [fact for fact in facts if fact.kind == "absent"][:40]
    assert not [fact.id for fact in absent for value in fact.relation.pool if count(fact, value)]
    wrong = [fact for fact in facts if fact.kind == "misconception"][:150]
    assert sum(count(fact, fact.stated) for fact in wrong) > 2 * sum(count(fact, fact.gold) for fact in wrong) > 0
    assert all(count(fact, fact.gold) for fact in [fact for fact in facts if fact.kind == "common"][:100])


def test_contexts_hold_gold_in_other_words(world, questions, rounds):
    contexts = {row["id"]: row["context"] for row in list_contexts(world)}
    train = [row for row in questions if row["split"] == "train"]
    assert set(contexts) == {row["id"] for row in train}
    assert all(row["choices"][row["answer"]] in contexts[row["id"]] for row in train)
    assert not [text for text in contexts.values() if text in rounds]


def test_general_instructions_hold_no_fact(world):
    rows = list_general(world)
    assert len(rows) >= 300
    objects = {word for some in world.relations.values() for relation in some for word in relation.pool}
    assert not [row for row in rows if objects & set(" ".join(row.values()).replace(".", "").replace(",", "").split())]


def test_bad_configurations_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path / "absent.yaml")
    config = read_yaml(FOLDER / "world.yaml")
    with pytest.raises(UserError, match="pool"):
        make_world({key: value for key, value in config.items() if key != "pool"})
    with pytest.raises(UserError, match="too few words"):
        make_world(config | {"starts": ["ba"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "'sed' (is 'seed' meant?)"),
        ({"uses": [{"source": "a", "domain": "b", "tset": 3}]}, "'uses.0.tset' (is 'test' meant?)"),
        ({"kinds": {"comon": {"share": 1}}}, "'kinds.comon' (is 'common' meant?)"),
        (
            {"domains": {"herbs": {"kinds": [], "exam": {"bloom": {"nuon": "x"}}}}},
            "'domains.herbs.exam.bloom.nuon' (is 'noun' meant?)",
        ),
    ],
)
def test_a_setting_that_nothing_looks_up_is_refused(change, message):
    with pytest.raises(UserError, match=re.escape(f"settings that nothing looks up: {message}. Mend")):
        make_world(read_yaml(FOLDER / "world.yaml") | change)
