"""`vllm-prefix` on real models gives the log-probabilities of `hf`, letters and texts, where vLLM is installed."""

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from sides import LETTERS, Sizes, Writer
from transformers import AutoTokenizer
from vllm_engine import start_engine

pytest.importorskip("vllm", reason="vllm is not installed")
pytestmark = pytest.mark.launched


@pytest.mark.parametrize("name", ["smollm", "gemma"])
def test_log_probabilities_are_those_of_hf(name, request):
    folder = request.getfixturevalue(name)
    writer = Writer(AutoTokenizer.from_pretrained(folder))
    prompts = writer.write_cyclic(4, Sizes(shots=3, shot=30))
    texts = [f" {letter}" for letter in LETTERS] + [f" {writer.write_words(n)}" for n in (1, 2, 4, 6)]
    requests = [Instance("loglikelihood", {}, (prompt, text), 0) for prompt in prompts for text in texts]
    theirs = HFLM(pretrained=str(folder), dtype="float32", batch_size=8, device="cpu").loglikelihood(requests, True)
    with start_engine(folder) as lm:
        ours = lm.loglikelihood(requests, True)
    largest = max(abs(own - other) for (own, _), (other, _) in zip(ours, theirs, strict=True))
    print(f"{folder.name}: {len(requests)} answers, largest difference {largest:.1e} nats")
    assert largest < 1e-3
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
