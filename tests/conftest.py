"""What tests of several stages share: the shipped base model, its world as a question set, commands run as a user does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from hub_server import Hub

ROOT = Path(__file__).parents[1]
BASE = ROOT / "recipes/miniworld/base"

os.environ["OMP_NUM_THREADS"] = "1"  # workers run side by side
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run_command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's root, as a user would; nothing is raised where it fails."""
    return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature world's files."""
    folder = tmp_path_factory.mktemp("study") / "world"
    done = run_command(
        sys.executable, "-m", "recipes.miniworld.world", "--config", "recipes/miniworld/world.yaml", "--output", folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def questions(world: Path) -> Path:
    """The miniature world's question set."""
    folder = world.parent / "questions"
    done = run_command(
        sys.executable, "-m", "intervention", "questions", "jsonl", world / "questions.jsonl", "--output", folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real SentencePiece tokenizer of 32,000 tokens, of Llama 2's kind."""
    from transformers import LlamaTokenizer

    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("sentencepiece")
    shutil.copyfile(files("mistral_common") / "data/tokenizer.model.v1", raw / "tokenizer.model")
    tokenizer = LlamaTokenizer.from_pretrained(raw)
    assert len(tokenizer) == 32000
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A loopback stand-in for the Hub."""
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own: `datasets` tells folders apart by name and header alone."""
    import datasets  # seconds, which most tests need not wait for

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
