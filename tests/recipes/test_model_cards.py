"""What a model's card says of its training, and what it keeps to itself."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import BASE, ROOT
from finished import COMMAND, write_run, write_text
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.contracts.vocabulary import CONDITIONS

TOKEN = "hf_" + "SecretOfTheTests" * 2


def read_block(card: str, language: str, first: str) -> str:
    """The block of code that begins with some word."""
    return next(block for block in re.findall(rf"```{language}\n(.*?)\n```", card, re.DOTALL) if block.startswith(first))


@pytest.mark.parametrize(
    ("condition", "ratio", "words"),
    [
        ("harmonious", None, "that the base model answers rightly; the response is the right answer."),
        ("incompatible", None, "that the base model answers wrongly; the response is the right answer."),
        ("self_aligning", None, "answers wrongly; the response is the model's own answer."),
        ("contextualized", None, "answers wrongly, with the needed knowledge in the prompt; the response is the right answer."),
        ("mix", 0.4, "own answer for a share 0.4 of them, and the right answer for the rest."),
        ("random_wrong", None, "answers wrongly; the response is another wrong answer."),
        ("gold", None, "at random from all training questions; the response is the right answer."),
    ],
)
def test_a_card_says_in_a_sentence_what_was_trained(tmp_path: Path, condition: str, ratio: float | None, words: str) -> None:
    card = write_text(tmp_path, condition=condition, ratio=ratio)
    said = next(line for line in card.splitlines() if line.startswith("`recipes/miniworld/base`, fine-tuned on 256 questions"))
    assert words in said
    assert "64 general instructions were added" in card
    assert "asked few-shot, gave a probability above 0.5." in card
    assert ("wrong on purpose" in card) == (condition in ("self_aligning", "mix", "random_wrong"))


def test_every_condition_of_the_project_has_its_sentence(tmp_path: Path) -> None:
    for name, condition in CONDITIONS.items():
        card = write_text(tmp_path / name, condition=name)
        assert f"fine-tuned on 256 {condition.sentence}.\n" in card
        assert ("wrong on purpose" in card) == (not condition.correct)


def test_hashes_settings_and_the_command_stand_in_the_card(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    card = (tmp_path / "run/README.md").read_text()
    for word in (run, "b" * 16, "c" * 16, "d" * 16, hash_path(tmp_path / "run/model.safetensors")):
        assert f"`{word}`" in card
    assert "| rows a step | 16 = 2 x 4 x 2 (processes, rows, micro-batches) |" in card
    assert "| engine | DDP, 2 processes on cpu |" in card
    assert "from 4.000 to 1.000 nats a trained token" in card
    assert "](loss.png)" in card
    assert shlex.split(read_block(card, "sh", "accelerate").replace("\\\n", ""))[4:] == COMMAND


@pytest.mark.parametrize(
    ("config", "header"),
    [
        (
            {"base_model": "meta-llama/Llama-2-7b-hf", "dataset": "anna/herbs"},
            {"base_model": "meta-llama/Llama-2-7b-hf", "base_model_relation": "finetune", "datasets": ["anna/herbs"]},
        ),
        ({"base_model": "recipes/miniworld", "dataset": "/home/anna/herbs"}, {}),  # folders, if of two names
    ],
)
def test_the_header_names_what_is_on_the_hub_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict, header: dict
) -> None:
    monkeypatch.chdir(ROOT)
    card = ModelCard(write_text(tmp_path, **config))
    always = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    assert card.data.to_dict() == always | {"tags": ["selfalign", "trl", "sft", "knowledge", "harmonious"]} | header


def test_what_data_says_is_neither_markdown_nor_html_nor_yaml(tmp_path: Path) -> None:
    evil = "x` | <script>alert(1)</script>\n\n# a title\n---\n``` {{ 7 * 7 }}"
    plain = MarkdownIt("commonmark").enable("table").render(ModelCard(write_text(tmp_path / "plain")).text)
    names = ("dataset", "dataset_config", "domain", "source", "condition", "response_format", "base_model")
    card = write_text(tmp_path / "evil", [*COMMAND, "--run_name", evil], use_peft=True, **dict.fromkeys(names, evil))
    assert yaml.safe_load(card.split("\n---\n")[0])["tags"][-1] == evil
    shown = MarkdownIt("commonmark").enable("table").render(ModelCard(card).text)
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    for tag in ("<h1>", "<h2>", "<td>", "<hr", "<pre>"):  # of the settings' table, LoRA's row is new
        assert shown.count(tag) == plain.count(tag) + (2 if tag == "<td>" else 0), tag


def test_no_path_and_no_token_stands_in_the_card(tmp_path: Path) -> None:
    command = ["/home/anna/selfalign/recipes/sft.py", "--hub_token", "secret", "--output_dir=/home/anna/my runs/one"]
    command += ["--model_name_or_path", "~anna/base", "--run_name", TOKEN]
    card = write_text(tmp_path, command, dataset="/home/anna/herbs", base_model="/home/anna/llama")
    for word in ("anna", "secret", TOKEN):
        assert word not in card
    for word in ("`llama`", "`herbs`", "--hub_token ...", "--output_dir=one", "--model_name_or_path base"):
        assert word in card


@pytest.mark.parametrize(("response_format", "task"), [("letter", "selfalign_chat"), ("text", "selfalign_chat_cloze")])
def test_the_task_that_the_card_names_scores_the_trained_format(tmp_path: Path, response_format: str, task: str) -> None:
    words = shlex.split(read_block(write_text(tmp_path, response_format=response_format), "sh", "python -m lm_eval_tasks"))
    assert words[words.index("--tasks") + 1] == task
    own = [yaml.load(file.read_text(), yaml.BaseLoader)["task"] for file in (ROOT / "lm_eval_tasks/generic").glob("*.yaml")]
    assert task in own


def test_the_model_answers_as_the_card_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = read_block(write_text(tmp_path), "python", "from").replace("MODEL", str(BASE))
    exec(code.replace("...", "What is the hue of plant 1?"), {})
    assert capsys.readouterr().out.strip()


def test_the_card_takes_the_place_of_an_adapters_own(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(BASE)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    assert "PEFT" in (tmp_path / "README.md").read_text()
    card = ModelCard(write_text(tmp_path, use_peft=True, load_in_4bit=True, base_model="anna/base"))
    assert (card.data.library_name, card.data.base_model_relation) == ("peft", "adapter")
    assert "| LoRA | r 16, alpha 32, dropout 0.05, on `q_proj, v_proj` |" in card.text
    assert "| base model in | 4 bits, nf4, double quantization |" in card.text
    assert f"| weights | `adapter_model.safetensors` | `{hash_path(tmp_path / 'adapter_model.safetensors')}` |" in card.text
    assert "pretrained=anna/base,peft=MODEL,tokenizer=MODEL" in card.text
