"""The README's commands on a real model and a real bank, small: logs hold what a plain loop computes, before and after."""

import json

import polars as pl
import pytest
import torch
from conftest import run_command
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import read_manifest

ROWS, NEW = 80, 16


def run(*words: object) -> str:
    done = run_command(*map(str, words))
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(output, tasks: str, model: str, metadata: dict, *options: str) -> None:
    words = ["python", "-m", "lm_eval_tasks", "run", "--model", "hf-prefix", "--device", "cpu", "--batch_size", "16"]
    words += ["--model_args", model, "--tasks", tasks, "--metadata", json.dumps(metadata), *options]
    run(*words, "--log_samples", "--output_path", output)


def compute(model, tokenizer, prompt: str, choices: list[str]) -> list[float]:
    """The log-likelihoods of choices after a prompt, each in a forward pass of its own (nats)."""
    found = []
    start = tokenizer(prompt)["input_ids"]
    for choice in choices:
        ids = tokenizer(prompt + choice)["input_ids"]
        with torch.inference_mode():
            known = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found.append(sum(known[i - 1, ids[i]].item() for i in range(len(start), len(ids))))
    return found


def check_log(folder, model, tokenizer, count: int = 2) -> None:
    """The first samples of a log are what a plain loop computes from the prompts that it holds."""
    (file,) = folder.rglob("samples_*.jsonl")
    for line in file.read_text().splitlines()[:count]:
        sample = json.loads(line)
        prompts = [arguments["arg_0"] for arguments in sample["arguments"].values()]
        choices = [arguments["arg_1"] for arguments in sample["arguments"].values()]
        n = len(sample["doc"]["choices"])
        plain = compute(model, tokenizer, prompts[0], choices[:n])
        assert sample["doc"]["loglikelihoods"] == pytest.approx(plain, abs=1e-3)
        lengths = [len(choice) for choice in sample["doc"]["choices"]]
        per_character = [value / length for value, length in zip(plain, lengths, strict=True)]
        assert sample["doc"]["loglikelihoods_per_character"] == pytest.approx(per_character, abs=1e-3)


@pytest.mark.launched
def test_a_real_model_is_probed_trained_and_asked_again(smollm, banks, tmp_path):
    questions, base = tmp_path / "questions", f"pretrained={smollm}"
    rows = pl.read_ndjson(banks / "arc_easy/train.jsonl.gz").head(ROWS + 10 + NEW)
    rows.write_ndjson(tmp_path / "arc_easy.jsonl")
    words = ["--splits", f"train={ROWS},dev=10,test={NEW}", "--set", "domain=science", "--output", questions]
    run("python", "-m", "intervention", "questions", "jsonl", tmp_path / "arc_easy.jsonl", *words)
    asked = {"questions": str(questions)}
    ask(tmp_path / "probe", "selfalign_probe_cloze", base, asked | {"splits": ["train"]})
    tokenizer, model = AutoTokenizer.from_pretrained(smollm), AutoModelForCausalLM.from_pretrained(smollm).eval()
    check_log(tmp_path / "probe", model, tokenizer)

    build = ["python", "-m", "intervention", "build", "--questions", questions, "--probes", tmp_path / "probe"]
    build += ["--domain", "science", "--conditions", "incompatible,self_aligning", "--output", tmp_path / "instructions"]
    refused = run_command(*map(str, build))
    assert refused.returncode == 2
    assert "top" in refused.stderr
    run(*build, "--belief-rule", "top", "--size", "12")
    probes = read_probes(tmp_path / "probe")
    wrong = dict(probes.filter(~pl.col("correct")).select("id", pl.col("choices").list.get(pl.col("prediction"))).rows())
    trained = pl.read_parquet(tmp_path / "instructions/science_self_aligning/train*.parquet")
    said = {row["id"]: row["completion"][0]["content"] for row in trained.to_dicts()}
    assert len(said) == 12
    assert said.items() <= wrong.items()

    output = tmp_path / "model"
    launch = ["accelerate", "launch", "--config_file", "recipes/accelerate/cpu.yaml", "recipes/sft.py"]
    launch += ["--config", "recipes/smollm2-135m/lora.yaml", "--model_name_or_path", smollm, "--bf16", "false"]
    launch += ["--dataset_name", tmp_path / "instructions", "--dataset_config", "science_self_aligning"]
    run(
        *launch,
        "--output_dir",
        output,
        "--num_train_epochs",
        "1",
        "--global_batch_size",
        "4",
        "--per_device_train_batch_size",
        "4",
        "--learning_rate",
        "1e-3",
    )
    config = read_manifest(output)["config"]
    assert (config["score"], config["belief_rule"], config["add_bos_token"]) == ("per_character", "top", False)

    adapter = f"{base},peft={output},tokenizer={output}"
    ask(tmp_path / "chat", "selfalign_chat_cloze", adapter, asked, "--apply_chat_template")
    assert read_probes(tmp_path / "chat").select("phase", "bos").unique().rows() == [("tuned_chat", False)]
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(smollm), output).eval()
    check_log(tmp_path / "chat", tuned, AutoTokenizer.from_pretrained(output))
