"""A finished run is pushed to a Hub on this machine and loaded back; what must not leave it stays."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
from conftest import BASE, ROOT
from finished import write_run
from hub_server import TOKEN, Hub, Repo
from safetensors.torch import load_file
from trl import SFTConfig

from lm_eval_tasks.contracts.errors import UserError
from recipes.publishing.hub import check_push, read_run

PUSH = """import json, sys
from lm_eval_tasks.contracts.errors import report_errors
from recipes.publishing.hub import push_run
with report_errors():
    print(push_run(*json.loads(sys.argv[1])))
"""
PUBLISHED = {"README.md", "manifest.json", "loss.png", "training_log.csv", "config.json", "generation_config.json"}
PUBLISHED |= {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, and beside the model what training and its user may leave there."""
    folder = tmp_path_factory.mktemp("finished") / "model"
    write_run(folder)
    for name in ("training_args.bin", "notes.txt", ".lock", "checkpoints/0/model.safetensors", "tensorboard/0/events"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def run_python(hub: Hub | None, home: Path, code: str, *words: object, **env: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python as a user who is logged in; an environment variable that is None is unset."""
    own = {"HF_ENDPOINT": hub.address if hub else "http://127.0.0.1:9", "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf")}
    own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": None, "HF_TOKEN_PATH": None} | env
    variables = {name: value for name, value in (os.environ | own).items() if value is not None}
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=variables)
    assert TOKEN not in done.stdout + done.stderr
    return done


def push(hub: Hub | None, folder: Path, *options: object, repository: str = "anna/herbs", **env: str | None) -> str:
    """What is printed: where the run stands, or one line that says why it was not pushed."""
    done = run_python(hub, folder.parent, PUSH, json.dumps([str(folder), repository, *options]), **env)
    if done.returncode:
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    return done.stdout or done.stderr


@pytest.mark.launched
def test_a_pushed_model_comes_back_as_it_was(hub: Hub, finished: Path, tmp_path: Path) -> None:
    run = json.loads((finished / "manifest.json").read_text())["run"]
    assert push(hub, finished, HF_DEBUG="1") == f"{hub.address}/anna/herbs holds this run: revision {run}\n"
    repo = hub.repos["anna/herbs"]
    assert repo.read().keys() - {".gitattributes"} == PUBLISHED
    assert repo.tags == {run: repo.find()}
    assert len(repo.commits) == 2  # the Hub's own first one, and all files at once
    assert not repo.private
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer;"
        "model = AutoModelForCausalLM.from_pretrained('anna/herbs', revision=sys.argv[1]); model.save_pretrained(sys.argv[2]);"
        "print(AutoTokenizer.from_pretrained('anna/herbs').chat_template)"
    )
    done = run_python(hub, tmp_path, code, run, tmp_path / "back")
    assert done.returncode == 0, done.stderr
    assert (BASE / "chat_template.jinja").read_text().rstrip() in done.stdout
    there, back = load_file(finished / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert there.keys() == back.keys()
    assert all(there[name].equal(back[name]) for name in there)
    assert {said for name, said in hub.calls if name in ("create", "commit", "tag")} == {f"Bearer {TOKEN}"}
    assert all(TOKEN.encode() not in data for data in repo.read().values())


def test_pushing_again_changes_nothing_and_another_run_takes_its_place(hub: Hub, finished: Path, tmp_path: Path) -> None:
    first = push(hub, finished)
    repo = hub.repos["anna/herbs"]
    before = repo.find()
    assert push(hub, finished) == first
    assert repo.find() == before
    other = tmp_path / "other"
    run = write_run(other, seed=2)
    (other / "generation_config.json").unlink()
    push(hub, other)
    assert repo.read().keys() - {".gitattributes"} == PUBLISHED - {"generation_config.json"}
    assert repo.tags[run] == repo.find()
    assert before in repo.tags.values()
    assert "generation_config.json" in repo.read(before)


def test_what_is_published_names_no_path(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_run(folder, base_model="/home/anna/llama", dataset="data/herbs")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/anna/llama", "r": 16}))
    push(hub, folder, True)
    assert hub.repos["anna/herbs"].private
    config = json.loads(hub.repos["anna/herbs"].read()["manifest.json"])["config"]
    assert (config["base_model"], config["dataset"]) == ("llama", "data/herbs")
    adapter = json.loads(hub.repos["anna/herbs"].read()["adapter_config.json"])
    assert adapter == {"base_model_name_or_path": "llama", "r": 16}
    assert "/home/anna" in (folder / "manifest.json").read_text()  # the user's own stays as it is
    assert not [name for name, data in hub.repos["anna/herbs"].read().items() if b"/home/anna" in data]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ({"create": 403}, "the token may not write there; use one that may, or name a repository of your own"),
        ({"create": 401}, "the Hub does not know the token"),
        ({"commit": 500}, "the Hub refused (500)"),
    ],
)
def test_a_refusal_says_why_and_that_the_model_is_safe(hub: Hub, finished: Path, failure: dict, message: str) -> None:
    hub.failures = failure
    said = push(hub, finished)
    assert message in said
    assert f"The model stands in {finished}, and the same command pushes it again without training." in said
    hub.failures = {}
    assert "holds this run" in push(hub, finished)


def test_a_network_that_is_gone_loses_nothing(finished: Path) -> None:
    said = push(None, finished)
    assert "anna/herbs was not pushed" in said
    assert f"The model stands in {finished}" in said


def test_what_others_put_into_a_repository_is_left_alone(hub: Hub, finished: Path) -> None:
    hub.repos["anna/herbs"] = Repo(False, {"0" * 40: {".gitattributes": b"", "model.gguf": b"theirs"}})
    assert "anna/herbs holds model.gguf, which selfalign did not push" in push(hub, finished)
    assert len(hub.repos["anna/herbs"].commits) == 1
    hub.repos["anna/herbs"] = Repo(False, {"0" * 40: {}})
    assert "anna/herbs exists and is public" in push(hub, finished, True)


def change_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"run": "0" * 16}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "holds no finished training run (manifest.json is missing)"),
        (lambda folder: shutil.copyfile(BASE / "manifest.json", folder / "manifest.json"), "holds no finished training run"),
        (change_manifest, "README.md is not the card of run 0000000000000000"),
        (lambda folder: (folder / "README.md").unlink(), "README.md is not the card of run"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"other"), "model.safetensors is not what run"),
        (lambda folder: (folder / "README.md").open("a").write(TOKEN), "README.md holds what looks like an access token"),
    ],
)
def test_a_folder_that_is_not_as_its_run_left_it_is_refused(copy: Path, damage: Callable[[Path], object], message: str) -> None:
    read_run(copy)
    damage(copy)
    with pytest.raises(UserError) as caught:
        read_run(copy)
    assert message in str(caught.value)


def test_what_keeps_a_run_from_being_pushed_is_known_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(name: str | None, push: bool = True, token: str | None = None) -> list[str]:
        asked = {"push_to_hub": push, "hub_model_id": name, "hub_token": token}
        return check_push(SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **asked))

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert not check("anna/herbs")
    assert not check(None, push=False)
    for name in (None, "herbs", "anna/her bs", "a/b/c"):
        (problem,) = check(name)
        assert "--hub_model_id USER/NAME" in problem
    (problem,) = check(None, push=False, token=TOKEN)
    assert "--hub_token: leave it out" in problem
    assert TOKEN not in problem
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    offline, token = check("anna/herbs")
    assert "HF_HUB_OFFLINE is set" in offline
    assert "there is no token for the Hub" in token


def test_nothing_is_pushed_without_a_token(hub: Hub, finished: Path, tmp_path: Path) -> None:
    said = push(hub, finished, HF_TOKEN=None, HF_TOKEN_PATH=str(tmp_path / "none"))
    assert "there is no token for the Hub" in said
    assert not hub.calls
