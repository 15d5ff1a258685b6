"""A merged model answers as its base with the adapter does, whatever of the layers that share weights the adapter changes."""

import pytest
import torch
from adapters import IDS, SETTINGS, save_adapter
from conftest import BASE
from transformers import AutoModelForCausalLM

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path
from recipes.merge import load_merged

MORE = {
    "tokens of the embeddings": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [12, 13]}},
    "tokens of the head": {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [12, 13]}},
    "tokens of both": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [12], "lm_head": [12]}},
    "saved and tied": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "with magnitudes": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
}
LOST = {
    "embeddings, tied": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "head and some tokens": {"target_modules": ["q_proj", "lm_head"], "trainable_token_indices": [12, 13]},
}
TIED = ("attention", "all linear", "some tokens", "tokens of the embeddings", "tokens of both", "saved and tied")
MANIFEST = {"inputs": {"model": hash_path(BASE)}}
pytestmark = pytest.mark.filterwarnings("ignore:.*(tie|embedding)")


@pytest.mark.parametrize("name", [*SETTINGS, *MORE])
def test_the_merged_model_answers_as_base_and_adapter_do(name, tmp_path):
    trained = save_adapter(tmp_path / "adapter", (SETTINGS | MORE)[name])
    load_merged(tmp_path / "adapter", MANIFEST).save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(BASE)(IDS).logits
        assert (trained - base).abs().max() > 0.1
        torch.testing.assert_close(merged(IDS).logits, trained, rtol=0, atol=5e-5)
    assert merged.config.tie_word_embeddings == (name in TIED)


@pytest.mark.parametrize("name", LOST)
def test_an_adapter_that_would_be_merged_otherwise_is_refused(name, tmp_path):
    save_adapter(tmp_path, LOST[name])
    with pytest.raises(UserError, match="which share their weights, in a way that PEFT does not merge"):
        load_merged(tmp_path, MANIFEST)
