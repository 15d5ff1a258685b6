"""What lm-eval calls: where a task's questions come from, which demonstrations they get, and what is logged of an answer.

Every task of the pack is a short YAML file over `templates/_*.yaml`, which name these functions. `--metadata` gives the
values of a run: `questions` (folder or Hub id of a question set), and, where wanted, `domain`, `splits`, `trained_on`,
`draw`, `order`, `phase`; see README.md.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import polars as pl
from lm_eval.api.samplers import FirstNSampler
from lm_eval.api.task import ConfigurableTask

from lm_eval_tasks.manifest import UserError, read_manifest
from lm_eval_tasks.probes import read_probe
from lm_eval_tasks.prompts import RESPONSE_FORMAT
from lm_eval_tasks.questions import read_configs, read_questions, rotate_choices

HOW_TO_NAME = """--metadata '{"questions": "FOLDER_OR_HUB_ID"}'"""
CHAT_ENDING = " ASSISTANT:"


def load_questions(
    task: str,
    questions: str | None = None,
    pretrained: str = "",
    prompt: str = "probe",
    scoring: str = "letter",
    domain: str | Sequence[str] = (),
    splits: Sequence[str] = ("test",),
    trained_on: str | None = None,
    order: int = 0,
    draw: int = 0,
    phase: str | None = None,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """The questions that a task asks (`test`) and those it demonstrates with (`dev`), with the columns of a sample.

    Args:
        task: the task's name.
        questions: a question set: a folder, or a data set on the Hub.
        pretrained: the model that is asked, from `--model_args`; its manifest tells whether and on what it was tuned.
        prompt: `probe` (few-shot) or `chat`; set by the task.
        scoring: `letter` or `cloze`; set by the task.
        domain: one domain or several; all where empty.
        splits: the splits that are asked.
        trained_on: `FOLDER/CONFIG` of an instruction set whose train questions are asked again, choices turned by one (`seen`).
        order: how far the choices are turned before they are shown.
        draw: which demonstrations are taken: 0 the first, any other number a seeded shuffle.
        phase: overrides what the model's manifest says.

    Raises:
        UserError: the question set breaks its contract, or the model was trained to answer in another format.
    """
    if not questions:
        raise UserError(f"{task}: no question set. Name one with {HOW_TO_NAME}.")
    manifest = read_manifest(pretrained) or {}
    tuned = manifest.get("stage") == "train"
    if not tuned and (Path(pretrained) / "checkpoints").is_dir():
        raise UserError(
            f"{pretrained} holds a training run that has not ended. Run its command again; it goes on where it was."
        )
    if tuned and prompt == "chat":
        check_format(manifest["config"], scoring, pretrained)
    folder = find_folder(questions)
    domains = [domain] if isinstance(domain, str) else list(domain)
    asked = rotate_choices(read_questions(folder, domains, splits), order).with_columns(order=pl.lit(order))
    if trained_on:
        seen = rotate_choices(read_trained(folder, trained_on), order + 1).with_columns(order=pl.lit(order + 1))
        asked = pl.concat([asked.filter(pl.col("split") != "train"), seen])
    n = pl.col("choices").list.len().cast(pl.Int64)
    asked = asked.with_columns(
        order=pl.col("order") % n,
        answer=(pl.col("answer") - pl.col("order")) % n,
        model=pl.lit(str(pretrained)),
        run=pl.lit(manifest["run"] if tuned else ""),
        phase=pl.lit(phase or f"{'tuned' if tuned else 'base'}_{prompt}"),
        scoring=pl.lit(scoring),
        draw=pl.lit(draw),
        task=pl.lit(task),
    )
    dev = read_questions(folder, domains, ["dev"]) if prompt == "probe" else asked.head(0)
    return {"test": datasets.Dataset(asked.to_arrow()), "dev": datasets.Dataset(dev.to_arrow())}


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
    """The train questions that an instruction set's config (`FOLDER/CONFIG`) was written from."""
    folder, config = Path(trained_on).parent, Path(trained_on).name
    configs = read_configs(folder)
    if config not in configs:
        raise UserError(f"trained_on: {folder} has no config {config!r}; it has {', '.join(sorted(configs))}.")
    key = ["source", "domain", "id", "question_hash"]
    trained = pl.read_parquet(configs[config]["train"]).filter(pl.col("condition") != "general").select(key)
    domains = trained["domain"].unique().to_list()
    seen = read_questions(questions, domains, ["train"]).join(trained, on=key, how="semi")
    if seen.height < trained.height:
        raise UserError(
            f"trained_on: {trained.height - seen.height} of the {trained.height} questions in {trained_on} are not train "
            f"questions of {questions}. Name the question set that the instruction set was built from."
        )
    return seen


def check_format(config: dict[str, Any], scoring: str, model: str) -> None:
    """Raise a `UserError` where a model was trained to answer in a format that this scoring does not read."""
    if config["response_format"] != RESPONSE_FORMAT[scoring]:
        raise UserError(
            f"{model} was trained to answer in the format {config['response_format']!r}, but this task scores by {scoring}. "
            f"Ask with the task whose scoring reads that format."
        )


class QuestionTask(ConfigurableTask):
    """A multiple-choice task whose demonstrations come from the dev questions of the same source and domain as the question.

    `metadata.demonstrations_by` names the columns that a question and its demonstrations share; `draw` the demonstrations.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        config["metadata"] = config["metadata"] | {"task": config["task"]}
        super().__init__(config=config, **kwargs)
        self._samplers: dict[tuple[str, ...], FirstNSampler] = {}
        self._by = config["metadata"].get("demonstrations_by", ["source", "domain"])
        self._group_demonstrations(config["metadata"].get("draw", 0))

    def _group_demonstrations(self, draw: int) -> None:
        groups = defaultdict(list)
        for row in self.dataset["dev"]:
            groups[tuple(row[name] for name in self._by)].append(row)
        for group, rows in groups.items():
            if draw:
                random.Random(f"{draw} {group}").shuffle(rows)
            self._samplers[group] = FirstNSampler(rows)

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """The prompt of one question; as lm-eval's, with the demonstrations of the question's own group."""
        chat = self.config.metadata["prompt"] == "chat"
        if chat != bool(kwargs.get("apply_chat_template")):
            remedy = "add --apply_chat_template" if chat else "leave out --apply_chat_template"
            raise UserError(f"{self.config.task} is a {'chat' if chat else 'few-shot'} task: {remedy}.")
        if num_fewshot:
            group = tuple(doc[name] for name in self._by)
            self.sampler = self._samplers.get(group, FirstNSampler([]))
            if len(self.sampler.df) < num_fewshot:
                raise UserError(
                    f"{self.config.task}: {num_fewshot} demonstrations wanted for {'/'.join(group)}, but its dev split has "
                    f"{len(self.sampler.df)} questions. Add dev questions, or set --num_fewshot."
                )
        prompt = super().fewshot_context(doc, num_fewshot, **kwargs)
        if chat and not prompt.endswith(CHAT_ENDING):
            raise UserError(
                f"{self.config.task}: its chat template ends in {prompt[-20:]!r}, but training ends in {CHAT_ENDING!r}. "
                "Give the tokenizer the template that training uses, lm_eval_tasks/templates/vicuna.jinja."
            )
        return prompt


def log_probe(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Log the probe beside its question, and return the metrics of lm-eval's own result table."""
    try:
        probe = read_probe([loglikelihood for loglikelihood, _ in results], doc["answer"])
    except ValueError as error:
        raise UserError(f"{doc['task']}, {doc['source']}/{doc['domain']} id {doc['id']!r}: {error}.") from error
    doc.update(probe)
    return {"acc": float(probe["correct"]), "confidence": probe["confidence"], "choice_mass": probe["choice_mass"]}
