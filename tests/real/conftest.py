"""Real pretrained models and real question banks, which are not part of the project: without them its tests are skipped."""

import os
from pathlib import Path

import pytest
from conftest import ROOT

# What the folder of real models holds, each as `from_pretrained` reads it.
MODELS = ("smollm2-135m-instruct", "gemma3-270m", "qwen2.5-coder-0.5b-instruct")
BANKS = (ROOT / "../shared/reference/banks").resolve()


def find_model(name: str) -> Path:
    """The folder of a model; where there is none, the test that asks for it is skipped, saying so."""
    folder = os.environ.get("SELFALIGN_MODELS")
    if not folder:
        pytest.skip(f"no real models: SELFALIGN_MODELS names no folder that holds {name}")
    if not (Path(folder) / name / "config.json").is_file():
        pytest.skip(f"no real model at {Path(folder) / name} (SELFALIGN_MODELS={folder})")
    return Path(folder).resolve() / name


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Path:
    """Each of the real models that are there."""
    return find_model(request.param)


@pytest.fixture
def smollm() -> Path:
    """SmolLM2 135M Instruct: byte-level tokens, no beginning of sequence."""
    return find_model("smollm2-135m-instruct")


@pytest.fixture
def gemma() -> Path:
    """Gemma 3 270M, a base model: SentencePiece tokens, a beginning of sequence, a sliding window."""
    return find_model("gemma3-270m")


@pytest.fixture
def qwen() -> Path:
    """Qwen2.5-Coder 0.5B Instruct: byte-level tokens, a vocabulary of 151,936."""
    return find_model("qwen2.5-coder-0.5b-instruct")


@pytest.fixture(scope="session")
def banks() -> Path:
    """The folder of real question banks."""
    if not BANKS.is_dir():
        pytest.skip(f"the real question banks are not at {BANKS}")
    return BANKS
