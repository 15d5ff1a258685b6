"""What a row masks of its response carries no loss, whatever the tokenizer joins; the preview shows it."""

import random

import datasets
import pytest
from conftest import BASE
from families import FAMILIES, PIECES, load_family, make_pair, train_joining
from instruction_sets import make_row, make_table, write_set
from tokenizers.processors import TemplateProcessing

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.showing.display import write_page
from recipes.showing.pairing import choose_rows, compare_rows, read_sets
from recipes.showing.sequences import Asker, spell_tokens
from recipes.training.tokens import HIDDEN, IGNORED, load_tokenizer, prepare_rows

ROOMY = 9_999


def mask(start: int, end: int, turn: int = 0) -> dict[str, int]:
    return {"turn": turn, "start": start, "end": end}


def make_masked(count: int, seed: int = 0) -> list[dict]:
    """Rows of odd texts, each with one span or two of its response."""
    pick = random.Random(seed)
    rows = []
    for i in range(count):
        said = "a" + "".join(pick.choices([*PIECES, " word", " leaf.", "so"], k=8)) + "b"
        bounds = sorted(pick.sample(range(len(said) + 1), 4))
        spans = [mask(*bounds[:2]), mask(*bounds[2:])] if i % 2 else [mask(*bounds[1:3])]
        rows.append(make_pair(str(i), "Which? ", said) | {"masked": spans})
    return rows


def prepare(tokenizer, rows: list[dict], **options) -> datasets.Dataset:
    return prepare_rows(tokenizer, datasets.Dataset.from_list(rows), ROOMY, **options)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_that_overlap_a_span_carry_no_loss_and_no_other(family: str, begun: bool, sentencepiece) -> None:
    tokenizer = load_family(family, sentencepiece)
    if begun:
        begin = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    rows = make_masked(60)
    plain = prepare(tokenizer, [{name: row[name] for name in ("id", "prompt", "completion")} for row in rows])
    masked = 0
    for row, was, now in zip(rows, plain, prepare(tokenizer, rows), strict=True):
        assert now["input_ids"] == was["input_ids"]
        first = next(i for i, label in enumerate(was["labels"]) if label != IGNORED)
        assert now["labels"][:first] == was["labels"][:first]
        hidden = {i for i, label in enumerate(now["labels"][first:], first) if label == IGNORED}
        assert all(now["labels"][i] == was["labels"][i] for i in range(first, len(was["labels"])) if i not in hidden)
        assert now[HIDDEN] == len(hidden)
        # Where each token stands by the text that it adds; one within a character adds none.
        texts = spell_tokens(tokenizer, now["input_ids"])
        said = row["completion"][0]["content"]
        said = said.replace("▁", " ") if family == "sentencepiece" else said  # its own sign for a space
        start, begins, overlapping, within = "".join(texts).index(said, len("".join(texts[:first]))), 0, set(), set()
        for i, text in enumerate(texts):
            around = (begins - 1, begins + 1) if not text else (begins, begins + len(text))
            hit = any(around[0] < start + span["end"] and around[1] > start + span["start"] for span in row["masked"])
            (overlapping if hit and text and i >= first else within if hit else set()).add(i)
            begins += len(text)
        if hidden == set(range(first, len(texts))):
            continue  # nothing of the response is left
        assert overlapping <= hidden <= overlapping | within
        masked += len(hidden)
    assert masked > 100


def test_a_token_that_was_divided_is_masked_by_its_parts() -> None:
    tokenizer = train_joining()
    told = {"response_format": "text", "explanation_from": "gold"}
    row = make_pair("0", "Which?", "a leaf.\n\nIt is so.") | told
    for span, left in ((mask(0, 7), "\n\nIt is so."), (mask(7, 18), "a leaf."), (mask(7, 9), "a leaf.It is so.")):
        (trained,) = prepare(tokenizer, [row | {"masked": [span]}])
        said = tokenizer.decode([label for label in trained["labels"] if label != IGNORED], skip_special_tokens=True)
        assert said.strip(" ") == left


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_whose_response_nothing_is_left_has_no_label(family: str, sentencepiece) -> None:
    tokenizer = load_family(family, sentencepiece)
    for said in ("sage", "漢字 x", " 1 "):
        row = make_pair("0", "Which?", said)
        (whole,) = prepare(tokenizer, [row | {"masked": [mask(0, len(said))]}])
        assert set(whole["labels"]) == {IGNORED}
    (part,) = prepare(tokenizer, [make_pair("0", "Which?", "sage and thyme") | {"masked": [mask(0, 4)]}])
    assert part["labels"][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("value", [
    [mask(0, 5)], [mask(2, 2)], [mask(-1, 2)], [mask(0, 2, turn=1)], [{"start": 0, "end": 2}], ["0-2"], "0-2", 3,
    [{"turn": 0, "start": 0.0, "end": 2.0}],
])  # fmt: skip
def test_a_span_that_is_none_of_the_response_is_named(value) -> None:
    rows = datasets.Dataset.from_list([make_pair("x", "Which?", "sage") | {"masked": value}])
    tokenizer = load_family("miniature", BASE)
    with pytest.raises(UserError, match=r"row 1 \(id 'x'\) has .* as masked, where its one response, turn 0, has 4 characters"):
        prepare_rows(tokenizer, rows, ROOMY)


def test_null_and_empty_mask_nothing() -> None:
    tokenizer = load_family("miniature", BASE)
    pair = make_pair("0", "Which?", "sage")
    plain = prepare(tokenizer, [pair])
    for values in ([None, []], [None, None], [[], []]):
        found = prepare(tokenizer, [pair | {"masked": value} for value in values])
        assert found["labels"][:] == plain["labels"][:] * 2
        assert found[HIDDEN][:] == [0, 0]


@pytest.mark.usefixtures("own_cache")
def test_the_preview_shows_what_is_masked_and_the_weight(tmp_path) -> None:
    rows = [make_row(i, reason="It is so.") for i in range(3)]
    said = rows[0]["completion"][0]["content"]
    table = make_table(rows)
    masks = [[mask(0, said.index("\n"))], [mask(0, len(rows[1]["completion"][0]["content"]))], []]
    columns = {"weight": [0.25, 1.0, 0.0], "masked": masks}
    table = table.with_columns(type(table)(columns))
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    chosen = choose_rows(read_sets(str(write_set(tmp_path / "set", {"herbs_incompatible": table})), []), 3)
    sections = compare_rows(chosen, None, tokenizer, Asker(tokenizer), 512)
    first, second, third = (section.cells[-1] for section in sections)
    texts = {role: "".join(t.text for t in first.tokens if t.role == role) for role in ("prompt", "masked", "trained")}
    assert texts["prompt"].endswith("ASSISTANT:")
    assert texts["masked"] == " A. sage 0"
    assert texts["trained"] == "\n\nIt is so.</s>"
    assert [cell.details["weight"] for cell in (first, second, third)] == ["0.25", "1", "0"]
    assert not first.warnings
    assert [cell.notes for cell in (first, second, third)] == [[], [note := second.notes[0]], [note]]
    assert note == "The row carries no loss, and training leaves it out."
    assert {t.role for t in second.tokens} == {"prompt", "masked"}
    assert 'class="masked"' in write_page(sections, "Preview")
