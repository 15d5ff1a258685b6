"""The knowledge classes of Gekhman et al. (2024), by hand."""

from pathlib import Path

import pytest
from made_up import believe, fill_probes, make_rows, write_set, write_table

from intervention.believing.knowledge import count_knowledge
from lm_eval_tasks.contracts.questions import read_questions

# What each of three draws gives the choices of a question whose gold is the first of four.
DRAWS = {
    "HighlyKnown": [[0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1], [0.9, 0.1, 0.0, 0.0]],
    "MaybeKnown": [[0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]],
    "WeaklyKnown": [[0.3, 0.4, 0.2, 0.1], [0.3, 0.0, 0.7, 0.0], [0.2, 0.1, 0.0, 0.7]],  # 0.2667 on average
    "Unknown": [[0.3, 0.4, 0.2, 0.1], [0.3, 0.0, 0.7, 0.0], [0.15, 0.0, 0.15, 0.7]],  # exactly 0.25
}


def ask(folder: Path, *parts: tuple[int, int, list[list[float]]]) -> list[dict]:
    """The belief rows of four questions with gold first; parts: draw, order, and the probabilities of each question."""
    questions = write_set(folder / "set", [row | {"answer": 0} for row in make_rows(len(parts[0][2]))])
    table = read_questions(questions)
    logs = []
    for draw, order, probs in parts:
        named = [row.index(max(row)) for row in probs]
        logs.append(write_table(folder, fill_probes(table, probs, named, draw=draw, order=order), f"probes_{draw}_{order}"))
    beliefs = believe(questions, logs).table
    return beliefs.to_dicts()


def test_the_four_classes(tmp_path: Path) -> None:
    rows = ask(tmp_path, *((draw, 0, [draws[draw] for draws in DRAWS.values()]) for draw in range(3)))
    assert [row["knowledge"] for row in rows] == list(DRAWS)
    assert [row["draws"] for row in rows] == [3] * 4
    # The prediction of all draws together: choice 1, 2 (named by one draw), 3, 3.
    assert [row["prediction"] for row in rows] == [0, 1, 2, 2]
    assert [row["draw_agreement"] for row in rows] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    assert [row["order_agreement"] for row in rows] == [1] * 4


def test_a_draw_answers_with_what_its_orders_say_together(tmp_path: Path) -> None:
    sure, unsure, wrong = [0.9, 0.1, 0.0, 0.0], [0.4, 0.6, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]
    # Draw 0 names gold in one order of four, with enough probability; draw 1 never does.
    parts = [
        (draw, order, [sure if (draw, order) == (0, 0) else unsure if draw == 0 else wrong])
        for draw in (0, 1)
        for order in range(4)
    ]
    (row,) = ask(tmp_path, *parts)
    assert row["knowledge"] == "MaybeKnown"
    assert (row["draws"], row["orders"], row["asked"]) == (2, 4, 8)
    assert row["prediction"] == 1
    assert (row["agreement"], row["draw_agreement"], row["order_agreement"]) == (7 / 8, 1 / 2, 3 / 4)
    # Averaged over the two draws, order 0 ties and goes to what was named first; the others are 0.25 to 0.75.
    assert row["held_orders"] == [1, 2, 3]


def test_of_one_draw_a_question_is_highly_known_or_not_known(tmp_path: Path) -> None:
    rows = ask(tmp_path, (0, 0, [draws[0] for draws in DRAWS.values()]))
    assert [row["knowledge"] for row in rows] == ["HighlyKnown", "HighlyKnown", "WeaklyKnown", "WeaklyKnown"]


def test_classes_are_counted_by_split(tmp_path: Path) -> None:
    rows = make_rows(4) + make_rows(3, split="test")
    questions = write_set(tmp_path / "set", [row | {"answer": 0} for row in rows])
    table = read_questions(questions)
    probs = [draws[0] for draws in DRAWS.values()] + [[0.0, 1.0, 0.0, 0.0]] * 3
    beliefs = believe(questions, [write_table(tmp_path, fill_probes(table, probs, [0, 0, 1, 1, 1, 1, 1]))]).table
    assert count_knowledge(beliefs).rows() == [("herbs", "test", 1, 3, 0, 0, 0, 3), ("herbs", "train", 1, 4, 2, 0, 2, 0)]
