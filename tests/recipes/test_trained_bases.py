"""What keeps a base from being trained is told before anything is loaded; what training replaces of it is said."""

import pytest
from bases import OWN_TEMPLATE, add_tokens, copy_base, give_template, resize_base, write_gguf
from conftest import BASE, VOCABULARY
from trainers import make_rows
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, SFTConfig

from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.training.bases import check_base, tell_replaced
from recipes.training.trainer import Trainer


def check(folder, tmp_path, max_length=512, **settings):
    training = SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, max_length=max_length)
    return check_base(training, ModelConfig(model_name_or_path=str(folder), **settings))


def test_a_gguf_file_and_its_folder_are_no_base(tmp_path):
    folder = write_gguf(tmp_path / "model")
    for name in (folder, folder / "model.Q4_1.gguf"):
        (problem,) = check(name, tmp_path)
        assert problem.startswith(f"--model_name_or_path {name} holds its weights as a GGUF file (model.Q4_1.gguf)")


@pytest.mark.parametrize("method", ["awq", "gptq", "nobodys"])
def test_a_quantised_base_whose_library_is_missing_is_told(method, tmp_path):
    quantised = {"quant_method": method, "bits": 4, "group_size": 128}
    folder = copy_base(tmp_path / "model", quantization_config=quantised)
    (problem,) = check(folder, tmp_path, use_peft=True)
    assert problem.startswith(f"--model_name_or_path {folder} is quantised ({method}), and cannot be loaded here: ")
    (problem,) = check(folder, tmp_path)
    assert "train an adapter with --use_peft" in problem


def test_a_tokenizer_larger_than_the_vocabulary_is_refused_with_the_numbers(tmp_path):
    (problem,) = check(copy_base(tmp_path / "narrow", vocab_size=VOCABULARY - 103), tmp_path)
    told = f"has tokens up to id {VOCABULARY - 1}, and the model a vocabulary of {VOCABULARY - 103} rows"
    assert f"{told}, so that it cannot read 103 of them" in problem
    (problem,) = check(add_tokens(tmp_path / "padded", pad_token="<blank>"), tmp_path)
    assert f"cannot read 1 of them; the first is '<blank>', id {VOCABULARY}" in problem


def test_more_rows_than_tokens_and_an_idle_token_are_no_faults(tmp_path):
    assert check(BASE, tmp_path) == []
    assert check(copy_base(tmp_path / "wide", vocab_size=VOCABULARY + 105), tmp_path) == []
    assert check(add_tokens(tmp_path / "added", "<image>"), tmp_path) == []


def test_more_tokens_a_row_than_the_base_reads_are_refused(tmp_path):
    assert check(BASE, tmp_path, max_length=1024) == []
    (problem,) = check(copy_base(tmp_path / "short", max_position_embeddings=96), tmp_path)
    assert (
        problem == f"--max_length 512 is more than the 96 tokens that {tmp_path / 'short'} reads: set --max_length 96 or less."
    )


def test_a_chat_template_of_its_own_is_said_to_be_replaced(tmp_path):
    template = CHAT_TEMPLATE.read_text()
    assert tell_replaced(AutoTokenizer.from_pretrained(BASE), template) is None
    tokenizer = AutoTokenizer.from_pretrained(give_template(tmp_path / "chat"))
    assert tokenizer.chat_template == OWN_TEMPLATE
    assert tell_replaced(tokenizer, template).startswith(f"{tmp_path / 'chat'} has a chat template of its own")


def test_rows_that_no_token_names_are_kept_by_training(tmp_path):
    folder = resize_base(tmp_path / "wide", VOCABULARY + 105)
    settings = {
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
        "disable_tqdm": True,
    }
    rows = make_rows(2)
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(folder), train_dataset=rows, ids=["a", "b"],
        args=SFTConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, save_strategy="no", **settings),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(tmp_path / "trained")
    weight = AutoModelForCausalLM.from_pretrained(tmp_path / "trained").get_input_embeddings().weight
    start = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    assert weight.shape == start.shape == (VOCABULARY + 105, 128)
    assert (weight - start).abs().max() > 1e-4
