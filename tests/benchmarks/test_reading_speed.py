"""The reading benchmark runs, and its sides give the same numbers. No test looks at a clock."""

import reading
from reading import compare_reading, find_difference, make_texts
from transformers import AutoModelForCausalLM, LlamaConfig


def test_all_sides_read_alike(monkeypatch, capsys):
    monkeypatch.setattr(reading, "VOCABULARY", 500)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=500, **sizes)).eval()
    found = compare_reading(model, make_texts(9, shared=30, prompt=6, response=9), "A few")
    assert all(find_difference(side, found["loop, batch 1"]) < 1e-5 for side in found.values())
    assert "times the padded batches" in capsys.readouterr().out
