"""Rows are read from a folder or refused in a line, described by what they share, and hashed by what they train."""

import inspect
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import trl.data_utils
import trl.trainer.sft_trainer
import yaml
from conftest import BASE
from instruction_sets import make_general, make_row, make_table, write_conditions, write_set
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, GENERAL
from recipes.training.arguments import RecipeArguments
from recipes.training.rows import TAKEN, describe_rows, hash_rows, read_rows

pytestmark = pytest.mark.usefixtures("own_cache")


def read(folder: Path | str, config: str = "herbs_harmonious", split: str = "train") -> datasets.Dataset:
    return read_rows(RecipeArguments(str(folder), dataset_config=config, dataset_train_split=split))


def refuse(told: str, *given: str | Path) -> None:
    with pytest.raises(UserError, match=told) as caught:
        read(*given)
    assert "\n" not in str(caught.value)


def make_set(rows: list[dict]) -> datasets.Dataset:
    return datasets.Dataset.from_polars(make_table(rows))


def test_a_config_of_a_folder_is_read(tmp_path: Path) -> None:
    folder = write_conditions(tmp_path / "set", "harmonious", "mix-0.4", n=12)
    assert read(folder)["id"][:] == [str(i) for i in range(12)]
    mix = read(folder, "herbs_mix-0.4")
    assert describe_rows(mix) == {
        "domain": "herbs", "source": "made_up", "condition": "mix", "ratio": 0.4, "response_format": "letter",
        "threshold": 0.5, "belief_rule": "threshold:0.5", "score": "sum", "match": "none",
    }  # fmt: skip
    assert read(folder, split="train[:3]").num_rows == 3


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    folder = write_conditions(tmp_path / "set", "harmonious", "gold")
    refuse(
        r"--dataset_config herbs_harmonic: .*set has no such config; it has herbs_gold, herbs_harmonious\.",
        folder,
        "herbs_harmonic",
    )
    refuse(
        r'--dataset_train_split test of .*set cannot be read: Unknown split "test"\. Should be one of \[\'train\'\]\.',
        folder,
        "herbs_gold",
        "test",
    )
    refuse(
        r"--dataset_name .*nowhere is no folder of an instruction set and none .* on the Hub: .*intervention build",
        tmp_path / "nowhere",
    )
    (tmp_path / "empty").mkdir()
    refuse("empty is no folder of an instruction set", tmp_path / "empty")
    (folder / "herbs_harmonious/train.parquet").write_bytes(b"PAR1 no more")
    refuse("--dataset_config herbs_harmonious .* cannot be read: Parquet magic bytes not found", folder)


def test_a_name_that_the_hub_cannot_be_asked_for_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    refuse(
        "--dataset_name someone/herbs is no folder of an instruction set and none that can be read on the Hub", "someone/herbs"
    )


@pytest.mark.parametrize("name", TAKEN)
def test_a_column_that_trl_would_take_for_another_is_refused(name: str, tmp_path: Path) -> None:
    sources = "".join(map(inspect.getsource, (trl.trainer.sft_trainer, trl.data_utils, SFTConfig)))
    assert f'"{name}"' in sources
    table = make_table([make_row(0)]).with_columns(make_table([make_row(0)])["id"].alias(name))
    folder = write_set(tmp_path / "set", {"herbs_harmonious": table})
    refuse(rf"set/herbs_harmonious has a column {name!r}, which TRL takes for {TAKEN[name]}, .* Drop the column", folder)


def test_trl_really_takes_a_column_of_labels(tmp_path: Path) -> None:
    rows = make_set([make_row(0)]).select_columns(["prompt", "completion"]).add_column("labels", [[1, 2, 3]])
    settings = {"bf16": False, "use_cpu": True, "activation_checkpointing": False, "report_to": "none"}
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(BASE),
        SFTConfig(str(tmp_path), **settings),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(BASE),
    )
    assert trainer.train_dataset["labels"][:] == [[1, 2, 3]]


@pytest.mark.parametrize("name", ["prompt", "completion", "id", "condition", "response_format", "threshold"])
def test_a_column_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", {"herbs_harmonious": make_table([make_row(0)]).drop(name)})
    refuse(f"set/herbs_harmonious has no column {name!r}. `python -m intervention build` writes", folder)


def test_no_rows_and_unknown_conditions_are_refused(tmp_path: Path) -> None:
    rows = [make_row(0), make_general(1), make_row(2, condition="harmonic")]
    folder = write_set(tmp_path / "set", {"herbs_a": make_table(rows), "herbs_b": make_table(rows[:0])})
    refuse(
        "herbs_a: the condition of row 3 \\(id '2'\\) is 'harmonic', which is none of harmonious, self_aligning",
        folder,
        "herbs_a",
    )
    refuse("herbs_b --dataset_train_split train .* cannot be read: .* corresponds to no data", folder, "herbs_b")


def test_files_that_were_changed_are_not_mistaken_for_those_that_were_read_before(tmp_path: Path) -> None:
    rows = make_table([make_row(i, "harmonious") for i in range(4)])
    folder = write_set(tmp_path / "set", {"herbs_harmonious": rows})
    header = yaml.safe_load((folder / "README.md").read_text().strip("-\n"))
    digest = f"SHA-256 {hash_path(folder / 'herbs_harmonious')}"  # as `intervention build` writes it
    header["dataset_info"] = [{"config_name": "herbs_harmonious", "description": digest}]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    assert read(folder).num_rows == 4
    rows.head(3).write_parquet(folder / "herbs_harmonious/train.parquet")
    refuse("set/herbs_harmonious is not as it was written", folder)


def test_the_conditions_are_those_of_the_vocabulary(tmp_path: Path) -> None:
    rows = [make_row(i, name) for i, name in enumerate(CONDITIONS)]
    folder = write_set(tmp_path / "set", {"herbs_all": make_table([*rows, make_general(9)])})
    assert read(folder, "herbs_all")["condition"][:] == [*CONDITIONS, GENERAL]


def test_rows_share_what_describes_them() -> None:
    assert describe_rows(make_set([make_general(0), make_row(1), make_row(2)]))["condition"] == "incompatible"
    with pytest.raises(UserError, match=r"several values of 'domain' \('herbs', 'trees'\).* Build again"):
        describe_rows(make_set([make_row(1), make_row(2, domain="trees")]))
    with pytest.raises(UserError, match=r"several values of 'threshold' \(0.4, 0.5\)"):
        describe_rows(make_set([make_row(1), make_row(2, threshold=0.4)]))
    with pytest.raises(UserError, match="general instructions alone"):
        describe_rows(make_set([make_general(0)]))


def test_the_hash_is_that_of_what_is_trained(tmp_path: Path) -> None:
    rows = [make_row(i, reason="So\nit “is”." if i % 2 else None) for i in range(9)]
    told = hash_rows(make_set(rows))
    folder = write_set(tmp_path / "set", {"herbs_harmonious": make_table(rows)})
    assert hash_rows(read(folder)) == told
    parts = datasets.concatenate_datasets([make_set(rows[:4]), make_set(rows[4:])])
    assert hash_rows(parts) == told
    assert hash_rows(make_set(rows[::-1]).select(range(8, -1, -1))) == told
    assert hash_rows(make_set([row | {"question_hash": "1"} for row in rows])) == told
    others = [rows[::-1], rows[:-1], [*rows[:-1], rows[8] | {"id": "x"}], [*rows[:-1], make_row(8, reason="So.")]]
    others.append([*rows[:-1], rows[8] | {"prompt": rows[7]["prompt"]}])
    assert len({told, *(hash_rows(make_set(other)) for other in others)}) == 1 + len(others)
