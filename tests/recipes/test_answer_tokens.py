"""What is scored of a response is what is trained, whatever a tokenizer joins; and a beginning that it adds only when told."""

import datasets
import pytest
from conftest import BASE
from families import FAMILIES, load_family, make_pair, train_joining
from instruction_sets import make_general, make_row, make_table, write_set
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE, list_spaced_choices, write_response
from recipes.preview import main
from recipes.showing.pairing import choose_rows, compare_rows, find_choice, read_sets
from recipes.showing.sequences import Asker, ends_as_asked
from recipes.training.tokens import IGNORED, prepare_rows

CHOICES = ["a leaf.", "lemon balm (fresh)", "12.5 %", "“so”", "is it?", "漢字。", "sage", "sage ", "1.", "f(x);", " a herb."]
REASON = "\n\nIt is so.\n\nBecause of it."
WHOLE = 9_999


def make_answer(number: int, reason: str | None, **values) -> dict:
    """A row whose response is the text of a choice."""
    said = write_response(0, CHOICES[number], reason, "text")
    told = {"response_format": "text", "explanation_from": "gold" if reason else None}
    return make_row(number) | make_pair(f"answer {number}", "Which?", said) | told | values


def train(tokenizer, rows: list[dict]) -> list[list[int]]:
    """The ids that have loss."""
    prepared = prepare_rows(tokenizer, datasets.Dataset.from_list(rows), WHOLE)
    return [[label for label in row["labels"] if label != IGNORED] for row in prepared]


def tokenize_as_written(tokenizer, rows: list[dict]) -> list[list[int]]:
    """The same ids where nothing but the texts decides."""
    return train(tokenizer, [{name: row[name] for name in ("id", "prompt", "completion")} for row in rows])


@pytest.fixture(scope="module")
def joining():
    return train_joining()


@pytest.mark.parametrize("reason", [None, REASON.strip()])
@pytest.mark.parametrize("family", [*FAMILIES, "joining"])
def test_a_scored_text_has_the_tokens_that_are_trained(family: str, reason: str | None, joining, sentencepiece) -> None:
    tokenizer = joining if family == "joining" else load_family(family, sentencepiece)
    asker, rows = Asker(tokenizer), [make_answer(i, reason) for i in range(len(CHOICES))]
    written = tokenize_as_written(tokenizer, rows)
    differ = []
    for row, ids, plain, choice in zip(
        rows, train(tokenizer, rows), written, list_spaced_choices({"choices": CHOICES}), strict=True
    ):
        scored = asker.ask("Which?", choice).scored
        assert find_choice(row) == choice
        assert ids[: len(scored)] == scored
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids) == tokenizer.decode(plain)
        assert (ids != plain) == (plain[: len(scored)] != scored)  # nothing else is written anew
        differ.append(ids != plain)
    if family == "joining":
        assert sum(differ) == (len(CHOICES) - 1 if reason else 0)  # all but the one that ends in a letter
    else:
        assert sum(differ) <= 1  # of a choice that ends in a space


def test_letters_and_general_instructions_are_as_written(joining) -> None:
    """Of them nothing is scored that could be joined with what follows."""
    general = make_general(1) | {"response_format": "text", "explanation_from": None}
    general |= {"completion": [{"role": "assistant", "content": "Say it.\n\nIt is 1."}]}
    lettered = [make_row(i, choices=CHOICES[:4], reason="So it is.\n\nYes.") for i in range(4)]
    for row in (general, *lettered):
        assert train(joining, [row]) == tokenize_as_written(joining, [row])
    assert [train(joining, [row])[0][0] for row in lettered] == [
        Asker(joining).ask(row["prompt"][0]["content"], f" {letter}").scored[0]
        for row, letter in zip(lettered, "ABCD", strict=True)
    ]


def test_a_template_that_writes_a_response_otherwise_still_trains(joining) -> None:
    row = make_answer(7, REASON.strip() + " ")
    own = train_joining()
    own.chat_template = CHAT_TEMPLATE.read_text().replace("message.content + eos_token", "message.content | trim + eos_token")
    assert own.decode(train(own, [row])[0]) == joining.decode(train(joining, [row])[0]).replace(" </s>", "</s>")


@pytest.mark.usefixtures("own_cache")
def test_the_preview_finds_nothing_to_warn_of(joining, tmp_path) -> None:
    folder = write_set(tmp_path / "set", {"herbs_gold": make_table([make_answer(i, REASON.strip()) for i in range(5)])})
    sections = compare_rows(choose_rows(read_sets(str(folder), []), 5), None, joining, Asker(joining), WHOLE)
    assert [warning for section in sections for cell in section.cells for warning in cell.warnings] == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_beginning_that_is_asked_for_is_written_by_a_tokenizer_without_that_habit(begun: bool) -> None:
    """As lm-eval writes it, and as training does."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    assert tokenizer("A")["input_ids"][0] != tokenizer.bos_token_id
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    row = make_row(1)
    (mine,) = prepare_rows(tokenizer, datasets.Dataset.from_list([row]), WHOLE, begun)
    asked = Asker(tokenizer, begun).ask(row["prompt"][0]["content"], " B")
    assert mine["input_ids"][: len(asked.prompt) + 1] == [*asked.prompt, *asked.scored]
    assert (asked.prompt[0] == tokenizer.bos_token_id) is begun
    model = HFLM(pretrained=str(BASE), device="cpu", add_bos_token=begun)
    text = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    assert model._encode_pair(text, " B") == tuple(asked)


@pytest.mark.usefixtures("own_cache")
def test_a_chat_models_own_template_is_left_out_and_that_is_said(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chat tasks refuse it, and training writes its own into the model's folder."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"
    assert not ends_as_asked(tokenizer)
    tokenizer.save_pretrained(tmp_path / "chat")
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    assert ends_as_asked(tokenizer)
    folder = write_set(tmp_path / "set", {"herbs_gold": make_table([make_row(0)])})
    main(str(folder), str(tmp_path / "chat"), [], 1, None, None, WHOLE, None)
    shown = capsys.readouterr().out
    assert "has a chat template of its own, with which the chat tasks refuse to ask" in shown
    assert "A·chat·between" in shown
    assert "warnings" not in shown
