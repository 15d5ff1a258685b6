"""An adapter that lm-eval would not ask as it was trained is told before the model is loaded; any other is asked as it is."""

import json
import shutil

import pytest
import torch
from adapters import IDS, SETTINGS, save_adapter
from checked import CLOZE, refuse
from conftest import BASE
from lm_eval.models.huggingface import HFLM
from pack import build, make_questions, write_questions
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lm_eval_tasks.checking.adapter import check_adapter
from lm_eval_tasks.contracts.errors import UserError

KEPT = ("attention", "all linear", "embeddings")


@pytest.mark.filterwarnings("ignore:.*(tie|embedding)")
@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_refused_is_what_lm_eval_asks_otherwise_or_not_at_all(name, tmp_path):
    trained = save_adapter(tmp_path, SETTINGS[name])
    arguments = {"pretrained": str(BASE), "peft": str(tmp_path)}
    if name in KEPT:
        check_adapter(arguments)
    else:
        with pytest.raises(UserError, match=r"which share their weights, .* Merge the adapter \(`python -m recipes.merge /"):
            check_adapter(arguments)
    with torch.no_grad():
        assert torch.allclose(
            PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), tmp_path)(IDS).logits, trained
        )
        try:
            asked = HFLM(**arguments, device="cpu").model(IDS).logits
        except (KeyError, AttributeError):
            assert name not in KEPT
        else:
            assert torch.allclose(asked, trained, atol=1e-5) == (name in KEPT)


@pytest.mark.filterwarnings("ignore:.*(tie|embedding)")
def test_a_base_that_shares_no_weights_is_asked_with_any_adapter(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(tmp_path / "base")
    shutil.copy(BASE / "tokenizer.json", tmp_path / "base")
    shutil.copy(BASE / "tokenizer_config.json", tmp_path / "base")
    for name in ("head", "saved embeddings"):
        trained = save_adapter(tmp_path / name, SETTINGS[name], tmp_path / "base")
        arguments = {"pretrained": str(tmp_path / "base"), "peft": str(tmp_path / name)}
        check_adapter(arguments)
        with torch.no_grad():
            assert torch.allclose(HFLM(**arguments, device="cpu").model(IDS).logits, trained, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*(tie|embedding)")
def test_a_run_is_refused_before_the_model_is_loaded_whatever_it_asks(tmp_path):
    save_adapter(tmp_path / "adapter", SETTINGS["saved embeddings"])
    shutil.copytree(BASE, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    write_questions(tmp_path / "good", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": make_questions(9, 4, "test")}})
    message = refuse(tmp_path, CLOZE, model_args=f",peft={tmp_path / 'adapter'}")
    assert message.startswith(f"the adapter {tmp_path / 'adapter'} changes the output layer or the embeddings of ")
    with pytest.raises(UserError, match="changes the output layer or the embeddings"):  # of the plain `lm_eval` command
        build(
            CLOZE, questions=str(tmp_path / "good"), pretrained=str(BASE), peft=str(tmp_path / "adapter")
        ).build_all_requests()
    (tmp_path / "none").mkdir()
    message = refuse(tmp_path, CLOZE, model_args=f",peft={tmp_path / 'none'}")
    assert message.startswith(
        f"the adapter {tmp_path / 'none'} cannot be read, or does not fit {tmp_path / 'model'}: Can't find"
    )
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text()) | {
        "target_modules": ["c_attn"],
        "modules_to_save": None,
    }
    (tmp_path / "none/adapter_config.json").write_text(json.dumps(config))
    assert "c_attn" in refuse(tmp_path, CLOZE, model_args=f",peft={tmp_path / 'none'}")
