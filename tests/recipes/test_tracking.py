"""What a run leaves beside its weights, launched in two processes: trackers' files, log, figure, card, and a push to a Hub."""

import csv
import importlib.util
import json
import os
import pickle
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Share
from hub_server import TOKEN, Hub, Repo
from launches import launch_words, make_engine, write_data
from trl import SFTConfig

import recipes.training.tracking
from lm_eval_tasks.contracts.manifest import read_manifest
from recipes.publishing.hub import read_run
from recipes.training.tracking import check_trackers, set_trackers

TRACKERS = [name for name in ("tensorboard", "trackio", "wandb") if importlib.util.find_spec(name)]


@dataclass
class Launched:
    """A run whose first push failed, and what was printed then and when it was launched again."""

    output: Path
    repos: dict[str, Repo]
    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]

    def read_log(self) -> list[dict[str, float]]:
        with (self.output / "training_log.csv").open() as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def launched(share_folder: Share) -> Launched:
    return pickle.loads((share_folder("tracked", launch_twice) / "launched.pkl").read_bytes())


def launch_twice(folder: Path) -> None:
    hub, output = Hub(), folder / "model"
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    own |= {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline", "HF_HUB_DISABLE_TELEMETRY": "1"}
    unset = ("HF_HUB_OFFLINE", "TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "WANDB_PROJECT")
    env = {name: value for name, value in os.environ.items() if name not in unset} | own
    options = ["--max_steps", "6", "--logging_steps", "2", "--global_batch_size", "8", "--per_device_train_batch_size", "4"]
    options += ["--push_to_hub", "--hub_model_id", "anna/herbs"]
    words = launch_words(make_engine(folder, "ddp"), write_data(folder / "data"), output, *options)
    recipe = yaml.safe_load((ROOT / "recipes/miniworld/full.yaml").read_text()) | {"report_to": TRACKERS or "none"}
    (folder / "full.yaml").write_text(yaml.safe_dump(recipe))
    words[words.index("--config") + 1] = str(folder / "full.yaml")
    runs = []
    for failures in ({"commit": 403}, {}):
        hub.failures = failures
        runs.append(subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False))
    hub.shutdown()
    hub.server_close()
    (folder / "launched.pkl").write_bytes(pickle.dumps(Launched(output, hub.repos, *runs)))


@pytest.mark.launched
def test_a_push_that_fails_keeps_the_model_and_the_same_command_only_pushes(launched: Launched) -> None:
    (error,) = [line for line in launched.first.stderr.splitlines() if line.startswith("error: ")]
    assert launched.first.returncode != 0
    assert "anna/herbs was not pushed: the token may not write there" in error
    assert f"The model stands in {launched.output}, and the same command pushes it again" in error
    assert launched.second.returncode == 0, launched.second.stderr
    assert "already holds this run" in launched.second.stderr
    assert "'loss'" not in launched.second.stdout + launched.second.stderr
    repo, run = launched.repos["anna/herbs"], read_manifest(launched.output)["run"]
    assert repo.tags == {run: repo.find()}
    assert repo.read()["model.safetensors"] == (launched.output / "model.safetensors").read_bytes()
    assert len(repo.commits) == 2  # no checkpoint was pushed while it trained


@pytest.mark.launched
def test_the_folder_of_a_run_is_complete_and_holds_no_token(launched: Launched) -> None:
    manifest, files = read_run(launched.output, TOKEN)
    assert {"README.md", "manifest.json", "loss.png", "training_log.csv", "model.safetensors"} <= files.keys()
    card = (launched.output / "README.md").read_text()
    assert "config `herbs_incompatible`, 32 rows" in card
    assert "fine-tuned on 24 questions" in card
    assert "8 general instructions" in card
    assert "2 processes" in card
    assert "--push_to_hub" in manifest["command"]
    holders = [file for file in launched.output.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert not holders
    assert TOKEN not in "".join((launched.first.stdout, launched.first.stderr, launched.second.stdout, launched.second.stderr))


@pytest.mark.launched
def test_one_process_prints_a_line_a_logged_step(launched: Launched) -> None:
    said = launched.first.stdout + launched.first.stderr
    assert said.count("{'loss': ") == len(launched.read_log()) == 3


@pytest.mark.launched
@pytest.mark.skipif("tensorboard" not in TRACKERS, reason="tensorboard is not installed: pip install 'selfalign[track]'")
def test_tensorboard_holds_the_log_of_the_run(launched: Launched) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(launched.output / "tensorboard" / read_manifest(launched.output)["run"]))
    events.Reload()
    for name, column in (("train/loss", "loss_nats"), ("train/learning_rate", "learning_rate")):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(row["step"], pytest.approx(row[column], rel=1e-6)) for row in launched.read_log()]
    for file in launched.output.glob("tensorboard/*/*"):
        assert str(launched.output.parent).encode() not in file.read_bytes()


@pytest.mark.launched
@pytest.mark.skipif("trackio" not in TRACKERS, reason="trackio is not installed: pip install 'selfalign[track]'")
def test_trackio_holds_the_log_of_the_run(launched: Launched) -> None:
    with sqlite3.connect(launched.output.parent / "trackio/selfalign.db") as database:
        rows = database.execute("SELECT run_name, metrics FROM metrics ORDER BY id").fetchall()
    assert {name for name, _ in rows} == {f"herbs_incompatible-seed-1-{read_manifest(launched.output)['run'][:8]}"}
    logged = [metrics for metrics in (json.loads(text) for _, text in rows) if "train/loss" in metrics]
    found = [(metrics["train/global_step"], metrics["train/loss"]) for metrics in logged]
    assert found == [(row["step"], pytest.approx(row["loss_nats"])) for row in launched.read_log()]


@pytest.mark.launched
@pytest.mark.skipif("wandb" not in TRACKERS, reason="wandb is not installed: pip install 'selfalign[track]'")
def test_wandb_holds_the_log_of_the_run(launched: Launched) -> None:
    (file,) = launched.output.glob("wandb/offline-run-*/*.wandb")
    stored = file.read_bytes()  # a list of protocol buffers, in which texts and numbers stand as they are
    for word in ("selfalign", f"herbs_incompatible-seed-1-{read_manifest(launched.output)['run'][:8]}"):
        assert word.encode() in stored
    assert all(repr(row["loss_nats"]).encode() in stored for row in launched.read_log())


def make_training(folder: Path, *trackers: str) -> SFTConfig:
    return SFTConfig(output_dir=str(folder), report_to=list(trackers), use_cpu=True, bf16=False)


def test_a_tracker_that_is_not_there_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.training.tracking, "get_available_reporting_integrations", lambda: ["tensorboard"])
    assert not check_trackers(make_training(tmp_path, "tensorboard"))
    assert not check_trackers(make_training(tmp_path))
    missing, unknown = check_trackers(make_training(tmp_path, "wandb", "tensorboard,trackio"))
    assert "--report_to wandb: wandb is not installed; run `pip install wandb`" in missing
    assert "--report_to tensorboard,trackio: there is no such tracker" in unknown
    assert "report_to: [tensorboard, trackio]" in unknown


def test_what_a_user_has_set_for_the_trackers_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TENSORBOARD_LOGGING_DIR": "boards", "WANDB_PROJECT": "mine"})
    manifest = {"run": "0123456789abcdef", "config": {"dataset_config": "herbs_gold", "seed": 3}}
    training = make_training(tmp_path, "tensorboard", "wandb")
    training.run_name, training.project = "this", "that"
    set_trackers(training, tmp_path / "model", manifest)
    assert (training.run_name, training.project) == ("this", "that")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "boards"
    assert (os.environ["WANDB_PROJECT"], os.environ["WANDB_DIR"]) == ("mine", str(tmp_path / "model"))
    plain = make_training(tmp_path)
    set_trackers(plain, tmp_path / "plain", manifest)
    assert (plain.run_name, plain.project) == ("herbs_gold-seed-3-01234567", "selfalign")
    assert not (tmp_path / "plain").exists()
