"""`python -m lm_eval_tasks read`: every response of instruction data, read token by token under a model."""
