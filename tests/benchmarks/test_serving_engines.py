"""The benchmark of engines runs with those that are there, and its sides agree. No test looks at a clock."""

from importlib.util import find_spec

import pytest
from conftest import BASE
from engines import compare_engines


@pytest.mark.skipif(bool(find_spec("vllm")), reason="vllm is installed: the next test starts it")
def test_without_an_engine_the_rest_is_asked_and_that_is_said(capsys):
    assert set(compare_engines(BASE, 4, 1, "float32")) == {"hf", "hf-prefix"}
    assert "vllm-prefix is left out: vLLM is not installed." in capsys.readouterr().out


@pytest.mark.launched
@pytest.mark.skipif(not find_spec("vllm"), reason="vllm is not installed")
def test_engines_that_are_there_answer_as_hf_does():
    answers = compare_engines(BASE, 4, 1, "float32")
    assert set(answers) == {"hf", "hf-prefix", "vllm", "vllm-prefix"}
    for own in answers.values():
        for mine, theirs in zip(own, answers["hf"], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
