"""Made-up free-form questions and what a model answers to them, in the form in which the answer tasks log it."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from answer_logs import write_answer_log
from made_up import write_set

from lm_eval_tasks.contracts.free_form import read_free_form

TOWNS = ("Rome", "Paris", "Oslo", "Bern", "Lima", "Cairo", "Quito", "Delhi", "Tokyo", "Accra", "Riga", "Sofia", "Minsk")


def write_free_set(folder: Path, train: int = 60, domain: str = "herbs", subjects: Sequence[str | None] = (None,)) -> Path:
    """A free-form question set of a domain: train, five dev and a third as many test questions, each with two wordings."""
    rows = [
        {"id": f"{split}-{i}", "source": "made_up", "domain": domain, "split": split, "subject": subjects[i % len(subjects)]}
        | {
            "question": f"Where does the {i}th of {split} grow?",
            "answers": [f"{TOWNS[i % 13]} {i}", f"Old {TOWNS[i % 13]} {i}"],
        }
        for split, n in (("train", train), ("dev", 5), ("test", train // 3))
        for i in range(n)
    ]
    return write_set(folder, rows)


def answer_at_random(row: dict[str, Any], n: int, seed: int = 0) -> list[str]:
    """`n` samples: questions are known well, less, wrongly, or not at all and guessed; and some answers are empty."""
    rng = random.Random(f"{seed} {row['id']}")
    base = random.Random(row["id"])
    known, wrong = base.choice((0.95, 0.5, 0.02, 0.02)), f"{base.choice(TOWNS)} {base.randint(100, 999)}"
    if base.random() < 0.2:
        return [f"{rng.choice(TOWNS)} {rng.randint(0, 99)}" for _ in range(n)]
    others = (wrong, wrong, f"the {wrong.lower()}!", f"{rng.choice(TOWNS)} {rng.randint(0, 99)}", "")
    return [rng.choice(row["answers"]) if rng.random() < known else rng.choice(others) for _ in range(n)]


def write_answers(
    file: Path, questions: Path, say: Callable[[dict[str, Any]], list[str]], splits: Sequence[str] = ("train",), **names: object
) -> Path:
    """A log of what `say` says to each question of a set (see `answer_logs.write_answer_log`)."""
    return write_answer_log(file, read_free_form(questions, splits=splits).to_dicts(), say, **names)


def write_all(folder: Path, questions: Path, draws: int = 2, n: int = 8, splits: Sequence[str] = ("train", "test")) -> Path:
    """Logs of sampled and greedy answers in several draws of demonstrations."""
    for draw in range(draws):
        name = f"2026-01-0{draw + 1}.jsonl"
        write_answers(
            folder / f"samples_selfalign_answer_{name}",
            questions,
            lambda row, d=draw: answer_at_random(row, n, d),
            splits,
            draw=draw,
        )
        write_answers(
            folder / f"samples_selfalign_answer_greedy_{name}",
            questions,
            lambda row, d=draw: answer_at_random(row, 1, 10 + d),
            splits,
            draw=draw,
            greedy=True,
        )
    return folder
