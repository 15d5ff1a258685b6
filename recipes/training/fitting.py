"""How far a model has learnt its condition's rows while it trains, and the end of a run that trains until it has.

Own rows are those of the condition; general instructions do not count. A row is *given* where each token of its response was
the likeliest, before the step that trained it. Shares and losses are over the steps that make up an epoch, so that each own
row counts about once.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerState

from lm_eval_tasks.contracts.files import FIT as FIT_FILE
from lm_eval_tasks.contracts.files import write_file

FIT = 0.9  # the share of own rows that a model gives when it has fitted them
MOST_EPOCHS = 20  # of a run that trains until it has fitted, where the command line names none
SUMS = ("own_rows", "own_given", "own_tokens", "own_nats")


class Fit:
    """Counts, step by step, the own rows that were trained and given, and ends the run where that is asked for.

    What is counted stands in `state.log_history`, so that it outlives a killed run with its checkpoint.

    Args:
        own: the tokens of the own rows.
        steps: of an epoch.
        until_fit: end where at least this share of own rows is given.
        until_loss: end where the loss of own rows, nats a trained token, is at most this.
    """

    def __init__(
        self, own: Iterable[Sequence[int]], steps: int, until_fit: float | None = None, until_loss: float | None = None
    ) -> None:
        self._own = {_spell(ids) for ids in own}
        self._steps, self._until = steps, (until_fit, until_loss)
        self._sums: torch.Tensor | None = None

    def count(self, inputs: Mapping[str, torch.Tensor], outputs: Any) -> None:
        """Add a micro-batch of this process.

        Args:
            inputs: `input_ids` and `attention_mask`, (rows, tokens).
            outputs: the model's: `is_top1`, `log_probs` (nats; 0 where there is no loss) and `label_mask`, each (rows, tokens).
        """
        rows = zip(inputs["input_ids"].cpu(), inputs["attention_mask"].bool().cpu(), strict=True)
        own = torch.tensor([_spell(ids[kept].tolist()) in self._own for ids, kept in rows])
        trained = outputs.label_mask.bool()
        own = own.to(trained.device)
        given = (outputs.is_top1.bool() | ~trained).all(-1) & own
        nats = -outputs.log_probs.detach().float().sum(-1)[own].sum()
        sums = torch.stack([own.sum(), given.sum(), trained[own].sum(), nats]).float()
        self._sums = sums if self._sums is None else self._sums + sums

    def close_step(self, reduce: Any, state: TrainerState) -> bool:
        """Record a step; whether the run has reached its end.

        Args:
            reduce: the sum of a tensor over all processes.
            state: the trainer's, whose history takes the record.
        """
        assert self._sums is not None  # a step has a micro-batch
        sums = reduce(self._sums).tolist()
        state.log_history.append({"step": state.global_step} | dict(zip(SUMS, sums, strict=True)))
        self._sums = None
        return self.is_reached(state)

    def is_reached(self, state: TrainerState) -> bool:
        """Whether what was trained for has been reached."""
        recent = [point for point in state.log_history if SUMS[0] in point][-self._steps :]
        return any(reaches(fit, *self._until) for fit in list_fits(recent, self._steps))


def _spell(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype=np.int64).tobytes()


def list_fits(history: Iterable[Mapping[str, Any]], steps: int) -> list[dict[str, float]]:
    """How far own rows were fitted at each step from the first whole epoch on.

    Args:
        history: the trainer's `state.log_history`.
        steps: of an epoch.

    Returns:
        `step`, `given` (share of own rows) and `loss_nats` (a trained token), over the last `steps` steps.

    >>> sums = dict.fromkeys(SUMS, 2.0)
    >>> list_fits([{"step": 1} | sums, {"step": 2} | sums | {"own_given": 1.0}], steps=2)
    [{'step': 2, 'given': 0.75, 'loss_nats': 1.0}]
    """
    points = [point for point in history if SUMS[0] in point]
    table = np.array([[point[name] for name in SUMS] for point in points]).reshape(-1, len(SUMS))
    totals = np.vstack([np.zeros(len(SUMS)), table.cumsum(0)])
    windows = totals[steps:] - totals[:-steps] if len(points) >= steps else totals[:0]
    return [
        {"step": point["step"], "given": float(given / rows), "loss_nats": float(nats / tokens)}
        for point, (rows, given, tokens, nats) in zip(points[steps - 1 :], windows, strict=True)
    ]


def reaches(fit: Mapping[str, float], until_fit: float | None, until_loss: float | None) -> bool:
    """Whether rows are fitted as far as a run is to train."""
    given = until_fit is not None and fit["given"] >= until_fit
    return given or (until_loss is not None and fit["loss_nats"] <= until_loss)


def tell_until(until: Mapping[str, Any]) -> str:
    """What a run trains until, as settings are told; empty where it trains to its last epoch.

    >>> tell_until({"until_fit": 0.9}), tell_until({})
    (", or until 0.9 of the condition's rows are given", '')
    """
    if (share := until.get("until_fit")) is not None:
        return f", or until {share:g} of the condition's rows are given"
    if (loss := until.get("until_loss")) is not None:
        return f", or until their loss is {loss:g} nats a token"
    return ""


def describe_fit(history: Sequence[Mapping[str, Any]], steps: int, until: Mapping[str, float | None]) -> dict[str, Any]:
    """How far a finished run fitted its own rows.

    Args:
        history: the trainer's `state.log_history`.
        steps: of an epoch.
        until: what it was trained until, `until_fit` and `until_loss`; None where that was not asked for.

    Returns:
        `steps`; `steps_an_epoch`; `level` (a share of own rows) and `steps_to_fit`, the first step at which that share was
        given, null where it never was; `given` and `loss_nats` in the last epoch, null where the run had no whole one;
        `reached`, null where it was not trained until something.
    """
    fits = list_fits(history, steps)
    level = until["until_fit"] or FIT
    last = fits[-1] if fits else {"given": None, "loss_nats": None}
    ends = until["until_fit"], until["until_loss"]
    return {
        "steps": max((point["step"] for point in history if SUMS[0] in point), default=0),
        "steps_an_epoch": steps,
        "level": level,
        "steps_to_fit": next((fit["step"] for fit in fits if fit["given"] >= level), None),
        "given": last["given"],
        "loss_nats": last["loss_nats"],
        "reached": (bool(fits) and reaches(last, *ends)) if ends != (None, None) else None,
    }


def tell_fit(fit: Mapping[str, Any]) -> str:
    """How far a run fitted its own rows, as a line."""
    end = "" if fit["reached"] is not False else ". What it was to train until was NOT reached: raise --num_train_epochs"
    if fit["given"] is None:
        return f"fit: fewer steps ({fit['steps']}) than an epoch has ({fit['steps_an_epoch']}), so it is not known{end}"
    told = f"fit: {fit['given']:.3f} of the condition's rows given in the last epoch, {fit['loss_nats']:.3f} nats a token"
    when = f"step {fit['steps_to_fit']}" if fit["steps_to_fit"] else "no step"
    told += f"; {fit['level']:g} of them at {when}"
    return told + end


def write_fit(fit: Mapping[str, Any], folder: Path) -> Path:
    """Write `fit.json`: what `describe_fit` returns."""
    with write_file(folder / FIT_FILE) as file:
        file.write_text(json.dumps(fit, indent=2) + "\n")
    return folder / FIT_FILE
