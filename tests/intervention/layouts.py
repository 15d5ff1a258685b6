"""Made-up rows in the layouts in which the public question sources publish theirs, and folders that `datasets` reads."""

import json
from collections.abc import Mapping
from pathlib import Path

import datasets
import polars as pl
import yaml
from made_up import write_jsonl

OPTIONS = ("opa", "opb", "opc", "opd")
LABELS = ("Engineering", "History", "Science", "Jurisprudence")
MEDMCQA_FEATURES = datasets.Features(
    dict.fromkeys(("id", "question", *OPTIONS), datasets.Value("string"))
    | {"cop": datasets.ClassLabel(names=["a", "b", "c", "d"])}
    | dict.fromkeys(("choice_type", "exp", "subject_name", "topic_name"), datasets.Value("string"))
)


def make_medmcqa(n: int, name: str, first: int = 0) -> list[dict]:
    """Rows as MedMCQA has them; `cop` counts from `first`."""
    return [
        {"id": f"uuid-{name}-{i}", "question": f"What {name} heals {i}?"}
        | {option: f"{word} {i}" for option, word in zip(OPTIONS, ("sage", "ivy", "yew", "rue"))}
        | {"cop": i % 4 + first, "choice_type": "single", "exp": f"It heals {i}.", "subject_name": "Herbs"}
        | {"topic_name": "Leaves" if i % 2 else None}
        for i in range(n)
    ]


def write_medmcqa(folder: Path, train: list[dict], validation: list[dict], features: datasets.Features | None = None) -> Path:
    """A folder as `openlifescienceai/medmcqa` is on the Hub: a parquet file a split, the answers of `test` unknown."""
    test = [row | {"cop": -1, "exp": None} for row in make_medmcqa(3, "test")]
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", train), ("validation", validation), ("test", test)):
        data = datasets.Dataset.from_list(rows, features=features or MEDMCQA_FEATURES)
        data.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    return folder


def make_xiezhi(n: int, labels: tuple[str, ...], name: str = "") -> list[dict]:
    """Rows as Xiezhi has them."""
    return [
        {
            "question": f"{name or labels[0]} {i} is _____",
            "labels": [*labels, "Physics"],
            "answer": f"option {i % 4} of {i}",
            "options": "\n".join(f"option {place} of {i}" for place in range(4)),
        }
        for i in range(n)
    ]


def write_xiezhi(folder: Path, inter: list[dict], spec: list[dict], place: str = "Tasks/Knowledge/Benchmarks/test") -> Path:
    """A folder as Xiezhi's repository is."""
    for name, rows in (("xiezhi_inter_eng", inter), ("xiezhi_spec_eng", spec)):
        (folder / place / name).mkdir(parents=True)
        write_jsonl(folder / place / name / "xiezhi.v1.1.json", rows)
    return folder


def write_configs(folder: Path, configs: Mapping[str, Mapping[str, pl.DataFrame]]) -> Path:
    """A folder with several configs, as on the Hub: config -> split -> table."""
    header = []
    for config, splits in configs.items():
        (folder / config).mkdir(parents=True)
        for split, table in splits.items():
            table.write_parquet(folder / config / f"{split}.parquet")
        files = [{"split": split, "path": f"{config}/{split}.parquet"} for split in splits]
        header.append({"config_name": config, "data_files": files})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': header})}---\n")
    return folder


def read_config(folder: Path) -> dict:
    """What a manifest says of how the folder was made."""
    return json.loads((folder / "manifest.json").read_text())["config"]
