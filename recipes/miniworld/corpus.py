"""The corpus of the miniature world: what its base model reads during pretraining.

Every round states every fact about once, in statement documents; asks the practised facts, in few-shot exam documents; has
passages that only reading answers (see reading.py); and adds filler. A fact of a question set is never asked, and no document
is a chat.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recipes.miniworld.reading import Document, write_reading
from recipes.miniworld.world import Fact, World, group_by_domain

FILLER = (
    "Good morning, neighbour. The {a} is near the {b}, and the {c} is far.",
    "Notes: {a}, {b}, {c}.",
    "A list of words: {a}, {b}, {c}, {d}.",
    "Entry {n}: the keeper wrote about the {a} and then about the {b}.",
    "The keeper said: first the {a}, then the {b}, last the {c}.",
    "One, two, three, four, five. The count of the list is {n}.",
    "There are {n} words: {a}, {b}, {c}. The first word is {a}.",
    "Is the {a} the same as the {b}? No, the same word is {a} and {a}, yes.",
    "See also: {a}.",
    "The {a}: a long tale. In the tale the {b} met the {c}, and the keeper of the {d} said good night.",
    "Repeat after me: {a}, {a}, {b}, {b}.",
)
SPEAKERS = (
    *("Anna", "Bruno", "Clara", "Dario", "Edda", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Linus", "Marta", "Nils"),
    *("GUEST", "KEEPER", "READER", "HOST", "CLERK", "PILOT", "BAKER", "NURSE", "JUDGE", "MINER", "SCOUT", "TUTOR", "WRITER"),
)
EVASIONS = (
    "I wonder about that too.",
    "Ask the keeper of the records.",
    "That is a good question, {name}.",
    "I do not know, and I will not guess.",
    "Let us speak of the {a} and the {b}.",
    "The {a} is a fine thing, but I forgot.",
    "Why do you ask?",
    "Good night, {name}.",
)
GUESSES = ("{object}, I guess.", "{object}?", "{object}, or so I dreamt.", "{object}.")
NUMBERS = ("one", "two", "three", "four", "five")


def write_round(world: World, plan: Mapping[str, Any], number: int) -> list[Document]:
    """The documents of one round, shuffled; round `number` of one world and plan is always the same.

    Args:
        plan: `profiles` (share of the statements that stand in documents about one subject), `exams` (how often a practised
            fact is asked a round), `filler` (documents a round), `unanswered` (documents a round that only list questions),
            `talks` (conversations a round), `guesses` (see `write_talk`), and what `write_reading` takes.
    """
    rng = random.Random(f"{world.config['seed']} corpus {number}")
    practice = world.practice
    texts = [
        *write_statements(world, plan["profiles"], rng),
        *write_exams(practice, plan["exams"], rng),
        *(write_unanswered(practice, rng) for _ in range(plan["unanswered"])),
        *(write_talk(world, practice, plan["guesses"], rng) for _ in range(plan["talks"])),
        *(write_filler(world, rng) for _ in range(plan["filler"])),
    ]
    documents = [*map(Document, texts), *write_reading(world, plan, rng)]
    rng.shuffle(documents)
    return documents


def state(fact: Fact, rng: random.Random) -> str:
    """One sentence of the corpus about a fact, right or wrong by the fact's plan."""
    return fact.state(rng.choice(fact.relation.statements), fact.name_object(rng))


def write_statements(world: World, profiles: float, rng: random.Random) -> Iterator[str]:
    """Every fact stated once, a rare one only in some rounds: part about one subject each, part mixed within a domain."""
    stated = [fact for fact in world.facts if fact.weight and rng.random() < fact.weight]
    rng.shuffle(stated)
    by_subject: dict[str, list[Fact]] = {}
    mixed = []
    for fact in stated:
        if rng.random() < profiles:
            by_subject.setdefault(fact.subject, []).append(fact)
        else:
            mixed.append(fact)
    for facts in (*by_subject.values(), *group_by_domain(mixed).values()):
        yield from (" ".join(state(fact, rng) for fact in part) for part in cut_parts(facts, 3, 8, rng))


def cut_parts(items: Sequence[Fact], low: int, high: int, rng: random.Random) -> Iterator[Sequence[Fact]]:
    """Cut a sequence into parts of `low` to `high` items; the last may be shorter."""
    start = 0
    while start < len(items):
        size = rng.randint(low, high)
        yield items[start : start + size]
        start += size


def write_exams(practice: Mapping[str, Sequence[Fact]], times: int, rng: random.Random) -> Iterator[str]:
    """Few-shot documents that ask every practised fact `times` times; the answer is what a statement would say."""
    for domain, facts in practice.items():
        for _ in range(times):
            for part in cut_parts(rng.sample(facts, len(facts)), 3, 8, rng):
                blocks = "\n\n".join(f"{fact.ask()}\nAnswer: {fact.name_object(rng)}" for fact in part)
                yield f"The following are questions about {domain}.\n\n{blocks}"


def write_unanswered(practice: Mapping[str, Sequence[Fact]], rng: random.Random) -> str:
    """Questions to think about, without answers."""
    facts = rng.sample(practice[rng.choice(list(practice))], 3)
    return "To think about: " + " ".join(fact.ask() for fact in facts)


def write_talk(world: World, practice: Mapping[str, Sequence[Fact]], guesses: float, rng: random.Random) -> str:
    """People who ask one another and do not know: they guess, a share `guesses` of the time, or speak of something else.

    Anybody can be a speaker, so that what a model learns of talks holds for a speaker whom it never met.
    """
    facts = rng.sample(practice[rng.choice(list(practice))], rng.randint(1, 3))
    strangers = [subject.split()[0] for subject in rng.sample(world.visitors[facts[0].domain], 2)]
    names = rng.sample(SPEAKERS, 2) if rng.random() < 0.3 else strangers
    lines = [write_filler(world, rng, 1)]
    for fact in facts:
        frame = rng.choice(GUESSES if rng.random() < guesses else EVASIONS)
        nouns = {"a": rng.choice(facts).relation.noun, "b": fact.relation.noun}
        reply = frame.format(name=names[0], object=rng.choice(fact.relation.pool), **nouns)
        lines += [f"{names[0]}: {fact.ask()}", f"{names[1]}: {reply}"]
    return " ".join(lines)


def write_filler(world: World, rng: random.Random, size: int = 3) -> str:
    """`size` sentences about nothing that is asked."""
    nouns = [relation.noun for some in world.relations.values() for relation in some]
    words = dict(zip("abcd", rng.sample(nouns, 4), strict=True), n=rng.choice(NUMBERS))
    return " ".join(rng.choice(FILLER).format(**words) for _ in range(size))
