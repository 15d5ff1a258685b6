"""What is wrong with instruction data: named by row and turn, and not judged where it cannot be."""

from pathlib import Path

import pytest
from test_conversations import ASSISTANT, MORE, SYSTEM, USER, name_flaws, read, talk

from lm_eval_tasks.contracts.conversations.flaws import EXCLUDING, FLAWS, count_flaws

LONG = "word " * 60

CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": {}}}]}
IMAGE = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}
PART = {"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "heals?"}]}


@pytest.mark.parametrize(
    ("messages", "flaws", "turns"),
    [
        ([USER], [(0, None, "no_assistant_turn")], []),
        ([USER, {"role": "assistant", "content": " \n"}], [(0, 0, "empty_response")], []),
        ([USER, {"role": "assistant", "content": ""}, *MORE], [(0, 0, "empty_response")], ["Ivy."]),
        ([ASSISTANT], [(0, 0, "roles_out_of_order")], []),
        ([USER, USER, ASSISTANT], [(0, 0, "roles_out_of_order")], []),
        ([USER, ASSISTANT, ASSISTANT], [(0, 1, "roles_out_of_order")], ["Sage."]),
        ([USER, SYSTEM, ASSISTANT], [(0, 0, "roles_out_of_order")], []),
        ([SYSTEM, SYSTEM, USER, ASSISTANT], [(0, 0, "roles_out_of_order")], []),
        ([USER, {"role": "critic", "content": "No."}], [(0, 0, "roles_out_of_order")], []),
        ([USER, {"role": None, "content": "Sage."}], [(0, 0, "roles_out_of_order")], []),
        ([USER, ASSISTANT, MORE[0], CALL, {"role": "tool", "content": "x"}, ASSISTANT], [(0, 1, "tool_call")], ["Sage."]),
        ([USER, {"role": "function", "content": "x"}, ASSISTANT], [(0, 0, "tool_call")], []),
        ([USER | {"tool_calls": []}, ASSISTANT], [], ["Sage."]),
        ([IMAGE, ASSISTANT], [(0, 0, "image")], []),
        ([USER, ASSISTANT, IMAGE, ASSISTANT], [(0, 1, "image")], ["Sage."]),
        ([PART, ASSISTANT], [], ["Sage."]),
        ([USER, {"role": "assistant", "content": None}], [(0, 0, "not_text")], []),
        ([USER, {"role": "assistant", "content": 5}], [(0, 0, "not_text")], []),
        ([USER, {"role": "assistant", "content": {"text": "Sage."}}], [(0, 0, "not_text")], []),
        ([USER, {"role": "assistant", "content": ["Sage."]}], [(0, 0, "not_text")], []),
        ([{"role": "system", "content": 1}, USER, ASSISTANT], [(0, 0, "not_text")], []),
        ([USER, {"role": "assistant", "content": "\ud83d"}], [(0, 0, "not_text")], []),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_flaws_of_messages_are_named_and_their_turns_not_judged(
    messages: list, flaws: list, turns: list, alone: bool, tmp_path: Path
) -> None:
    others = [] if alone else [{"messages": talk("Another?", "Oak.")}]  # with texts beside, a column has several types
    found = read(tmp_path, {"messages": messages}, *others)
    assert name_flaws(found) == flaws
    assert found.turns.filter(row=0)["response"].to_list() == turns
    assert found.turns.filter(row=1)["response"].to_list() == ([] if alone else ["Oak."])
    assert not set(found.flaws["flaw"]) - set(EXCLUDING)


@pytest.mark.parametrize(
    ("messages", "flaw"),
    [
        ([], (0, None, "no_assistant_turn")),
        ([USER, "Sage."], (0, 0, "not_text")),
        ([USER, None], (0, 0, "not_text")),
        ("Sage.", (0, None, "not_text")),
        ({"user": "What heals?"}, (0, None, "not_text")),
        (5, (0, None, "not_text")),
        (None, (0, None, "not_text")),
    ],
)
def test_what_is_no_list_of_messages_is_named(messages: object, flaw: tuple, tmp_path: Path) -> None:
    found = read(tmp_path, {"messages": messages}, {"messages": talk("Another?", "Oak.")})
    assert name_flaws(found) == [flaw]
    assert found.turns["response"].to_list() == ["Oak."]


@pytest.mark.parametrize(
    ("change", "flaw", "detail"),
    [
        ({"output": None}, "not_text", "message 2 is None"),
        ({"output": 5}, "not_text", "message 2 is 5"),
        ({"instruction": None}, "not_text", "message 1 is None"),
        ({"input": ["x"]}, "not_text", "message 1 is ['x']"),
        ({"system": 1}, "not_text", "system is 1"),
        ({"output": " "}, "empty_response", "message 2 is blank"),
    ],
)
def test_flaws_of_columns_of_text(change: dict, flaw: str, detail: str, tmp_path: Path) -> None:
    row = {"instruction": "What heals?", "input": "Sage, salt", "output": "5", "system": "Be brief."}
    found = read(tmp_path, row, row | {"instruction": "Which?"} | change)
    assert found.flaws.select("row", "flaw").rows() == [(1, flaw)]
    assert detail in found.flaws["detail"][0]
    assert found.turns["row"].to_list() == [0]


def test_an_image_beside_the_messages_is_named(tmp_path: Path) -> None:
    row = {"messages": [USER, ASSISTANT]}
    found = read(tmp_path, row | {"images": ["a.png"]}, row | {"images": []}, row)
    assert name_flaws(found)[0] == (0, None, "image")
    assert found.turns["row"].to_list() == [1, 2]


def test_a_prompt_is_given_and_its_turns_are_not_judged(tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": [USER, ASSISTANT], "completion": []}, {"prompt": [USER], "completion": [USER]})
    assert name_flaws(found) == [(0, None, "no_assistant_turn"), (1, 0, "roles_out_of_order")]


def test_repeated_turns_are_kept_and_named(tmp_path: Path) -> None:
    rows = [talk("a", "b"), talk("c", "d"), talk("a", "b", "e", "f"), talk("a", "g"), talk("c", "d")]
    found = read(tmp_path, *({"messages": row} for row in rows))
    assert found.turns.height == 6
    assert found.flaws.rows() == [
        (0, 0, "contradictory_duplicate", "row 3, turn 0 has another response"),
        (2, 0, "duplicate", "as row 0, turn 0"),
        (2, 0, "contradictory_duplicate", "row 3, turn 0 has another response"),
        (3, 0, "contradictory_duplicate", "row 0, turn 0 has another response"),
        (4, 0, "duplicate", "as row 1, turn 0"),
    ]
    assert count_flaws(found.flaws).rows() == [("duplicate", 2, 2), ("contradictory_duplicate", 3, 3)]


@pytest.mark.parametrize(
    ("response", "cut"),
    [
        (f"{LONG}and then the", True),
        (f"{LONG}and then,", True),
        (f"{LONG}and then.", False),
        (f"{LONG}and then (so)", False),
        (f'{LONG}he said "so."', False),
        ("Sage and ivy", False),
        ("Run this:\n```bash\nls\n", True),
        ("Run this:\n```bash\nls\n```", False),
        (f"{LONG}whole.\n\n2. Plants that can", True),
        (f"{LONG}these:\n\n- sage\n- ivy", False),
        (f"{LONG}whole.\n\nYours,\nAnna", False),
        (f"{LONG}see https://herbs.org/sage", False),
        (f"{LONG}\n| sage | 7", False),
        ("药" * 61, True),
        ("药" * 61 + "。", False),
    ],
)
def test_a_response_that_ends_in_the_middle_is_named(response: str, cut: bool, tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": "What heals?", "completion": response})
    assert name_flaws(found) == [(0, 0, "cut")] * cut
    assert found.turns.height == 1


def test_flaws_are_one_vocabulary() -> None:
    assert list(EXCLUDING) == list(FLAWS)[:6]
