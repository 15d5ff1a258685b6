"""The task pack as lm-eval sees it, on the shipped base model."""

import json
import shutil

import huggingface_hub
import polars as pl
import pytest
import torch
from conftest import BASE, ROOT, run_command
from pack import ask_twice, list_words, refuse_run, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.prompts import (
    write_cloze_question,
    write_letter_answer,
    write_letter_question,
    write_response,
    write_user_turn,
)

DOC = {"question": "Which is it?", "choices": ["one", "two", "three"], "answer": 1, "domain": "d"}


@pytest.fixture(scope="module")
def logs(questions, share_folder):
    return share_folder("lm_eval_tasks_probe_and_chat", lambda folder: ask_twice(folder, questions))


def test_the_prompts_are_what_the_readme_says():
    assert write_letter_question(DOC) == "Which is it?\nA. one\nB. two\nC. three\nAnswer:"
    assert write_letter_answer(DOC) == "B. two"
    assert write_cloze_question(DOC) == "Which is it?\nAnswer:"
    assert write_user_turn(DOC, "letter", "Known.") == "Known.\n\nWhich is it?\nA. one\nB. two\nC. three"
    assert write_user_turn(DOC, "cloze") == "Which is it?"
    assert write_response(1, "two", "Because.", "letter") == "B. two\n\nBecause."
    assert write_response(0, "one", " ", "text") == "one"


def test_demonstrations_come_from_the_dev_questions_of_the_same_source_and_domain(logs, questions):
    table = read_probes(logs / "probe")
    samples = [json.loads(line) for file in (logs / "probe").rglob("samples_*.jsonl") for line in file.open()]
    dev = pl.concat([pl.read_parquet(questions / domain / "dev.parquet") for domain in ("herbs", "annals")])
    for sample in samples[:: len(samples) // 7]:
        prompt = sample["arguments"]["gen_args_0"]["arg_0"]
        doc = sample["doc"]
        own = dev.filter(source=doc["source"], domain=doc["domain"]).head(5)
        blocks = [f"{row['question']}\nAnswer: {row['choices'][row['answer']]}" for row in own.iter_rows(named=True)]
        head = f"The following are questions about {doc['domain']}.\n\n"
        assert prompt == head + "\n\n".join([*blocks, f"{doc['question']}\nAnswer:"])
    assert set(table["phase"]) == {"base_probe"}
    assert set(table["run"]) == {""}


@pytest.mark.parametrize("phase", ["probe", "chat"])
def test_logged_probabilities_are_those_of_a_plain_loop(logs, phase):
    table = read_probes(logs / phase)
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    prompts = {}
    for file in (logs / phase).rglob("samples_*.jsonl"):
        for sample in map(json.loads, file.open()):
            prompts[sample["doc"]["source"], sample["doc"]["domain"], sample["doc"]["id"]] = sample["arguments"]["gen_args_0"][
                "arg_0"
            ]
    for row in table.sample(12, seed=0).iter_rows(named=True):
        prompt = prompts[row["source"], row["domain"], row["id"]]
        if phase == "chat":
            turn = [{"role": "user", "content": row["question"]}]
            assert prompt == tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        for choice, logged in zip(row["choices"], row["loglikelihoods"], strict=True):
            start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            ids = tokenizer(f"{prompt} {choice}", add_special_tokens=False)["input_ids"]
            assert ids[: len(start)] == start
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            own = sum(logprobs[i - 1, ids[i]].item() for i in range(len(start), len(ids)))
            assert own == pytest.approx(logged, abs=1e-4)
    assert table["order"].to_list() == [2 if phase == "chat" else 0] * table.height


@pytest.mark.parametrize(("scoring", "form", "choice"), [("cloze", "text", " two"), ("letter", "letter", " B")])
@pytest.mark.parametrize("family", ["byte-level", "sentencepiece"])
def test_the_prompt_of_evaluation_begins_what_training_sees_and_scores_its_first_token(
    family, scoring, form, choice, sentencepiece
):
    tokenizer = AutoTokenizer.from_pretrained(BASE if family == "byte-level" else sentencepiece)
    tokenizer.chat_template = (ROOT / "lm_eval_tasks/templates/vicuna.jinja").read_text()
    turn = [{"role": "user", "content": write_user_turn(DOC, scoring)}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    answer = [{"role": "assistant", "content": write_response(1, DOC["choices"][1], None, form)}]
    trained = tokenizer.apply_chat_template(turn + answer, return_dict=False)
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    whole = tokenizer(text + choice, add_special_tokens=False)["input_ids"]  # as lm-eval finds what it scores
    assert whole[: len(prompt)] == prompt
    assert trained[: len(whole)] == whole
    assert len(whole) > len(prompt)
    assert trained[-1] == tokenizer.eos_token_id
    assert tokenizer.bos_token_id not in trained


@pytest.mark.launched
def test_the_plain_lm_eval_command_asks_the_same(logs, questions, tmp_path):
    metadata = {"questions": str(questions), "domain": "annals", "order": 2}
    options = ["--apply_chat_template", "--include_path", "lm_eval_tasks", "--limit", "40"]
    done = run_command("lm_eval", *list_words("selfalign_miniworld_chat", BASE, metadata, tmp_path, *options))
    assert done.returncode == 0, done.stderr
    assert read_probes(tmp_path).equals(read_probes(logs / "chat"))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"questions": None}, "no question set. Name one with --metadata"),
        ({"trained_on": "nowhere/herbs_harmonious"}, "not a data set folder"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(questions, tmp_path, metadata, message):
    words = list_words("selfalign_miniworld_probe", BASE, {"questions": str(questions)} | metadata, tmp_path / "out")
    assert message in refuse_run(*words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [("runs/none/model", "the model folder runs/none/model"), ("no-such-model", "'no-such-model' is no model")],
)
def test_a_model_that_is_not_there_is_said_in_one_line(questions, tmp_path, monkeypatch, model, message):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    words = list_words("selfalign_miniworld_probe", model, {"questions": str(questions)}, tmp_path / "out")
    assert refuse_run(*words).startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_tuned_model_is_asked_in_the_format_it_was_trained_in_and_only_when_training_has_ended(questions, tmp_path):
    tuned = shutil.copytree(BASE, tmp_path / "tuned")
    (tuned / "checkpoints").mkdir()
    words = list_words("selfalign_miniworld_chat", tuned, {"questions": str(questions)}, tmp_path / "out")
    words += ["--apply_chat_template", "--limit", "3"]
    assert "training run that has not ended" in refuse_run(*words)
    manifest = {"run": "abc", "stage": "train", "config": {"response_format": "letter"}}
    (tuned / "manifest.json").write_text(json.dumps(manifest))
    assert "was trained to answer in the format 'letter', but this task scores by cloze" in refuse_run(*words)
    manifest["config"]["response_format"] = "text"
    (tuned / "manifest.json").write_text(json.dumps(manifest))
    run(*words)
    table = read_probes(tmp_path / "out")
    assert set(table["phase"]) == {"tuned_chat"}
    assert set(table["run"]) == {"abc"}
