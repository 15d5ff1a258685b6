"""What tests of several stages share: the shipped base model, its world as a question set, commands run as a user does."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from hub_server import Hub

ROOT = Path(__file__).parents[1]
BASE = ROOT / "recipes/miniworld/base"
VOCABULARY = json.loads((BASE / "config.json").read_text())["vocab_size"]  # of that base

os.environ["OMP_NUM_THREADS"] = "1"  # workers run side by side
if "PYTEST_XDIST_WORKER" not in os.environ:
    # `datasets` tells folders apart by name and header alone, and would serve what an earlier session put into its cache.
    CACHE = tempfile.TemporaryDirectory(prefix="selfalign-tests-")
    os.environ["HF_DATASETS_CACHE"] = CACHE.name
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run_command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's root, as a user would; nothing is raised where it fails."""
    return subprocess.run([str(word) for word in words], **{"cwd": ROOT} | options, capture_output=True, text=True, check=False)


Share = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def share_folder(tmp_path_factory: pytest.TempPathFactory) -> Share:
    """`share_folder(name, make)`: a folder that is made once a session, for all workers; nothing is written into it later.

    The first worker that asks for the name lets `make` fill the empty folder; the others wait for it.
    """
    own = tmp_path_factory.getbasetemp()  # with several workers, the session's folder is the one above
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def share(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # another worker may have failed to make it
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return share


def run_python(*words: object) -> None:
    """Run Python with some words, in the project's root; they must succeed."""
    done = run_command(sys.executable, *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def world(share_folder: Share) -> Path:
    """The miniature world's files."""
    words = ("-m", "recipes.miniworld.world", "--config", "recipes/miniworld/world.yaml", "--output")
    return share_folder("world", lambda folder: run_python(*words, folder))


@pytest.fixture(scope="session")
def questions(world: Path, share_folder: Share) -> Path:
    """The miniature world's question set."""
    words = ("-m", "intervention", "questions", "jsonl", world / "questions.jsonl", "--output")
    return share_folder("questions", lambda folder: run_python(*words, folder))


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory, share_folder: Share) -> Path:
    """The folder of a real SentencePiece tokenizer of 32,000 tokens, of Llama 2's kind."""

    def make(folder: Path) -> None:
        from transformers import LlamaTokenizer

        raw = tmp_path_factory.mktemp("raw")
        shutil.copyfile(files("mistral_common") / "data/tokenizer.model.v1", raw / "tokenizer.model")
        tokenizer = LlamaTokenizer.from_pretrained(raw)
        assert len(tokenizer) == 32000
        tokenizer.save_pretrained(folder)

    return share_folder("sentencepiece", make)


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


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The file of the shipped study, with its outputs elsewhere, and each seed in processes of its own."""
    text = (ROOT / "recipes/study/miniworld.yaml").read_text().replace("seeds_together: true", "seeds_together: false")
    (tmp_path / "study.yaml").write_text(text.replace("runs/miniworld", str(tmp_path / "runs")))
    return tmp_path / "study.yaml"
