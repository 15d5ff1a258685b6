"""The engine in tests: vLLM, on a GPU or a CPU, where it is installed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Of the build for CPUs: GiB for keys and values. Its smallest blocks have 32 tokens.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
ARGUMENTS = {"dtype": "float32", "max_model_len": 512, "block_size": 32, "enforce_eager": True}


@contextmanager
def start_engine(folder: Path, **options: Any) -> Iterator[Any]:
    """`vllm-prefix` with a model; the test is skipped where vLLM is not installed."""
    pytest.importorskip("vllm", reason="vllm is not installed")
    from lm_eval_tasks.models.vllm_prefix import VLLMPrefixLM

    lm = VLLMPrefixLM(str(folder), **ARGUMENTS | options)
    yield lm
    lm.model.llm_engine.engine_core.shutdown()
