"""Model classes of lm-eval that compute what prompts share only once: `hf-prefix`, and `vllm-prefix` on an engine."""
