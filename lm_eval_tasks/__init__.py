"""The task pack of selfalign for lm-eval-harness; see README.md. Imports nothing else, so that `contracts` stays light."""

from lm_eval_tasks import moved

moved.install()
