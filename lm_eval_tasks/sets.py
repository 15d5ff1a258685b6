"""The questions that a task asks and those it demonstrates with: read, chosen, rotated, and described as samples carry them.

Templates name `load_questions` as their `custom_dataset`; `--metadata` gives it the values of a run (README.md lists them).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import polars as pl

from lm_eval_tasks import moved
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.generations import read_generations
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.prompts import RESPONSE_FORMAT
from lm_eval_tasks.contracts.questions import check_unique, name_question, read_configs, read_questions, rotate_choices
from lm_eval_tasks.contracts.vocabulary import GENERAL, KEY

HOW_TO_NAME = """--metadata '{"questions": "FOLDER_OR_HUB_ID"}'"""
HOW_TO_GIVE_CONTEXTS = """--metadata '{"contexts": "LOG_OR_JSON_LINES"}'"""

Order = int | Literal["cyclic"]
logger = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    return moved.find_name(__name__, name)


def load_questions(
    task: str,
    questions: str | None = None,
    prompt: str = "probe",
    domain: str | Sequence[str] = (),
    splits: Sequence[str] = ("test",),
    trained_on: str | None = None,
    contexts: str | None = None,
    order: Order = 0,
    shots: int | None = None,
    **run: Any,
) -> dict[str, datasets.Dataset]:
    """The questions that a task asks (`test`) and those it demonstrates with (`dev`), with the columns of a sample.

    Args:
        task: the task's name.
        questions: a question set: a folder, or a data set on the Hub.
        prompt: `probe` (few-shot), `context` (few-shot, the asked question after its context) or `chat`; set by the task.
        domain: one domain or several; all where empty.
        splits: the splits that are asked.
        trained_on: `FOLDER/CONFIG` of an instruction set whose train questions are asked again, choices rotated by one more
            than in training (`seen`).
        contexts: for the prompt `context`: texts by question, which `generations.read_generations` reads.
        order: how far the choices are rotated before they are shown, or `cyclic` for a row an order.
        shots: no dev questions are read where it is 0.
        **run: what `describe_run` takes.

    Raises:
        UserError: the question set breaks its contract, no question has a context, or the model was trained to answer in
            another format.
    """
    if not questions:
        raise UserError(f"{task}: no question set. Name one with {HOW_TO_NAME}.")
    folder = find_folder(questions)
    domains = list_domains(domain)
    table = read_questions(folder, domains, splits)
    asked = rotate_questions(table, order)
    if trained_on:
        seen = rotate_questions(read_trained(folder, trained_on), order, more=pl.col("trained_order") + 1).drop("trained_order")
        asked = pl.concat([asked.filter(pl.col("split") != "train"), seen])
    if prompt == "context":
        asked = add_contexts(asked, contexts, task)
    dev = read_demonstrations(folder, domains) if prompt != "chat" and shots != 0 else table.head(0)
    check_unique(pl.concat(part.select(*KEY, "split") for part in (asked, dev)).unique(maintain_order=True), folder)
    return make_datasets(describe_run(asked, task=task, prompt=prompt, **run), dev)


def read_demonstrations(folder: Path, domains: Sequence[str]) -> pl.DataFrame:
    """The dev questions of a question set.

    Raises:
        UserError: it has none.
    """
    check_demonstrations(read_configs(folder), domains, folder)
    return read_questions(folder, domains, ["dev"])


def check_demonstrations(configs: Mapping[str, Mapping[str, Path]], domains: Sequence[str], folder: Path) -> None:
    """Raise a `UserError` where none of the domains of a question set has dev questions."""
    if not any("dev" in configs[domain] for domain in domains or configs):
        raise UserError(
            f"{folder} has no dev questions in {', '.join(domains or configs)}, from which demonstrations come. Add a split "
            """dev, or ask without demonstrations: --metadata '{"shots": 0}'."""
        )


def list_domains(domain: str | Sequence[str]) -> list[str]:
    """The domains of a run's `domain`, which is one or several."""
    return [domain] if isinstance(domain, str) else list(domain)


def make_datasets(asked: pl.DataFrame, dev: pl.DataFrame) -> dict[str, datasets.Dataset]:
    """What lm-eval takes for a task's splits."""
    return {"test": datasets.Dataset(asked.to_arrow()), "dev": datasets.Dataset(dev.to_arrow())}


def rotate_questions(table: pl.DataFrame, order: Order, more: int | pl.Expr = 0) -> pl.DataFrame:
    """The questions as they are shown, with the column `order` and with `answer` as the index of gold among what is shown.

    Args:
        table: questions in their own order of choices.
        order: by how much the choices are rotated, modulo their number; `cyclic` gives a question one row for each of its
            orders, 0 first.
        more: by how much they are rotated beyond that (`cyclic` shows every order anyway).

    Raises:
        UserError: `order` is neither.

    >>> shown = rotate_questions(pl.DataFrame({"choices": [["soot", "salt"]], "answer": [1]}), "cyclic")
    >>> shown.rows()
    [(['soot', 'salt'], 1, 0), (['salt', 'soot'], 0, 1)]
    """
    if order != "cyclic" and type(order) is not int:
        raise UserError(f"order {order!r} is neither a whole number nor 'cyclic'. Give one with --metadata '{{\"order\": 1}}'.")
    n = pl.col("choices").list.len().cast(pl.Int64)
    if order == "cyclic":
        table = table.with_columns(order=pl.int_ranges(0, n)).explode("order")
    else:
        table = table.with_columns(order=(pl.lit(order, pl.Int64) + more) % n)
    return rotate_choices(table, pl.col("order")).with_columns(answer=(pl.col("answer") - pl.col("order")) % n)


def describe_run(
    asked: pl.DataFrame,
    /,
    task: str,
    pretrained: str = "",
    peft: str = "",
    prompt: str = "probe",
    scoring: str = "letter",
    draw: int = 0,
    phase: str | None = None,
    begins: bool | None = None,
    **_: Any,
) -> pl.DataFrame:
    """The questions with the columns that say how they are asked: `model, run, phase, scoring, draw, task, bos`.

    Args:
        asked: the questions.
        task: the task's name.
        pretrained: the model that is asked, from `--model_args`; its manifest tells whether and on what it was tuned.
        peft: its adapter, likewise; the manifest is then the adapter's.
        prompt: `probe`, `context` or `chat`; set by the task.
        scoring: `letter` or `cloze`; set by the task.
        draw: which demonstrations are taken: 0 the first (the paper's, in its tasks), any other number another shuffle.
        phase: overrides what the model's manifest says.
        begins: whether prompts begin with the beginning-of-sequence token; None where nobody knows.

    Raises:
        UserError: the model's training has not ended, or trained it to answer in another format.
    """
    folder = peft or pretrained
    manifest = read_manifest(folder) or {}
    tuned = manifest.get("stage") == "train"
    if not tuned and (Path(folder) / "checkpoints").is_dir():
        raise UserError(f"{folder} holds a training run that has not ended. Run its command again; it goes on where it was.")
    if tuned and prompt == "chat":
        check_format(manifest["config"], scoring, folder)
    return asked.with_columns(
        model=pl.lit(str(folder)),
        run=pl.lit(manifest["run"] if tuned else ""),
        phase=pl.lit(phase or f"{'tuned' if tuned else 'base'}_{prompt}"),
        scoring=pl.lit(scoring),
        draw=pl.lit(draw),
        task=pl.lit(task),
        bos=pl.lit(begins, pl.Boolean),
    )


def check_format(config: dict[str, Any], scoring: str, model: str) -> None:
    """Raise a `UserError` where a model was trained to answer in a format that this scoring does not read.

    One that was trained on instruction data may answer in any.
    """
    if config["response_format"] not in (None, RESPONSE_FORMAT[scoring]):
        raise UserError(
            f"{model} was trained to answer in the format {config['response_format']!r}, but this task scores by {scoring}. "
            f"Ask with the task whose scoring reads that format."
        )


def find_folder(questions: str) -> Path:
    """A question set's folder; one that is not here is fetched from the Hub (its parquet files and card alone)."""
    if Path(questions).is_dir():
        return Path(questions)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(questions, repo_type="dataset", allow_patterns=["*.parquet", "README.md"]))
    except (OSError, HFValidationError, ValueError) as error:
        raise UserError(f"the question set {questions!r} is no folder here, and the Hub did not give it: {error}") from error


def read_trained(questions: str | Path, trained_on: str) -> pl.DataFrame:
    """The train questions that an instruction set's config (`FOLDER/CONFIG`) was written from, with the order of the choices
    that was trained on (`trained_order`).
    """
    folder, config = Path(trained_on).parent, Path(trained_on).name
    configs = read_configs(folder)
    if config not in configs:
        raise UserError(f"trained_on: {folder} has no config {config!r}; it has {', '.join(sorted(configs))}.")
    key = [*KEY, "question_hash"]
    trained = pl.read_parquet(configs[config]["train"])
    if "order" not in trained.columns:
        raise UserError(f"trained_on: {trained_on} is of an earlier version (it has no column 'order'). Build it again.")
    trained = trained.filter(pl.col("condition") != GENERAL)
    trained = trained.select(*key, pl.col("order").alias("trained_order"))
    domains = trained["domain"].unique().to_list()
    seen = read_questions(questions, domains, ["train"]).join(trained, on=key, how="inner", maintain_order="left")
    if seen.height < trained.height:
        raise UserError(
            f"trained_on: {trained.height - seen.height} of the {trained.height} questions in {trained_on} are not train "
            f"questions of {questions}. Name the question set that the instruction set was built from."
        )
    return seen


def add_contexts(asked: pl.DataFrame, contexts: str | None, task: str) -> pl.DataFrame:
    """The questions that have a context, with it in the column `context`; says how many have none.

    Raises:
        UserError: no contexts are named, one was written for another text of its question, or no question has one.
    """
    if not contexts:
        raise UserError(f"{task}: no contexts. Name a log of selfalign_context or JSON lines with {HOW_TO_GIVE_CONTEXTS}.")
    texts = read_generations(contexts, "context", allow_missing=True)
    texts = texts.select(*KEY, pl.col("text").alias("context"), pl.col("question_hash").alias("_hash"))
    joined = asked.join(texts, on=KEY, how="left", maintain_order="left")
    other = joined.filter(pl.col("_hash") != pl.col("question_hash"))
    if other.height:
        row = other.row(0, named=True)
        raise UserError(
            f"{contexts}: the context of {name_question(row)} was written for another text of this question "
            f"(hash {row['_hash']}, here {row['question_hash']}). Write the contexts for this question set."
        )
    found = joined.filter(pl.col("context").is_not_null()).drop("_hash")
    if not found.height:
        splits = ", ".join(sorted(set(asked["split"])))
        raise UserError(
            f"{task}: none of the {asked.height} questions (splits {splits}) has a context in {contexts}. Name the splits that "
            """they were written for, as in --metadata '{"splits": ["train"]}', or other contexts."""
        )
    if found.height < joined.height:
        logger.warning(
            "%s: %d of %d questions have no context and are not asked.", task, joined.height - found.height, joined.height
        )
    return found
