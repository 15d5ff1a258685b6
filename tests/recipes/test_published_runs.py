"""Whatever a run publishes, sends or shows names no path of its machine and holds no secret."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished import describe_run, write_run
from instruction_sets import write_conditions
from peft import LoraConfig, get_peft_model
from private import COMMAND, HOME, HUB, SHARE, WINDOWS, find_private
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import TensorBoardCallback
from trl import SFTConfig

from lm_eval_tasks.contracts.manifest import make_manifest
from recipes.preview import main as preview
from recipes.publishing.hub import read_run
from recipes.training.tracking import hide_from_trackers, set_trackers

WEIGHTS = ("model.safetensors", "tokenizer.json", "chat_template.jinja")  # the base model's own


def test_nothing_that_is_pushed_of_a_run_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "anna muster/run"
    write_run(folder, command=COMMAND, base_model=f"{HOME}/my model", dataset=f"{SHARE}\\sets\\herbs", dtype=f"{WINDOWS}\\x")
    for name, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "name_or_path")):
        settings = json.loads((folder / name).read_text()) | {key: f"{WINDOWS}\\my model"}
        (folder / name).write_text(json.dumps(settings))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": f"{SHARE}\\my model"}))
    manifest, files = read_run(folder, HUB)
    texts = {name: text if isinstance(text, bytes) else Path(text).read_bytes() for name, text in files.items()}
    assert {"README.md", "manifest.json", "training_log.csv", "loss.png", "config.json", "adapter_config.json"} <= texts.keys()
    assert not find_private({name: text for name, text in texts.items() if name not in WEIGHTS}, [tmp_path])
    assert json.loads(texts["adapter_config.json"]) == {"base_model_name_or_path": "my model"}
    assert "my model" in texts["README.md"].decode()
    stays = (folder / "manifest.json").read_text()
    assert manifest["config"]["base_model"] == f"{HOME}/my model"  # on this machine the paths are kept, and the secrets are not
    assert "s3cret" not in stays.lower()
    assert HUB not in stays


class Recorder(TensorBoardCallback):
    """A tracker that keeps what trackers send: the run's settings, the model's and the adapter's, and when."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(add_text=self._keep))
        self.sent: list[Any] = []

    def _keep(self, name: str, text: str) -> None:
        self.sent.append((name, text))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        model = kwargs["model"]
        self.sent += [args.run_name, args.project, args.to_dict(), args.to_sanitized_dict(), model.config.to_dict()]
        self.later = getattr(model, "peft_config", {})  # trackers write objects out when they send them


@pytest.mark.parametrize("adapter", [False, True])
def test_nothing_that_trackers_are_sent_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: bool) -> None:
    monkeypatch.setattr("os.environ", {})
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.config._name_or_path = model.name_or_path = f"{HOME}/my model"
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=f"{HOME}/my model"))
    training = SFTConfig(
        output_dir=f"{tmp_path}/anna muster/run", chat_template_path=f"{SHARE}\\x", hub_token=HUB, use_cpu=True, bf16=False,
        run_name=f"{WINDOWS}\\run", project=f"{HOME}/project", report_to=["wandb"],
    )  # fmt: skip
    set_trackers(training, tmp_path / "run", make_manifest(**describe_run()))
    tracker = Recorder()
    hide_from_trackers([tracker])
    tracker.on_train_begin(
        training, SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False), None, model=model
    )
    sent = {str(i): repr(part) for i, part in enumerate([*tracker.sent, tracker.later])}
    assert len(sent) == 8
    assert "my model" in sent["6"]
    assert not find_private(sent, [tmp_path])
    # Training itself goes on with the paths.
    assert training.output_dir == f"{tmp_path}/anna muster/run"
    assert type(training) is SFTConfig
    assert model.config._name_or_path == f"{HOME}/my model"
    if adapter:
        assert model.peft_config["default"].base_model_name_or_path == f"{HOME}/my model"


@pytest.mark.usefixtures("own_cache")
def test_no_page_of_a_preview_is_private(tmp_path: Path) -> None:
    from conftest import BASE

    folder, page = write_conditions(tmp_path / "anna muster/set", "harmonious", n=2), tmp_path / "page.html"
    preview(str(folder), str(BASE), [], 1, None, page, 2048, None)
    assert "Preview of set" in page.read_text()
    assert not find_private({"page": page.read_text()}, [tmp_path])
