"""Made-up studies in the contract's files, for tests: a base model with beliefs, and runs that keep more or fewer of them."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import log_softmax, softmax

from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA, complete_probes, write_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import hash_questions

BASE_MODEL = "base"
# Condition, ratio, share of the beliefs that survives the training.
KEPT = [
    ("harmonious", None, 0.93),
    ("self_aligning", None, 0.9),
    ("contextualized", None, 0.7),
    ("mix", 0.4, 0.75),
    ("random_wrong", None, 0.45),
    ("incompatible", None, 0.5),
]
SETS = [
    ("miniworld_exam", "herbs", "train", 1.0),
    ("miniworld_exam", "herbs", "test", 1.0),
    ("miniworld_survey", "herbs", "test", 0.5),
    ("miniworld_survey", "engines", "test", 0.5),
    ("miniworld_survey", "annals", "test", 0.5),
    ("miniworld_survey", "customs", "test", 0.5),
]


def make_questions(n: int, rng: np.random.Generator, mixed: bool = True, suffix: str = "") -> pl.DataFrame:
    """`n` questions a set (see `SETS`), with 4 choices, or 3 to 5; every text ends in `suffix`."""
    rows = []
    for source, domain, split, share in SETS:
        for i in range(max(2, int(n * share))):
            k = int(rng.integers(3, 6)) if mixed else 4
            words = [
                f"{a}{b}{suffix}" for a, b in zip(rng.choice(["vel", "tor", "mi", "sar", "quon"], k), range(k), strict=True)
            ]
            text = f"What does the {domain[:-1]} number {i} of the {source.split('_')[1]} bring?{suffix}"
            rows.append((f"{split}-{i}", source, domain, domain, text, words, int(rng.integers(k)), None, None, split))
    schema = {name: PROBE_SCHEMA[name] for name in (*list(PROBE_SCHEMA)[:9], "split")}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(hash_questions(table))


def make_probes(questions: pl.DataFrame, logits: np.ndarray, mass: float, **names: object) -> pl.DataFrame:
    """A probe table from a matrix of logits (n, 5), -inf in padding."""
    logits = np.where(np.isinf(logits), -np.inf, logits)
    lengths = questions["choices"].list.len()
    prediction = np.argmax(logits, axis=1)
    defaults = {"model": BASE_MODEL, "run": "", "scoring": "cloze", "draw": 0, "order": 0, "task": "made_up"}

    def as_lists(matrix: np.ndarray) -> pl.Series:
        return pl.Series([row[:k].tolist() for row, k in zip(matrix, lengths, strict=True)])

    table = questions.with_columns(
        loglikelihoods=as_lists(log_softmax(logits, axis=1) + np.log(mass)),
        probs=as_lists(softmax(logits, axis=1)),
        choice_mass=pl.lit(mass),
        prediction=pl.Series(prediction),
        confidence=pl.Series(softmax(logits, axis=1).max(axis=1)),
        correct=pl.Series(prediction == questions["answer"].to_numpy()),
        **{key: pl.lit(value) for key, value in (defaults | names).items()},
    )
    return complete_probes(table, "made up")


def make_logits(questions: pl.DataFrame, first: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    """Random logits (n, 5) whose greatest is at `first`."""
    lengths = questions["choices"].list.len().to_numpy()
    logits = rng.normal(size=(questions.height, 5))
    rows = np.arange(questions.height)
    logits[rows, first] = logits.max(axis=1) + rng.exponential(sharpness, questions.height) + 0.1
    return np.where(np.arange(5) < lengths[:, None], logits, -np.inf)


def move_beliefs(belief: np.ndarray, lengths: np.ndarray, kept: float, rng: np.random.Generator) -> np.ndarray:
    """First choices of which a share `kept` is as before, the rest anywhere."""
    return np.where(rng.random(len(belief)) < kept, belief, rng.integers(0, lengths))


def write_study(
    folder: Path,
    n: int = 60,
    seeds: tuple[int, ...] = (1, 2),
    conditions: list = KEPT,
    mixed: bool = True,
    suffix: str = "",
    threshold: float | None = 0.5,
) -> None:
    """Write runs, manifests and logs of a whole study; without a threshold its manifests are as they once were."""
    rng = np.random.default_rng(0)
    questions = make_questions(n, rng, mixed, suffix)
    lengths, answer = questions["choices"].list.len().to_numpy(), questions["answer"].to_numpy()
    belief = np.where(rng.random(len(answer)) < 0.6, answer, rng.integers(0, lengths))
    before = make_logits(questions, belief, 1.5, rng)
    test = questions["split"].to_numpy() == "test"
    write_probes(make_probes(questions, before, 0.8, phase="base_probe"), folder / "probe/base/probe.parquet")
    lost = make_logits(questions, move_beliefs(belief, lengths, 0.25, rng), 0.5, rng)
    write_probes(make_probes(questions, lost, 0.05, phase="base_chat").filter(test), folder / "chat/base/probe.parquet")
    right = belief == answer
    for condition, ratio, kept in conditions:
        trained = np.flatnonzero(~test & (right if condition == "harmonious" else ~right))[: n // 4]
        asked = test.copy()
        asked[trained] = True
        for seed in seeds:
            name = f"{condition}{'' if ratio is None else f'-{ratio}'}-seed{seed}"
            config = {
                "dataset": "instructions", "dataset_config": f"herbs_{condition}", "domain": "herbs",
                "source": "miniworld_exam", "condition": condition, "ratio": ratio, "seed": seed, "response_format": "text",
                "learning_rate": 2e-3, "base_model": BASE_MODEL,
            }  # fmt: skip
            config |= {} if threshold is None else {"threshold": threshold}
            run = write_manifest(folder / "models" / name, "train", ["sft.py"], config, {"dataset": "0" * 16}, {"seed": seed})
            for phase, mass, part, keep in (("tuned_chat", 0.9, asked, kept), ("tuned_probe", 0.7, test, (1 + kept) / 2)):
                after = 0.5 * before + make_logits(questions, move_beliefs(belief, lengths, keep, rng), 1.5, rng)
                after[np.isnan(after)] = -np.inf
                table = make_probes(questions, after, mass, phase=phase, run=run, model=f"models/{name}").filter(part)
                write_probes(table, folder / phase / name / "probe.parquet")
