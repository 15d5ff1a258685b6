"""The answering benchmark runs, and both sides write as many texts. No test looks at a clock."""

from answering import compare_answering, make_requests
from conftest import VOCABULARY
from transformers import AutoModelForCausalLM, LlamaConfig


def test_both_sides_write(capsys):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=VOCABULARY, **sizes)).eval()
    assert compare_answering(model, make_requests(2, 4, 2, 3), "A few") == {"hf": 8, "hf-prefix": 8}
    assert "times hf" in capsys.readouterr().out
