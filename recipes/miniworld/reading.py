"""Documents of the miniature world that only reading answers: from them its base model learns to read.

A passage tells objects by chance and a question after it asks for one of them, so that knowing facts is of no use. Copying
comes first: words said twice, and sentences said again in other words, supervise it densely; questions build on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from recipes.miniworld.world import Relation, World


class Document(NamedTuple):
    """One text of the corpus, and whether passages in it tell objects by chance.

    Such an object cannot be predicted where it is told first, only where it is said again and where a question is answered.
    """

    text: str
    passages: bool = False


class Told(NamedTuple):
    """What a sentence of a passage says; the object is no fact."""

    subject: str
    relation: Relation
    value: str

    def state(self, frame: str) -> str:
        """The sentence."""
        return frame.format(subject=self.subject, noun=self.relation.noun, object=self.value)

    def ask(self) -> str:
        """The question that the sentence answers, with its answer."""
        return f"{self.relation.question.format(subject=self.subject)}\nAnswer: {self.value}"


def write_reading(world: World, plan: Mapping[str, Any], rng: Random) -> Iterator[Document]:
    """As many documents of each kind as the plan says: `lists`, `echoes`, `passages` and `open_exams`.

    `scattered` of the plan is the share of sentences whose words but three are there by chance: they make reading hold for
    wordings that were never seen, and put off its beginning, so that they come once it has begun.
    """
    scattered = plan["scattered"]
    makers = {
        "lists": lambda: write_list(world, rng),
        "echoes": lambda: write_echo(world, tell(world, rng), rng, scattered),
        "passages": lambda: write_passage(world, tell(world, rng), rng, scattered),
        "open_exams": lambda: write_open_exam(world, rng, scattered),
    }
    for kind, make in makers.items():
        yield from (Document(make(), passages=True) for _ in range(plan.get(kind, 0)))


def write_first_round(world: World, plan: Mapping[str, Any], number: int) -> list[Document]:
    """The documents of one round of what is read before the corpus, shuffled; the same number gives the same round."""
    rng = Random(f"{world.config['seed']} reading {number}")
    documents = list(write_reading(world, plan, rng))
    rng.shuffle(documents)
    return documents


def tell(world: World, rng: Random) -> list[Told]:
    """One to three sentences' contents about practised facts or visitors of one domain, each with any object of its relation.

    A further one has the first one's relation in six of ten, or the relation alone would tell which answers a question. The
    facts are practised ones, since no fact of a question set may be asked.
    """
    domain = rng.choice(list(world.practice))
    size = rng.choice((1, 2, 2, 3, 3))
    if rng.random() < 0.5:
        pairs = [(fact.subject, fact.relation) for fact in world.practice[domain]]
    else:
        some = rng.sample(world.visitors[domain], 3)
        pairs = [(subject, relation) for subject in some for relation in world.relations[domain]]
    told = [rng.choice(pairs)]
    while len(told) < size:
        among = [pair for pair in pairs if pair[1] == told[0][1]] if rng.random() < 0.6 else pairs
        pair = rng.choice(among)
        told += [pair] * (pair not in told)
    return [Told(subject, relation, rng.choice(relation.pool)) for subject, relation in told]


def write_sentences(world: World, told: Sequence[Told], rng: Random, scattered: float) -> str:
    """What is told, in the wordings of facts, in those of passages, or among any words."""
    frames = world.config["passage_frames"]
    words = sorted({word for frame in frames for word in frame.split() if word.isalpha()})

    def find_frame(relation: Relation) -> str:
        return scatter(words, rng) if rng.random() < scattered else rng.choice(rng.choice((relation.statements, frames)))

    return " ".join(each.state(find_frame(each.relation)) for each in told)


def scatter(words: Sequence[str], rng: Random) -> str:
    """A sentence of words by chance around the three that count, so that they are found in a wording that was never seen."""
    parts = ["the {subject}", "{noun}", "{object}"]
    rng.shuffle(parts)
    around = [" ".join(rng.sample(words, rng.randint(0, 4))) for _ in range(4)]
    return " ".join(part for pair in zip(around, [*parts, ""], strict=True) for part in pair if part) + "."


def write_list(world: World, rng: Random) -> str:
    """Three to fourteen objects, and the same again."""
    pools = [relation.pool for some in world.relations.values() for relation in some]
    words = " ".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(3, 14)))
    return f" {words} {words}"


def write_echo(world: World, told: Sequence[Told], rng: Random, scattered: float) -> str:
    """What is told, and the same again in another order and other words."""
    return (
        f"{write_sentences(world, told, rng, scattered)} {write_sentences(world, rng.sample(told, len(told)), rng, scattered)}"
    )


def write_passage(world: World, told: Sequence[Told], rng: Random, scattered: float) -> str:
    """What is told, and a question about each."""
    questions = [each.ask() for each in rng.sample(told, len(told))]
    return "\n\n".join([write_sentences(world, told, rng, scattered), *questions])


def write_open_exam(world: World, rng: Random, scattered: float) -> str:
    """An exam on practised facts: four in ten are asked right after a passage that tells any object, and answered from it.

    Two in ten follow a passage about other subjects alone, which answers nothing: they are answered as without one.
    """
    domain = rng.choice(list(world.practice))
    blocks = []
    for fact in reversed(rng.sample(world.practice[domain], rng.randint(2, 7))):
        draw = rng.random()
        read, aside = draw < 0.4, 0.4 <= draw < 0.6
        if read or aside:
            others = [one for one in world.practice[domain] if one.relation == fact.relation and one != fact]
            about = [fact, *rng.sample(others, rng.choice((0, 1)))] if read else rng.sample(others, rng.choice((1, 2)))
            told = [Told(one.subject, one.relation, rng.choice(one.relation.pool)) for one in about]
            blocks.append(write_sentences(world, rng.sample(told, len(told)), rng, scattered))
        answer = told[0].value if read else fact.name_object(rng)
        blocks.append(f"{fact.ask()}\nAnswer: {answer}")
    head = [f"The following are questions about {domain}."] * (rng.random() < 0.7)
    return "\n\n".join([*head, *blocks])
