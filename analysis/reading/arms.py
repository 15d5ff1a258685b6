"""Arms: the runs of one base model and domain that were trained in one way, where a study trains them in several.

Conditions are contrasted within an arm, so that they differ in nothing but what they were trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from lm_eval_tasks.contracts.rules import Rule


def _tell_rule(value: str | None) -> str:
    return f"beliefs by {str(Rule()) if value is None else value}"


def _tell_match(value: str | None) -> str:
    return "not matched" if value in (None, "none") else f"matched by {value}"


def _tell_rate(value: float | None) -> str:
    return "learning rate not said" if value is None else f"learning rate {value:g}"


def _tell_end(value: tuple[float | None, float | None, float | None]) -> str:
    fit, loss, epochs = value
    if fit is not None:
        return f"until {fit:g} of the rows are given"
    if loss is not None:
        return f"until a loss of {loss:g}"
    return "all epochs" if epochs is None else f"{epochs:g} epoch{'s' * (epochs != 1)}"


def _tell_size(value: int | None) -> str:
    return "as many questions as there are" if value is None else f"{value:,} questions"


def _tell_share(value: float | None) -> str:
    return f"{value or 0:g} general instructions a question"


def _tell_mask(value: float | None) -> str:
    return "no token masked" if value is None else f"tokens masked below {value:g}"


def _tell_charge(value: float | None) -> str:
    return "no charge for KL" if value is None else f"{value:g} x KL(base || model)"


# What a study can vary beside condition and seed: by the names in a manifest's config, and as an arm is called.
VARIED: Mapping[tuple[str, ...], Callable[[Any], str]] = {
    ("belief_rule",): _tell_rule,
    ("match",): _tell_match,
    ("size",): _tell_size,
    ("general_share",): _tell_share,
    ("learning_rate",): _tell_rate,
    ("until_fit", "until_loss", "num_train_epochs"): _tell_end,
    ("token_mask_threshold",): _tell_mask,
    ("kl_to_base",): _tell_charge,
}


SEPARATOR = ", "  # between the settings of an arm's name


def name_arms(runs: pl.DataFrame, manifests: Sequence[Mapping[str, Any]]) -> pl.Series:
    """What tells each run's arm from others of its base model and domain; empty where there is one.

    Args:
        runs: with `base` and `domain`.
        manifests: theirs, in the same order.

    >>> runs = pl.DataFrame({"base": ["llama"] * 2, "domain": ["herbs"] * 2})
    >>> name_arms(runs, [{"config": {"learning_rate": rate}} for rate in (0.1, 0.01)]).to_list()
    ['learning rate 0.1', 'learning rate 0.01']
    """
    told: list[list[str]] = [[] for _ in manifests]
    parts = list(runs.select("base", "domain").iter_rows())
    for names, tell in VARIED.items():
        values = [tuple(manifest["config"].get(name) for name in names) for manifest in manifests]
        for i, part in enumerate(parts):
            said = {tell(v if len(names) > 1 else v[0]) for v, other in zip(values, parts, strict=True) if other == part}
            if len(said) > 1:
                told[i].append(tell(values[i] if len(names) > 1 else values[i][0]))
    return pl.Series("arm", [SEPARATOR.join(words) for words in told], dtype=pl.String)


def label_arm(base: str, arm: str) -> str:
    """What a report calls a base model of which there are several arms.

    >>> label_arm("llama", "learning rate 0.1"), label_arm("llama", "")
    ('llama, learning rate 0.1', 'llama')
    """
    return f"{base}, {arm}" if arm else base
