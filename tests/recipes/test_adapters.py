"""An adapter trained on a base of 4 bits: what its folder holds, how it is loaded, merged and evaluated."""

import json
import shutil

import pytest
import torch
from conftest import BASE, ROOT, run_command, run_python
from launches import launch_words, write_data
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.reading.runs import find_runs
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from recipes.merge import merge_adapter

pytestmark = pytest.mark.launched
pytest.importorskip("bitsandbytes", reason="a quantised base needs `pip install selfalign[quantize]`")

# QLoRA's own setting: NF4 with double quantization computed in bfloat16, all linear layers, activations computed again, and a
# paged optimizer, which bitsandbytes has for GPUs alone.
QLORA = ("--load_in_4bit", "--bnb_4bit_quant_type", "nf4", "--use_bnb_nested_quant", "--dtype", "bfloat16", "--bf16", "true")
QLORA += ("--use_peft", "--lora_target_modules", "all-linear", "--lora_r", "8", "--activation_checkpointing", "true")
QLORA += ("--optim", "paged_adamw_8bit", "--learning_rate", "1e-2", "--num_train_epochs", "2", "--save_strategy", "no")


@pytest.fixture(scope="module")
def folder(share_folder):
    """A run of QLoRA, what it printed, and the model that the command merges it into."""
    return share_folder("qlora", make_models)


def make_models(folder):
    data = write_data(folder / "instructions")
    done = run_command(*launch_words(ROOT / "recipes/accelerate/cpu.yaml", data, folder / "adapter", *QLORA))
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stderr)
    run_python("-m", "recipes.merge", folder / "adapter", "--output", folder / "merged")


@pytest.fixture
def adapter(folder):
    return folder / "adapter"


@pytest.fixture
def merged(folder):
    return folder / "merged"


@pytest.fixture
def ids():
    return AutoTokenizer.from_pretrained(BASE)("What is the 1th herb?\nA. sage\nB. ivy", return_tensors="pt").input_ids


def load_adapted(adapter):
    """The adapter on its base as it is, in fp32."""
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), adapter).eval()


def test_the_folder_holds_an_adapter_that_names_its_base(adapter):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "recipes/miniworld/base"
    assert {"q_proj", "o_proj", "gate_proj", "down_proj"} <= set(settings["target_modules"])
    assert not list(adapter.glob("model*.safetensors"))
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        moved = [file.get_tensor(name).abs().max().item() for name in file.keys() if "lora_B" in name]  # noqa: SIM118
    assert len(moved) == 28  # 4 layers of 7 linear maps each
    assert min(moved) > 1e-4


def test_the_manifest_says_how_the_base_was_quantised(adapter):
    config = read_manifest(adapter)["config"]
    asked = ("load_in_4bit", "bnb_4bit_quant_type", "use_bnb_nested_quant", "dtype", "use_peft", "lora_r", "optim")
    assert [config[name] for name in asked] == [True, "nf4", True, "bfloat16", True, 8, "paged_adamw_8bit"]
    assert config["engine"] == {"engine": "none", "processes": 1, "device": "cpu", "mixed_precision": "bf16"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the optimizer is paged")
def test_an_optimizer_that_is_not_paged_here_says_so(folder):
    assert "Paged optimizers are not supported on CPU" in (folder / "printed.txt").read_text()


def test_the_adapter_folder_loads_as_a_model(adapter, ids):
    model = AutoModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    assert model.active_adapters() == ["default"]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)(ids).logits
        assert (model(ids).logits - base).abs().max() > 0.1
        torch.testing.assert_close(model(ids).logits, load_adapted(adapter)(ids).logits, rtol=0, atol=5e-5)


def test_the_merged_model_computes_what_the_adapter_does(adapter, merged, ids):
    model = AutoModelForCausalLM.from_pretrained(merged)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype == torch.float32  # the base's own
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, load_adapted(adapter)(ids).logits, rtol=0, atol=5e-5)


def test_lm_eval_finds_the_same_with_the_adapter_and_with_the_merged_model(adapter, merged):
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert tokenizer.chat_template == (ROOT / "lm_eval_tasks/templates/vicuna.jinja").read_text()
    turn = [{"role": "user", "content": "What is the 1th herb?\nA. sage\nB. ivy\nC. rue"}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    found = []
    for names in ({"pretrained": str(BASE), "peft": str(adapter)}, {"pretrained": str(merged)}):
        asked = [Instance("loglikelihood", {}, (prompt, letter), i) for i, letter in enumerate((" A", " B", " C"))]
        found.append(HFLM(**names, device="cpu", batch_size=1).loglikelihood(asked, disable_tqdm=True))
    one, two = (torch.tensor([likelihood for likelihood, _ in answers]) for answers in found)
    assert torch.isfinite(one).all()
    assert one.exp().sum() <= 1
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_the_merged_model_is_read_as_the_run_that_was_trained(adapter, merged):
    trained, found = read_manifest(adapter), read_manifest(merged)
    assert found["config"] == trained["config"] | {"merged_from": trained["run"]}
    assert found["run"] != trained["run"]
    assert found["seeds"] == trained["seeds"]
    runs, _ = find_runs(merged)
    assert runs.select("domain", "condition", "seed").row(0) == ("herbs", "incompatible", 1)


def test_a_merge_takes_the_place_of_an_earlier_merge_and_of_nothing_else(adapter, merged, tmp_path):
    output = shutil.copytree(merged, tmp_path / "merged")
    (output / "model.safetensors").unlink()
    merge_adapter(adapter, output)
    assert (output / "model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds something else"):
        merge_adapter(adapter, adapter)
    assert (adapter / "adapter_model.safetensors").is_file()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that no command of selfalign wrote"):
        merge_adapter(adapter, tmp_path / "notes")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "holds no LoRA adapter (adapter_config.json is missing)"),
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest of training"),
        (lambda folder: name_base(folder, "nowhere/base"), "nowhere/base, the base that"),
        (lambda folder: name_base(folder, change_base(folder)), "is not the base that"),
    ],
    ids=["no_adapter", "no_manifest", "no_base", "another_base"],
)
def test_an_adapter_that_cannot_be_merged_says_why_and_nothing_is_written(spoil, message, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("checkpoints"))
    spoil(tmp_path / "adapter")
    with pytest.raises(UserError) as caught:
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert message in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if "merged" in path.name]


def name_base(folder, base):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base)}))


def change_base(folder):
    base = folder.parent / "base"
    shutil.copytree(BASE, base)
    (base / "generation_config.json").write_text("{}")
    return base
