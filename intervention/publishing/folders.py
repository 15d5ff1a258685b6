"""Write a data set folder: parquet files, and a card whose header lets `datasets.load_dataset(folder, config)` read them.

The header pins the features, so that a column of nulls has the type that the contract gives it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from intervention.publishing.cards import describe_set, render_card
from intervention.publishing.licences import Terms, choose_strictest
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path, write_parquet

# How `datasets` calls the types of a contract.
NAMES = {pl.String: "string", pl.Int64: "int64", pl.Float64: "float64", pl.Boolean: "bool"}


def check_config(name: str, where: str | Path) -> str:
    """The name of a config, which is also a folder's name.

    Raises:
        UserError: it could not be one.

    >>> check_config("herbs", "questions.jsonl")
    'herbs'
    """
    if not re.fullmatch(r"[^\W_][\w .&,()+-]*", name):
        raise UserError(
            f"{where}: {name!r} cannot be a domain, because it names a config and a folder. Use letters, digits and spaces, "
            "'-', '_' and '.', and begin with a letter or digit."
        )
    return name


def write_dataset(
    folder: Path,
    configs: Mapping[str, Mapping[str, pl.DataFrame]],
    template: str,
    *,
    licence: str | None = None,
    terms: Sequence[Terms] | None = None,
    **shown: Any,
) -> None:
    """Write `<config>/<split>.parquet` and the card into a folder that exists; equal tables give equal bytes.

    Args:
        folder: an empty folder.
        configs: name -> split -> table; all tables of a config have one schema.
        template: the card's text, a file of `templates/`.
        licence: that of the whole set, for the header; where None it is the strictest of `terms`, or none is named.
        terms: those of every part; what is known of their languages goes into the header.
        shown: what the template shows, beside `licence` and `terms`.
    """
    licence = licence or (choose_strictest(terms) if terms else None)
    rows = sum(table.height for splits in configs.values() for table in splits.values())
    header = describe_set(template, rows, licence, terms or ())
    header |= {"configs": [], "dataset_info": []}
    for name, splits in configs.items():
        schema = next(iter(splits.values())).schema
        files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits]
        header["configs"].append({"config_name": name, "data_files": files})
        (folder / name).mkdir()
        for split, table in splits.items():
            write_parquet(table, folder / name / f"{split}.parquet")
        # `datasets` caches a local folder by its header, not by its files: the hash makes it see that the files are others.
        digest = f"SHA-256 {hash_path(folder / name)}"
        info = {"config_name": name, "description": digest, "features": _list_features(schema)}
        header["dataset_info"].append(info)
    text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    card = render_card(template, shown | {"licence": licence, "terms": list(terms or ())})
    (folder / "README.md").write_text(f"---\n{text}---\n\n{card}\n", encoding="utf-8")


def _list_features(fields: Mapping[str, pl.DataType]) -> list[dict[str, Any]]:
    """The features as `datasets` writes them into a card."""
    return [{"name": name} | _name_feature(kind) for name, kind in fields.items()]


def _name_feature(kind: pl.DataType) -> dict[str, Any]:
    if isinstance(kind, pl.List):
        inner = kind.inner
        struct = isinstance(inner, pl.Struct)
        return {"list": _list_features({f.name: f.dtype for f in inner.fields}) if struct else NAMES[type(inner)]}
    return {"dtype": NAMES[type(kind)]}
