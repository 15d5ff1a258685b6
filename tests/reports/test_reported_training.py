"""Public reports on training and merging (see tests/README.md): ends, schedules, resumed adapters, 16 bits, tied embeddings."""

import json
import os
import shutil

import pytest
import torch
from conftest import BASE
from datasets import Dataset
from miniatures import Recorder, load_base, load_tokenizer, make_rows, make_trainer, make_untied
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState, get_cosine_schedule_with_warmup
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.files import hash_path
from recipes.merge import load_merged
from recipes.training.checkpoints import Keeper, find_checkpoint, list_checkpoints, list_files
from recipes.training.engines import check_engine

IDS = torch.arange(100, 140).reshape(2, 20)


# --- tokenizers and ends


def test_the_end_is_trained_where_padding_is_the_same_token(tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.pad_token = tokenizer.eos_token
    monkeypatch.setattr("trainers.AutoTokenizer.from_pretrained", lambda *_: tokenizer)
    end, rows = tokenizer.eos_token_id, make_rows(6).to_list()
    for row in rows:
        row["input_ids"][-1] = row["labels"][-1] = end
    expected = {row["input_ids"][0]: row for row in rows}
    seen = set()
    for batch in make_trainer(tmp_path, Dataset.from_list(rows), 3, 2, make_untied()).get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            row = expected[int(ids[0])]
            assert ids[mask.bool()].tolist() == row["input_ids"]
            assert labels[mask.bool()].tolist() == row["labels"]
            assert (labels == end).sum() == 1
            seen.add(int(ids[0]))
    assert seen == set(expected)


def test_training_leaves_the_tokenizer_as_it_was(tmp_path):
    """A tokenizer that has padded or cut once may keep that, and cut what evaluation asks."""
    trainer = make_trainer(tmp_path, make_rows(4), 2, 2, make_untied())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    saved = json.loads((tmp_path / "saved/tokenizer.json").read_text())
    assert saved == json.loads((BASE / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)
    text = "Which is it? " * 500
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(text)["input_ids"] == load_tokenizer()(text)["input_ids"]


# --- schedules and checkpoints

COSINE = {"optim": "adamw_torch", "learning_rate": 1e-2, "lr_scheduler_type": "cosine", "warmup_steps": 2}


def list_rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]


def compute_rates(steps):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], COSINE["learning_rate"])
    schedule, rates = get_cosine_schedule_with_warmup(optimizer, COSINE["warmup_steps"], steps), []
    for _ in range(steps):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return rates


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three epochs of 13 rows, 8 a step, so that each has a second step of 5 rows; checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    settings = COSINE | {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3}
    trainer = make_trainer(folder, make_rows(13), 2, 4, make_untied(), **settings)
    trainer.train()
    return trainer, folder, settings


def test_the_rate_falls_to_its_end_over_the_steps_that_are_taken(whole):
    trainer, _, _ = whole
    assert (trainer.state.global_step, trainer.state.max_steps, trainer.state.epoch) == (6, 6, 3)
    assert list_rates(trainer) == pytest.approx(compute_rates(6))


def test_a_resumed_run_has_the_rates_that_were_left(whole, tmp_path):
    trainer, folder, settings = whole
    again = make_trainer(tmp_path, make_rows(13), 2, 4, make_untied(), **settings | {"save_strategy": "no"})
    again.train(resume_from_checkpoint=str(folder / "checkpoint-3"))
    assert list_rates(again) == pytest.approx(compute_rates(6))
    assert again.lr_scheduler.get_last_lr() == trainer.lr_scheduler.get_last_lr()
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), trainer.model.parameters(), strict=True))


def test_the_oldest_checkpoint_is_deleted_by_its_step_and_not_by_its_name_or_time(whole, tmp_path):
    engine = {"engine": "none", "processes": 1}
    for age, step in enumerate((9, 100, 99)):
        path = shutil.copytree(whole[1] / "checkpoint-3", tmp_path / f"checkpoint-{step}")
        state = path / "trainer_state.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"global_step": step}))
        list_files(path, engine)
        os.utime(path, (10**9 - age, 10**9 - age))
    Keeper(engine, limit=2).on_save(
        SFTConfig(str(tmp_path), use_cpu=True, bf16=False), TrainerState(global_step=100, is_world_process_zero=True)
    )
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-99"]
    assert find_checkpoint(tmp_path) == (tmp_path / "checkpoint-100", [])


# --- adapters


def make_adapted(folder, **settings):
    """A trainer of an adapter as `recipes/sft.py` makes it, with dropout."""
    own = COSINE | {"num_train_epochs": 2, "save_strategy": "no", "activation_checkpointing": False}
    arguments = SFTConfig(
        str(folder), per_device_train_batch_size=4, gradient_accumulation_steps=2, use_cpu=True, bf16=False, max_length=None,
        report_to="none", dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1, seed=3, **own | settings,
    )  # fmt: skip
    adapter = LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear", task_type="CAUSAL_LM")
    ids = [str(i) for i in range(13)]
    words = {"train_dataset": make_rows(13), "processing_class": load_tokenizer(), "peft_config": adapter, "ids": ids}
    trainer = Recorder(model=make_untied(), args=arguments, **words)
    trainer.seen = []
    return trainer


def list_trained(trainer):
    return {name: weight.detach() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def test_an_adapter_learns_the_same_where_activations_are_computed_again(tmp_path):
    """The frozen embeddings give no gradient, which must not end there."""
    found = []
    for again in (False, True):
        trainer = make_adapted(tmp_path, activation_checkpointing=again, max_steps=2)
        trainer.train()
        found.append(list_trained(trainer))
    assert len(found[0]) == 14  # two matrices for each of seven linear maps
    assert min(weight.abs().max() for name, weight in found[1].items() if "lora_B" in name) > 1e-4
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=0, atol=1e-6)


def test_a_resumed_adapter_is_the_one_that_was_saved(tmp_path):
    whole = make_adapted(tmp_path / "whole", save_strategy="steps", save_steps=1)
    whole.train()
    for step in (1, 3):  # within an epoch, and the epoch's last
        again = make_adapted(tmp_path / "again")
        again.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{step}"))
        assert again.seen == whole.seen[2 * step :]
        assert list_rates(again) == pytest.approx(list_rates(whole))
        assert all(torch.equal(weight, list_trained(whole)[name]) for name, weight in list_trained(again).items())


# --- weights of 16 bits


def test_weights_of_16_bits_would_not_change_and_are_refused(tmp_path, monkeypatch):
    still = {}
    for kind in (torch.float32, torch.bfloat16):
        model = load_base().to(kind)
        before = [weight.detach().clone() for weight in model.parameters()]
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        same = sum(
            int((weight[weight.grad != 0] == old[weight.grad != 0]).sum()) for weight, old in zip(model.parameters(), before)
        )
        still[kind] = same / sum(int((weight.grad != 0).sum()) for weight in model.parameters())
    assert still[torch.float32] < 0.001
    assert still[torch.bfloat16] > 0.8

    def check(base=BASE, **settings):
        return check_engine(SFTConfig(str(tmp_path), use_cpu=True, bf16=False), ModelConfig(str(base), **settings))

    load_base().bfloat16().save_pretrained(tmp_path / "half")
    for settings in ({"dtype": "bfloat16"}, {"dtype": "float16"}, {"dtype": "auto", "base": tmp_path / "half"}):
        (problem,) = check(**settings)
        assert f"--dtype {settings['dtype']}: most steps of fine-tuning are too small to change weights of" in problem
        assert check(**settings, use_peft=True) == []
    for settings in ({}, {"dtype": "float32"}, {"dtype": "auto"}):
        assert check(**settings) == []
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert not [problem for problem in check(dtype="bfloat16") if "--dtype" in problem]


# --- merging into tied embeddings


@pytest.mark.filterwarnings("ignore:.*tie")
@pytest.mark.parametrize(
    ("settings", "tied"),
    [
        ({"target_modules": ["q_proj"]}, True),
        ({"target_modules": ["q_proj", "lm_head"]}, False),
        ({"target_modules": ["embed_tokens"]}, False),
        ({"target_modules": ["embed_tokens", "lm_head"]}, False),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    ],
)
def test_a_merged_model_read_again_is_the_adapter_where_embeddings_are_tied(settings, tied, tmp_path):
    torch.manual_seed(0)
    model = get_peft_model(load_base(), LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight += 0.05 * torch.randn_like(weight)
    model.save_pretrained(tmp_path / "adapter")
    merged = load_merged(tmp_path / "adapter", {"inputs": {"model": hash_path(BASE)}})
    merged.save_pretrained(tmp_path / "merged")
    with safe_open(tmp_path / "merged/model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) != tied  # noqa: SIM118
    with torch.no_grad():
        expected = PeftModel.from_pretrained(load_base(), tmp_path / "adapter").eval()(IDS).logits
        read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert read.config.tie_word_embeddings == tied
        torch.testing.assert_close(read(IDS).logits, expected, rtol=0, atol=1e-3)
        assert (load_base()(IDS).logits - expected).abs().max() > 0.01
