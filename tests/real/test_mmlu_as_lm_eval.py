"""MMLU asked by this pack and by lm-eval's own `mmlu` tasks: the same prompts, questions, log-likelihoods and accuracy.

The pack's own prompt differs in two things, which a task that includes it sets as lm-eval's: the description lacks "(with
answers)", and a demonstration answers with the letter and the text of the choice where lm-eval's has the letter alone. Besides,
lm-eval strips white space around questions, of which this pack changes nothing.
"""

from pathlib import Path

import lm_eval
import polars as pl
import pytest
import yaml
from conftest import ROOT
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

import lm_eval_tasks.models.prefix  # noqa: F401 (registers hf-prefix)
from lm_eval_tasks.contracts.subjects import MMLU_DOMAIN

pytestmark = pytest.mark.launched

OURS = {
    "task": "mmlu_as_lm_eval",
    "include": str(ROOT / "lm_eval_tasks/templates/_mmlu_probe.yaml"),
    "description": "The following are multiple choice questions (with answers) about {{subject_name}}.\n\n",
    "fewshot_config": {"split": "dev"},
}
SUBJECTS = ("abstract_algebra", "conceptual_physics", "management", "miscellaneous")  # those with the shortest prompts
EACH = 10
SHOTS = 5


def write_bank(bank: Path, folder: Path, subjects: tuple[str, ...], limit: int) -> Path:
    """The test and dev questions of some subjects of MMLU as on the Hub: a config a subject, and `all` of them.

    Args:
        bank: the whole of MMLU, as parquet files.
        folder: where they are written.
        subjects: those that are taken.
        limit: how many test questions of each.
    """
    configs = {}
    for split, most in (("test", limit), ("dev", SHOTS)):
        rows = pl.read_parquet(bank / f"all/{split}-*.parquet")
        parts = {subject: rows.filter(subject=subject).head(most) for subject in subjects}
        for config, table in {"all": pl.concat(parts.values()), **parts}.items():
            (folder / config).mkdir(parents=True, exist_ok=True)
            table.write_parquet(folder / config / f"{split}.parquet")
            configs.setdefault(config, []).append({"split": split, "path": f"{config}/{split}.parquet"})
    header = {"configs": [{"config_name": config, "data_files": files} for config, files in configs.items()]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    return folder


def load_tasks(folder: Path, configs: list[dict], **metadata: str) -> dict[str, Task]:
    """Tasks by their files, which a user wrote: each includes another file, and sets what is to be otherwise."""
    folder.mkdir()
    for config in configs:
        (folder / f"{config['task']}.yaml").write_text(yaml.safe_dump(config))
    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata)
    return manager.load([config["task"] for config in configs])["tasks"]


def load_both(bank: Path, subjects: tuple[str, ...], folder: Path) -> tuple[dict[str, Task], dict[str, Task]]:
    """lm-eval's own tasks of some subjects, of a folder in place of the Hub; and the pack's task of all that the folder has."""
    mmlu = Path(lm_eval.__file__).parent / "tasks/mmlu/default"
    theirs = [
        {"task": f"mmlu_{name}", "include": str(mmlu / f"mmlu_{name}.yaml"), "dataset_path": str(bank), "num_fewshot": SHOTS}
        for name in subjects
    ]
    return load_tasks(folder / "theirs", theirs), load_tasks(folder / "ours", [OURS], mmlu=str(bank))


def list_requests(tasks: dict[str, Task]) -> list[tuple[str, str]]:
    """The prompts and continuations of all questions, in their order."""
    for task in tasks.values():
        task.build_all_requests()
    return [item.args for task in tasks.values() for item in task.instances]


def ask(tasks: dict[str, Task], model: str, folder: Path) -> pl.DataFrame:
    """What a model answers: `loglikelihoods` and `correct` of every question, in their order."""
    found = lm_eval.simple_evaluate(
        model=model,
        model_args={"pretrained": str(folder), "dtype": "float32", "device": "cpu"},
        tasks=list(tasks.values()),
        batch_size=4,
        bootstrap_iters=0,
    )["samples"]
    rows = [row for name in tasks for row in sorted(found[name], key=lambda row: row["doc_id"])]
    return pl.DataFrame(
        {"loglikelihoods": [answer[0] for answer in row["filtered_resps"]], "correct": float(row["acc"])} for row in rows
    )


def test_every_prompt_is_lm_evals_but_for_white_space_around_a_question(banks, tmp_path):
    subjects = tuple(sorted(MMLU_DOMAIN))
    bank = write_bank(banks / "mmlu", tmp_path / "mmlu", subjects, EACH)
    theirs, ours = map(list_requests, load_both(bank, subjects, tmp_path))
    assert len(theirs) == len(ours) == 4 * 57 * EACH
    assert [" ".join("".join(pair).split()) for pair in ours] == [" ".join("".join(pair).split()) for pair in theirs]
    rows = pl.concat(
        pl.read_parquet(bank / f"all/{split}.parquet").with_columns(split=pl.lit(split)) for split in ("test", "dev")
    )
    blank = pl.col("question").str.strip_chars() != pl.col("question")
    shown = rows.filter(blank, split="dev")["subject"].unique()
    padded = rows.filter(split="test").select(blank | pl.col("subject").is_in(shown.to_list())).to_series()
    differ = [one != two for one, two in zip(ours[::4], theirs[::4], strict=True)]
    assert differ == padded.to_list()
    assert 0 < sum(differ) < 1500


@pytest.mark.parametrize(("kind", "subjects"), [("hf-prefix", SUBJECTS), ("hf", SUBJECTS[:1])])
def test_a_real_models_answers_are_those_that_lm_evals_own_tasks_get(banks, smollm, tmp_path, kind, subjects):
    bank = write_bank(banks / "mmlu", tmp_path / "mmlu", subjects, EACH)
    theirs, ours = load_both(bank, subjects, tmp_path)
    assert list_requests(theirs) == list_requests(ours)
    one, two = ask(theirs, "hf", smollm), ask(ours, kind, smollm)
    assert one.height == two.height == EACH * len(subjects)
    for mine, its in zip(two["loglikelihoods"], one["loglikelihoods"], strict=True):
        assert mine.to_list() == pytest.approx(its.to_list(), abs=1e-4)
    assert two["correct"].to_list() == one["correct"].to_list()
    assert 0 < one["correct"].sum() < one.height
