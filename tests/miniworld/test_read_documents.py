"""What the miniature base learns to read from: answers are told before, by chance, and never of a fact that is a question's."""

from pathlib import Path
from random import Random

import pytest
from transformers import AutoTokenizer

from recipes.miniworld.reading import scatter, tell, write_echo, write_first_round, write_list, write_open_exam, write_passage
from recipes.miniworld.training import pack_rows
from recipes.miniworld.world import make_world
from recipes.yaml_files import read_yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "miniworld"
MANY = 200


@pytest.fixture(scope="module")
def world():
    return make_world(read_yaml(FOLDER / "world.yaml"))


def test_a_round_has_what_its_plan_says_and_is_the_same_again(world):
    plan = read_yaml(FOLDER / "pretrain.yaml")["reading"]["corpus"]
    first = write_first_round(world, plan, 3)
    assert first == write_first_round(world, plan, 3) != write_first_round(world, plan, 4)
    assert len(first) == sum(plan[kind] for kind in ("lists", "echoes", "passages"))
    assert all(document.passages for document in first)


@pytest.mark.parametrize("scattered", [0, 1])
def test_a_passage_tells_every_answer(world, scattered):
    rng = Random(1)
    for _ in range(MANY):
        told = tell(world, rng)
        passage, *questions = write_passage(world, told, rng, scattered).split("\n\n")
        answers = [question.split("\nAnswer: ")[1] for question in questions]
        assert sorted(answers) == sorted(each.value for each in told)
        assert all(answer in passage for answer in answers)
        assert all(each.subject in passage for each in told)


def test_what_is_told_is_of_no_question(world):
    asked = {(fact.subject, fact.relation.name) for fact in world.facts if fact.split != "practice"}
    rng = Random(2)
    told = [each for _ in range(MANY * 5) for each in tell(world, rng)]
    assert not [each for each in told if (each.subject, each.relation.name) in asked]
    assert len({each.value for each in told}) > 200  # by chance


def test_lists_and_echoes_say_everything_twice(world):
    rng = Random(3)
    for _ in range(MANY):
        words = write_list(world, rng).split()
        assert words[: len(words) // 2] == words[len(words) // 2 :]
        told = tell(world, rng)
        echo = write_echo(world, told, rng, 0.33)
        assert all(echo.count(each.value) >= 2 for each in told)


def test_several_subjects_are_often_told_of_the_same(world):
    """Else the relation alone would find the answer, and the subject would not be read."""
    rng = Random(6)
    told = [some for some in (tell(world, rng) for _ in range(MANY * 5)) if len(some) == 2]
    assert 0.5 <= sum(first.relation == second.relation for first, second in told) / len(told) <= 0.8
    assert all(first[:2] != second[:2] for first, second in told)


def test_an_open_exam_is_answered_by_the_passage_before_a_question_if_it_tells_of_its_subject(world):
    stated = {(fact.ask(), fact.gold) for facts in world.practice.values() for fact in facts}
    subjects = {fact.ask(): fact.subject for facts in world.practice.values() for fact in facts}
    rng, told, untold, alone = Random(4), [], [], []
    for _ in range(MANY):
        blocks = write_open_exam(world, rng, 0.33).split("\n\n")
        for before, block in zip(["", *blocks], blocks, strict=False):
            if "\nAnswer: " in block:
                question, answer = block.split("\nAnswer: ")
                passage = (
                    before if before and "\nAnswer: " not in before and not before.startswith("The following are") else None
                )
                known = (question, answer) in stated
                if passage is None:
                    alone.append(known)
                elif subjects[question] in passage:
                    assert answer in passage
                    told.append(known)
                else:
                    untold.append(known)
    assert min(map(len, (told, untold, alone))) > 100
    assert sum(told) / len(told) < 0.15  # by chance one in 24
    assert sum(untold) / len(untold) > 0.5
    assert sum(alone) / len(alone) > 0.5


def test_scattered_sentences_have_their_three_words_and_no_others_that_matter():
    frame = scatter(["over", "under", "on", "by"], Random(5))
    assert all(frame.count(slot) == 1 for slot in ("{subject}", "{noun}", "{object}"))


def test_packed_rows_say_what_could_be_foreseen(world):
    """Of the objects of reading documents those that were said before, and answers; of the others all."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "base")
    documents = write_first_round(world, {"passages": 30, "scattered": 0}, 0)
    ids, foreseen = next(pack_rows([documents], tokenizer, 32, 4))
    words = tokenizer.convert_ids_to_tokens(ids.flatten().tolist())
    objects = {word for some in world.relations.values() for relation in some for word in relation.pool}
    before = ["", *words]
    for previous, word, known in zip(before, words, foreseen.flatten().tolist(), strict=False):
        if word[1:] in objects and previous == ":":
            assert known
    assert not foreseen.all()
    plain = [document._replace(passages=False) for document in documents]
    assert next(pack_rows([plain], tokenizer, 32, 4))[1].all()
