"""The task pack of selfalign for lm-eval-harness; see README.md. Imports nothing, so that light modules stay light."""
