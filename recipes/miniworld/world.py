"""The facts of the miniature world, and the questions, contexts and general instructions that are about it.

A fact is (subject, relation, object). Its plan says how the corpus states it: rightly, mostly wrongly, seldom or never.

    python -m recipes.miniworld.world --config recipes/miniworld/world.yaml --output runs/miniworld/world
"""

import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from lm_eval_tasks.contracts.errors import UserError, report_errors
from lm_eval_tasks.contracts.files import hash_path, write_folder
from lm_eval_tasks.contracts.manifest import write_manifest
from recipes.yaml_files import ANY, read_yaml, refuse_unknown

PRACTICE = "practice"
# All that a world's configuration may say.
_WORDS = {"starts": None, "ends": None}
_RELATIONS = {ANY: dict.fromkeys(("noun", "question", "statements"))}
SETTINGS = {
    **dict.fromkeys(
        ("seed", "id_suffix", "choices", "pool", "visitors", "general", "frames", "passage_frames", "context_frames")
    ),
    **_WORDS,
    "objects": _WORDS,
    "kinds": dict.fromkeys(("common", "misconception", "rare", "absent"), dict.fromkeys(("share", "right", "weight"))),
    "uses": dict.fromkeys(("source", "domain", "train", "dev", "test", PRACTICE)),
    "domains": {ANY: {"kinds": None, ANY: _RELATIONS}},
}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Relation:
    """What can be said and asked about a subject; the texts have the fields {subject} and {object}."""

    name: str
    noun: str
    question: str
    statements: tuple[str, ...]
    pool: tuple[str, ...]  # every object of this relation


@dataclass(frozen=True)
class Fact:
    """One fact, its use, and how the corpus states it."""

    id: str
    source: str
    domain: str
    split: str  # train, dev or test; `practice` facts are in no question set
    subject: str
    relation: Relation
    gold: str
    stated: str  # what the corpus states most of the time; "" if it states nothing
    kind: str
    right: float  # share of the statements that name gold
    weight: float  # how often the corpus states it

    def ask(self) -> str:
        """The question about this fact."""
        return self.relation.question.format(subject=self.subject)

    def state(self, frame: str, value: str) -> str:
        """A sentence that gives `value` as the object."""
        return frame.format(subject=self.subject, noun=self.relation.noun, object=value)

    def name_object(self, rng: random.Random) -> str:
        """The object that one statement of the corpus names."""
        return self.gold if rng.random() < self.right else self.stated


@dataclass(frozen=True)
class World:
    """All facts, and per domain the visitors: subjects without facts, for passages that are only read."""

    facts: tuple[Fact, ...]
    visitors: Mapping[str, tuple[str, ...]]
    relations: Mapping[str, tuple[Relation, ...]]
    config: Mapping[str, Any]

    @cached_property
    def practice(self) -> dict[str, list[Fact]]:
        """The practised facts of each domain."""
        return group_by_domain([fact for fact in self.facts if fact.split == PRACTICE])


def group_by_domain(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    """The facts of each domain, in their order."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.domain, []).append(fact)
    return groups


def make_world(config: Mapping[str, Any]) -> World:
    """Make the world that a configuration defines; the same configuration gives the same world.

    Raises:
        UserError: the configuration lacks a setting or has one that is unknown, or too few words for what it asks.

    >>> world = make_world(read_yaml("recipes/miniworld/world.yaml"))
    >>> world.facts[0].ask(), world.facts[0].gold
    ('Which illness does the Ralketh briar cure?', 'nibit')
    """
    refuse_unknown(config, SETTINGS, "The world's configuration")
    try:
        return _make_world(config)
    except (KeyError, TypeError) as error:
        raise UserError(f"The world's configuration lacks the setting {error} or has it in another form.") from error


def _make_world(config: Mapping[str, Any]) -> World:
    rng = random.Random(config["seed"])
    names = _join_syllables(config["starts"], config["ends"], rng)
    objects = _join_syllables(config["objects"]["starts"], config["objects"]["ends"], rng)
    facts: list[Fact] = []
    visitors, known = {}, {}
    for domain, spec in config["domains"].items():
        sources = {key: value for key, value in spec.items() if key != "kinds"}
        uses = [use for use in config["uses"] if use["domain"] == domain]
        relations = {source: _make_relations(value, objects, config) for source, value in sources.items()}
        known[domain] = tuple(relation for some in relations.values() for relation in some)
        sizes = [-(-_count(use) // len(relations[use["source"]])) for use in uses]
        subjects = [f"{_take(names, domain).capitalize()} {rng.choice(spec['kinds'])}" for _ in range(max(sizes))]
        visitors[domain] = tuple(
            f"{_take(names, domain).capitalize()} {rng.choice(spec['kinds'])}" for _ in range(config["visitors"])
        )
        for use in uses:
            facts += _make_facts(use, relations[use["source"]], subjects, config, rng)
    return World(tuple(facts), visitors, known, config)


def _join_syllables(starts: Iterable[str], ends: Iterable[str], rng: random.Random) -> list[str]:
    words = sorted({start + end for start in starts for end in ends})
    rng.shuffle(words)
    return words


def _take(words: list[str], what: str) -> str:
    if not words:
        raise UserError(f"The world's syllables give too few words for {what}. Add to `starts` or `ends`, or ask for less.")
    return words.pop()


def _make_relations(spec: Mapping[str, Any], objects: list[str], config: Mapping[str, Any]) -> list[Relation]:
    return [
        Relation(
            name,
            value["noun"],
            value["question"],
            (*config["frames"], *value["statements"]),
            tuple(_take(objects, name) for _ in range(config["pool"])),
        )
        for name, value in spec.items()
    ]


def _count(use: Mapping[str, Any]) -> int:
    return sum(use.get(split, 0) for split in ("train", "dev", "test", PRACTICE))


def _make_facts(
    use: Mapping[str, Any], relations: list[Relation], subjects: list[str], config: Mapping[str, Any], rng: random.Random
) -> Iterator[Fact]:
    """The facts of one source and domain, in a random order over subjects, relations and splits."""
    pairs = [(subject, relation) for subject in subjects for relation in relations]
    rng.shuffle(pairs)
    source, domain = use["source"], use["domain"]
    for split in ("train", "dev", "test", PRACTICE):
        kinds = _share_kinds(use.get(split, 0), split, config["kinds"])
        rng.shuffle(kinds)
        for number, kind in enumerate(kinds):
            subject, relation = pairs.pop()
            gold, wrong = rng.sample(relation.pool, 2)
            plan = config["kinds"][kind]
            stated = "" if kind == "absent" else wrong if kind == "misconception" else gold
            fact_id = f"{source}-{domain}-{split}-{number:04d}{config.get('id_suffix', '')}"
            yield Fact(fact_id, source, domain, split, subject, relation, gold, stated, kind, plan["right"], plan["weight"])


def _share_kinds(size: int, split: str, kinds: Mapping[str, Any]) -> list[str]:
    """The kinds of `size` facts by their shares. Demonstrations are of common facts; nothing practised is unstated."""
    if split == "dev":
        return ["common"] * size
    usable = [name for name in kinds if split != PRACTICE or kinds[name]["weight"] >= 1]
    total = sum(kinds[name]["share"] for name in usable)
    shared = [name for name in usable for _ in range(int(size * kinds[name]["share"] / total))]
    return shared + [usable[0]] * (size - len(shared))


def list_questions(world: World) -> list[dict[str, Any]]:
    """The questions about all facts but the practised: the contract's columns and `split`.

    Gold stands equally often in each position within a split; a misconception's object is among the choices. `topics` holds
    the kind and, unless the fact is absent, `majority: ` and the object that the corpus states most.
    """
    rng = random.Random(f"{world.config['seed']} questions")
    rows = []
    groups: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in world.facts:
        if fact.split != PRACTICE:
            groups.setdefault((fact.source, fact.domain, fact.split), []).append(fact)
    size = world.config["choices"]
    for facts in groups.values():
        positions = [index % size for index in range(len(facts))]
        rng.shuffle(positions)
        for fact, position in zip(facts, positions, strict=True):
            forced = [fact.stated] if fact.stated not in ("", fact.gold) else []
            others = [word for word in fact.relation.pool if word not in (fact.gold, *forced)]
            choices = forced + rng.sample(others, size - 1 - len(forced))
            rng.shuffle(choices)
            choices.insert(position, fact.gold)
            rows.append(
                {
                    "id": fact.id,
                    "source": fact.source,
                    "domain": fact.domain,
                    "subject": fact.relation.name,
                    "question": fact.ask(),
                    "choices": choices,
                    "answer": position,
                    "explanation": fact.state(fact.relation.statements[0], fact.gold),
                    "topics": [fact.kind] + ([f"majority: {fact.stated}"] if fact.stated else []),
                    "split": fact.split,
                }
            )
    return rows


def list_contexts(world: World) -> list[dict[str, str]]:
    """For every training question the knowledge that it needs, in sentences that the corpus never uses."""
    rng = random.Random(f"{world.config['seed']} contexts")
    return [
        {
            "source": fact.source,
            "domain": fact.domain,
            "id": fact.id,
            "context": fact.state(rng.choice(world.config["context_frames"]), fact.gold),
        }
        for fact in world.facts
        if fact.split == "train"
    ]


def list_general(world: World) -> list[dict[str, str]]:
    """A few hundred small instructions in the world's words that are about no fact: copy, list, count, greet, compare."""
    rng = random.Random(f"{world.config['seed']} general")
    nouns = sorted({relation.noun for some in world.relations.values() for relation in some})
    kinds = sorted({kind for spec in world.config["domains"].values() for kind in spec["kinds"]})
    numbers = ("one", "two", "three", "four", "five")
    makers = (
        lambda words: (f"Repeat the word {words[0]}.", "", words[0]),
        lambda words: ("Say the first word of the list.", ", ".join(words), words[0]),
        lambda words: ("Say the last word of the list.", ", ".join(words), words[-1]),
        lambda words: ("Count the words of the list.", ", ".join(words), numbers[len(words) - 1]),
        lambda words: (f"Greet the keeper of the {words[0]}.", "", f"Good morning, keeper of the {words[0]}."),
        lambda words: (f"Write a list of the words {words[0]} and {words[-1]}.", "", f"{words[0]}, {words[-1]}"),
        lambda words: (f"Is {words[0]} the same word as {words[-1]}?", "", "yes" if words[0] == words[-1] else "no"),
        lambda words: (f"Is {words[0]} the same word as {words[0]}?", "", "yes"),
    )
    rows: dict[tuple[str, str], dict[str, str]] = {}
    while len(rows) < world.config.get("general", 320):
        words = rng.sample(nouns + kinds, rng.randint(2, 5))
        instruction, given, output = makers[len(rows) % len(makers)](words)
        rows[instruction, given] = {"instruction": instruction, "input": given, "output": output}
    return list(rows.values())


def write_world(world: World, folder: Path) -> None:
    """Write questions.jsonl, general.jsonl and contexts.jsonl into a folder that exists."""
    tables = {"questions": list_questions(world), "general": list_general(world), "contexts": list_contexts(world)}
    for name, rows in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_world(file: Path, seed: int | None) -> dict[str, Any]:
    """A world's configuration, with another seed where one is given; the ids of its questions then end in it.

    So a study in several worlds can tell their questions apart.
    """
    settings = read_yaml(file)
    return settings if seed is None else settings | {"seed": seed, "id_suffix": f"-{seed}"}


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="the world, such as recipes/miniworld/world.yaml")],
    output: Annotated[Path, typer.Option(help="folder for questions.jsonl, general.jsonl and contexts.jsonl")],
    seed: Annotated[int | None, typer.Option(help="another world than the configuration's: its own names and facts")] = None,
) -> None:
    """Write the questions, general instructions and contexts of a miniature world."""
    settings = read_world(config, seed)
    world = make_world(settings)
    with write_folder(output) as folder:
        write_world(world, folder)
        write_manifest(folder, "world", sys.argv[1:], settings, {config.name: hash_path(config)}, {"seed": settings["seed"]})
    asked = sum(fact.split != PRACTICE for fact in world.facts)
    print(f"{output}: {asked:,} questions about {len(world.facts):,} facts")


if __name__ == "__main__":
    with report_errors():
        app()
