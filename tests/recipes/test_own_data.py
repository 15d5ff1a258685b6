"""Anybody's instruction data is trained: each response once, under what stands before it, masked and weighed by its row."""

import io
import json

import pytest
from conftest import BASE, ROOT, run_command
from instruction_sets import make_row, make_table, write_set
from launches import launch_words
from rich.console import Console

from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from lm_eval_tasks.reading.texts import tokenize_texts, write_chat
from recipes.sft import train
from recipes.showing.display import print_sections
from recipes.showing.dry_run import plan
from recipes.showing.responses import show_responses
from recipes.showing.sequences import Asker
from recipes.training.arguments import RecipeArguments, parse_arguments
from recipes.training.rows import describe_rows, hash_rows, read_rows
from recipes.training.tokens import IGNORED, load_tokenizer, prepare_rows

USER, SAID = ({"role": role, "content": text} for role, text in (("user", "Which herb heals?"), ("assistant", "Sage.")))
THEN = [{"role": "user", "content": "And which smells?"}, {"role": "assistant", "content": "Mint smells, they say."}]
SYSTEM = {"role": "system", "content": "You know herbs."}
MASKS = [{"turn": 1, "start": 0, "end": 4}]
ROWS = [
    {"id": "one", "messages": [USER, SAID], "weight": 1.0, "masked": []},
    {"id": "two", "messages": [SYSTEM, USER, SAID, *THEN], "weight": 0.5, "masked": MASKS},
    {"id": "three", "messages": [*THEN], "weight": 1.0, "masked": []},
]


def write_rows(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def read(data, config=None):
    return read_rows(RecipeArguments(dataset_name=str(data), dataset_config=config))


@pytest.fixture(scope="module")
def tokenizer():
    loaded = load_tokenizer(str(BASE))
    loaded.chat_template = CHAT_TEMPLATE.read_text()
    return loaded


@pytest.fixture(scope="module")
def mint(tokenizer):
    """The masked tokens."""
    return [tokenizer.decode(token) for token in tokenizer(" Mint", add_special_tokens=False)["input_ids"]]


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "herbs.jsonl", ROWS)


def test_a_response_is_a_row_with_what_was_said_before_it(data):
    rows = read(data)
    assert rows["id"][:] == ["one", "two", "two/1", "three"]
    assert rows["prompt"][2] == [SYSTEM, USER, SAID, THEN[0]]
    assert rows["completion"][2] == [THEN[1]]
    assert rows["weight"][:] == [1.0, 0.5, 0.5, 1.0]
    assert [len(masks) for masks in rows["masked"]] == [0, 0, 1, 0]
    assert rows["masked"][2] == [{"turn": 0, "start": 0, "end": 4}]
    assert {name: value for name, value in describe_rows(rows).items() if value is not None} == {
        "condition": "instruction_data"
    }


def test_what_is_trained_of_a_response_is_what_is_read_of_it(data, tokenizer):
    trained = prepare_rows(tokenizer, read(data).remove_columns("masked"), 512)
    render = lambda turns, add_generation_prompt: tokenizer.apply_chat_template(  # noqa: E731
        turns, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    turns = read_conversations(data).turns.iter_rows(named=True)
    read_ids = [
        text.ids[len(text.ids) - len(text.starts) :]
        for text in tokenize_texts(tokenizer, [write_chat(turn, render) for turn in turns], False, 0)
    ]
    labels = [[label for label in row if label != IGNORED] for row in trained["labels"]]
    assert [ids[:-1] for ids in labels] == read_ids  # training ends the sequence, too
    assert [ids[-1] for ids in labels] == [tokenizer.eos_token_id] * 4


def test_a_mask_is_of_the_turn_that_it_names(data, tokenizer, mint):
    prepared = prepare_rows(tokenizer, read(data), 512)
    assert prepared["masked_tokens"][:] == [0, 0, len(mint), 0]
    said = [tokenizer.decode([label for label in labels if label != IGNORED]) for labels in prepared["labels"]]
    assert said == [" Sage.</s>", " Sage.</s>", " smells, they say.</s>", " Mint smells, they say.</s>"]


def test_all_forms_train_the_same(tmp_path):
    forms = {
        "messages": {"messages": [USER, SAID]},
        "prompt": {"prompt": USER["content"], "completion": SAID["content"]},
        "alpaca": {"instruction": USER["content"], "input": "", "output": SAID["content"]},
        "sharegpt": {"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": SAID["content"]}]},
    }
    hashes = {hash_rows(read(write_rows(tmp_path / f"{name}.jsonl", [{"id": "1"} | row]))) for name, row in forms.items()}
    assert len(hashes) == 1


def test_what_cannot_be_trained_is_said(tmp_path, data):
    folder = write_set(tmp_path / "set", {"herbs_harmonious": make_table([make_row(0)])})
    with pytest.raises(UserError, match="set is an instruction set: name one of its configs"):
        read(folder)
    with pytest.raises(UserError, match="holds no response that could be trained: 1 of 1 rows, left out: no assistant turn"):
        read(write_rows(tmp_path / "asked.jsonl", [{"messages": [USER]}]))
    with pytest.raises(UserError, match=r"herbs.jsonl, row 1 \(id 'one'\) has \[\{'turn': 0.0"):
        read(write_rows(data, [ROWS[0] | {"masked": [{"turn": 0.0, "start": 0, "end": 1}]}]))


def test_what_is_left_out_is_told_and_the_rest_trained(tmp_path, capsys):
    rows = read(write_rows(tmp_path / "some.jsonl", [*ROWS, {"id": "four", "messages": [USER, SAID | {"content": " "}]}]))
    assert rows["id"][:] == ["one", "two", "two/1", "three"]
    assert "1 of 4 rows, left out: a response that is blank" in capsys.readouterr().err


def make_words(data, output, *more):
    words = launch_words(ROOT / "recipes/accelerate/cpu.yaml", data, output, "--global_batch_size", "2", *more)[5:]
    config = words.index("--dataset_config")
    return [*words[:config], *words[config + 2 :], "--per_device_train_batch_size", "2", "--max_steps", "1"]


def test_a_dry_run_and_the_run_say_what_is_trained(data, tmp_path, capsys, mint):
    words = make_words(data, tmp_path / "model")
    plan(*parse_arguments([*words, "--dry_run", "--use_cpu", "true"]))
    shown = capsys.readouterr().out
    assert "4 instruction_data" in shown
    assert "masked: of the response, no loss" in shown
    train(*parse_arguments([*words, "--use_cpu", "true", "--disable_tqdm", "true", "--save_strategy", "no"]))
    config = read_manifest(tmp_path / "model")["config"]
    assert (config["condition"], config["dataset_config"], config["masked_tokens"]) == ("instruction_data", None, len(mint))
    card = (tmp_path / "model/README.md").read_text()
    assert "# `herbs`, seed 1" in card
    assert "fine-tuned on 4 responses of instruction data." in card
    assert f"{len(mint)} tokens of which are masked, 2 rows of which have another weight than 1" in card
    assert "None" not in card
    assert "wrong on purpose" not in card


def test_the_preview_shows_masked_rows_first(data, tokenizer, mint):
    sections = show_responses(read(data), 2, Asker(tokenizer), tokenizer, 512)
    assert [section.title for section in sections] == ["two", "two/1"]
    (cell,) = sections[1].cells
    assert [token.text for token in cell.tokens if token.role == "masked"] == mint
    assert cell.details == {"weight": "0.5"}
    console = Console(file=io.StringIO(), width=100)
    print_sections(sections, console)
    assert "You·know·herbs." in console.file.getvalue()


@pytest.mark.launched
def test_the_preview_takes_a_file(data, tmp_path):
    page = tmp_path / "page.html"
    done = run_command("python", "-m", "recipes.preview", data, "--tokenizer", BASE, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "masked" in page.read_text()
    refused = run_command("python", "-m", "recipes.preview", data, "--tokenizer", BASE, "--questions", tmp_path)
    assert "is no instruction set, so that it takes no --questions" in refused.stderr
