"""The preview shows what is trained and what lm-eval asks, and nothing of its own."""

import io
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import datasets
import polars as pl
import pytest
from conftest import BASE, ROOT, run_command
from instruction_sets import make_general, make_row, make_table, write_set
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager, get_task_dict
from rich.console import Console
from tokenizers.processors import TemplateProcessing

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.preview import main
from recipes.showing.display import PART, print_sections, show_text, write_page
from recipes.showing.pairing import choose_rows, compare_rows, read_docs, read_sets
from recipes.showing.sequences import Asker, read_trained, spell_tokens
from recipes.training.tokens import load_tokenizer, prepare_rows

NASTY = "{{ x }}{% y %}<b>&amp;</b><script>\x1b[0m\u202e a  b\t| `"
CONDITIONS = ("harmonious", "incompatible", "self_aligning", "contextualized")


pytestmark = pytest.mark.usefixtures("own_cache")


def make_rows(condition: str, numbers: range, **values) -> list[dict]:
    context = {"context": "Herbs have names.\n\nThey do."} if condition == "contextualized" else {}
    return [make_row(i, condition, **context, **values) for i in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Harmonious has its own questions, the others share theirs; each has a general instruction in the middle."""
    tables = {
        f"herbs_{name}": make_table(
            [*(rows := make_rows(name, range(10, 14) if name == "harmonious" else range(4)))[:2], make_general(7), *rows[2:]]
        )
        for name in CONDITIONS
    }
    return write_set(tmp_path / "set", tables)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """The question set of the same questions, choices rotated back: `order` 0 shows them as they are."""
    rows = [make_row(i) for i in (*range(4), *range(10, 14))]
    docs = []
    for row in rows:
        question, *choices = row["prompt"][0]["content"].split("\n")
        docs.append({name: row[name] for name in ("id", "source", "domain")} | {"question": question, "answer": 0})
        docs[-1] |= {"choices": [choice[3:] for choice in choices], "subject": None, "explanation": None, "topics": []}
    folder = tmp_path / "questions"
    (folder / "herbs").mkdir(parents=True)
    pl.DataFrame(docs, schema_overrides={"topics": pl.List(pl.String)}).write_parquet(folder / "herbs/test.parquet")
    files = "data_files: [{split: test, path: herbs/test.parquet}]"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: herbs\n  {files}\n---\n")
    return folder


def preview(folder: Path, count: int = 1, questions: Path | None = None, tokenizer=None, max_length: int = 512, names=()):
    tokenizer = tokenizer or load_tokenizer(str(BASE))
    chosen = choose_rows(read_sets(str(folder), names), count)
    docs = read_docs(str(questions), list(chosen)) if questions else None
    asker = Asker(tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return compare_rows(chosen, docs, tokenizer, asker, max_length)


def get_cell(sections, title: str):
    return next(cell for section in sections for cell in section.cells if cell.title == title)


def list_warnings(sections) -> list[str]:
    return [warning for section in sections for cell in section.cells for warning in cell.warnings]


def test_ids_and_labels_are_those_that_are_trained() -> None:
    rows = [*make_rows("incompatible", range(6), reason="Because it is."), *make_rows("contextualized", range(6))]
    rows += [make_general(1), make_row(9, question=NASTY), make_row(8, reason="A long reason. " * 30)]
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    table = datasets.Dataset.from_list([{name: row[name] for name in ("id", "prompt", "completion")} for row in rows])
    prepared = prepare_rows(tokenizer, table, 512)
    mine = read_trained(tokenizer, rows)
    assert [row.ids for row in mine] == prepared["input_ids"][:]
    assert [[-100] * row.start + row.ids[row.start :] for row in mine] == prepared["labels"][:]


def test_the_evaluation_prompt_is_that_of_the_chat_task(folder: Path, questions: Path, tmp_path: Path) -> None:
    model = HFLM(pretrained=str(BASE), device="cpu")
    metadata = {"pretrained": str(BASE), "questions": str(questions)}
    manager = TaskManager(include_path=str(ROOT / "lm_eval_tasks"), include_defaults=False, metadata=metadata)
    task = get_task_dict(["selfalign_chat"], manager)["selfalign_chat"]
    task.build_all_requests(apply_chat_template=True, chat_template=model.apply_chat_template, tokenizer_name="base")
    asked: dict[str, list] = {}
    for request in task.instances:
        asked.setdefault(request.doc["id"], []).append(model._encode_pair(*request.args))
    sections = preview(folder, 2, questions)
    assert not list_warnings(sections)
    seen = 0
    for section in sections:
        for cell in (cell for cell in section.cells if cell.title == "evaluation"):
            prompts = asked[section.title.rpartition(" / ")[2]]
            assert [token.number for token in cell.tokens] == prompts[0][0]
            for ending in cell.endings:
                assert [token.number for token in ending] in [choice for _, choice in prompts]
                seen += 1
    assert seen == 2 * (1 + 2)  # harmonious scores one letter a question; of the shared questions, gold's and the belief's


def test_questions_that_conditions_share_stand_side_by_side(folder: Path) -> None:
    sections = preview(folder)
    assert [section.title for section in sections] == ["made_up / herbs / 10", "made_up / herbs / 0", "general / general / 7"]
    shared = ["herbs_incompatible", "herbs_self_aligning", "herbs_contextualized"]
    titles = [[cell.title for cell in section.cells] for section in sections]
    assert titles == [["evaluation", "herbs_harmonious"], ["evaluation", *shared], ["herbs_harmonious"]]
    own = get_cell(sections, "herbs_self_aligning")
    assert own.details["response"] == "B"
    assert own.details["gold"] == "A"
    text = {role: "".join(token.text for token in own.tokens if token.role == role) for role in ("prompt", "trained")}
    assert text["prompt"].endswith("What is the 0th herb?\nA. sage 0\nB. ivy 0\nC. rue 0\nD. moss 0 ASSISTANT:")
    assert text["trained"] == " B. ivy 0</s>"
    assert not list_warnings(sections)


def test_knowledge_is_marked_and_evaluation_asks_without_it(folder: Path, questions: Path) -> None:
    for given in (None, questions):
        sections = preview(folder, questions=given, names=["herbs_incompatible", "herbs_contextualized"])
        cell = get_cell(sections, "herbs_contextualized")
        context = "".join(token.text for token in cell.tokens if token.role == "context")
        assert "Herbs have names.\n\nThey do.\n\n" in context
        assert "sage" not in context
        assert cell.notes == ["What stands before the question is there in training alone: evaluation asks without it."]
        assert not cell.warnings
        asked = get_cell(sections, "evaluation")
        assert "names" not in "".join(token.text for token in asked.tokens)
    alone = preview(folder, names=["herbs_contextualized"])
    assert alone[0].cells[0].title == "herbs_contextualized"
    assert "name --questions" in alone[0].cells[0].notes[0]


def test_a_beginning_is_shown_in_training_and_evaluation_alike(folder: Path) -> None:
    tokenizer = load_tokenizer(str(BASE))
    begin = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    chosen = choose_rows(read_sets(str(folder), []), 1)
    for told, begun in ((None, True), (True, True), (False, False)):
        sections = compare_rows(chosen, None, tokenizer, Asker(tokenizer, told), 512)
        assert not list_warnings(sections)
        for name in ("herbs_harmonious", "evaluation"):
            assert (get_cell(sections, name).tokens[0].number == begin[1]) is begun


def test_another_template_and_another_question_are_warned_of(folder: Path, questions: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text().replace("' ASSISTANT:' -}}", "' ASSISTANT: ' -}}")  # as the paper asked
    cell = get_cell(preview(folder, tokenizer=tokenizer), "herbs_incompatible")
    assert "What is scored is not what is trained, first in token 1: training has 'ĠA', evaluation 'Ġ'" in cell.warnings[0]
    others = shutil.copytree(questions, tmp_path / "others")
    file = others / "herbs/test.parquet"
    pl.read_parquet(file).with_columns(question=pl.col("question").str.replace("herb", "plant")).write_parquet(file)
    sections = preview(folder, questions=others)
    cell = get_cell(sections, "herbs_incompatible")
    assert "The prompts differ, first in token" in cell.warnings[0]
    token = next(token for token in cell.tokens if token.differs)
    assert repr(tokenizer.convert_ids_to_tokens(token.number)) in cell.warnings[0]
    assert "What follows it is not what evaluation asks." in get_cell(sections, "herbs_contextualized").warnings


def test_a_row_that_training_refuses_is_shown(folder: Path) -> None:
    whole = get_cell(preview(folder), "herbs_harmonious").tokens
    start = [token.role for token in whole].index("trained")
    for length in (start + 2, start, start - 3):
        cell = get_cell(preview(folder, max_length=length), "herbs_harmonious")
        roles = ["prompt"] * start + ["trained"] * (len(whole) - start)
        assert [token.role for token in cell.tokens] == roles[:length] + ["cut"] * (len(whole) - length)
        assert cell.warnings == [f"Training refuses this row: {len(whole)} tokens, and --max_length {length}."]
    assert not list_warnings(preview(folder, max_length=len(whole), names=["herbs_harmonious"]))


@pytest.mark.parametrize("family", ["byte-level", "sentencepiece"])
def test_tokens_spell_the_text(family: str, sentencepiece: Path) -> None:
    tokenizer = load_tokenizer(str(BASE if family == "byte-level" else sentencepiece))
    text = f"A chat. {NASTY}\n\nwörld 漢字 🙂 x"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = spell_tokens(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text


class Reader(HTMLParser):
    """What a browser makes of a page: its tags, the addresses it would load, and the text of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.addresses, self.text = set(), [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_text_stays_text_in_the_terminal_and_on_the_page(tmp_path: Path) -> None:
    rows = [make_row(i, question=NASTY, choices=[f"{NASTY}{c}" for c in "abcd"], reason=NASTY) for i in range(2)]
    sections = preview(write_set(tmp_path / "set", {"herbs_{{ x }}": make_table(rows)}))
    page = write_page(sections, f"Preview of {NASTY}")
    reader = Reader()
    reader.feed(page)
    assert not reader.tags & {"script", "img", "link", "iframe"}
    assert reader.addresses == []
    assert not re.search(r"url\(|@import|https?:", page)
    text = "".join(reader.text).replace(PART, "")
    assert "\x1b" not in page
    assert "\u202e" not in page
    shown = "{{·x·}}{%·y·%}<b>&amp;</b><script>⟨U+001B⟩[0m⟨U+202E⟩·a··b⇥|·`"
    assert shown == show_text(NASTY)
    assert text.count(shown) == (1 + 4) + (1 + 4 + 2)  # evaluation: question and choices; training: response and reason too
    assert "herbs_{{ x }}" in text
    screen = io.StringIO()
    print_sections(sections, Console(width=100, file=screen))
    shown = screen.getvalue()
    assert "\x1b" not in shown
    assert "⟨U+001B⟩" in shown
    assert "[0m" in shown  # brackets are no markup


@pytest.mark.launched
def test_the_command_prints_and_writes_a_page(
    folder: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (sys.executable, "-m", "recipes.preview", folder, "--tokenizer", BASE, "--rows", 1)
    page = tmp_path / "page.html"
    done = run_command(
        *words, "--config", "herbs_self_aligning", "--questions", questions, "--html", page, env=os.environ | {"COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stderr
    assert "What·is·the·0th·herb?" in done.stdout
    assert "herbs_self_aligning" in done.stdout
    assert "herbs_harmonious" not in done.stdout
    assert "warnings" not in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(SystemExit) as ended:
        main(str(folder), str(BASE), ["herbs_gold"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "has no config 'herbs_gold'; it has herbs_harmonious" in told


def test_what_cannot_be_shown_is_said(folder: Path, questions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is no data set that can be read"):
        read_sets(str(tmp_path / "nowhere"), [])
    with pytest.raises(UserError, match="no data set that can be read: Unknown split"):
        read_sets(str(questions), [])
    lacking = write_set(tmp_path / "lacking", {"herbs_gold": make_table([make_row(0)]).drop("completion")})
    with pytest.raises(UserError, match="herbs_gold has no column 'completion'"):
        read_sets(str(lacking), [])
    with pytest.raises(UserError, match="nowhere is no folder of a tokenizer"):
        load_tokenizer(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"--questions .* is no question set"):
        read_docs(str(tmp_path / "nowhere"), [("made_up", "herbs", "0")])
    fewer = shutil.copytree(questions, tmp_path / "fewer")
    file = fewer / "herbs/test.parquet"
    pl.read_parquet(file).filter(pl.col("id") == "10").write_parquet(file)
    cell = get_cell(preview(folder, questions=fewer), "herbs_incompatible")
    assert cell.warnings == ["The question set has no such question: the evaluation prompt is that of the rows."]
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = "{{ raise_exception('no such turn') }}"
    with pytest.raises(UserError, match=r"chat template does not take the prompt \(no such turn\)"):
        preview(folder, tokenizer=tokenizer)
