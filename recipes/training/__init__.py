"""One training run: arguments, rows, tokens, batches, engines, checkpoints."""
