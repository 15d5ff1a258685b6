"""Where instruction data lies: files, folders of files, data sets of the Hub; each read as a table and as its own values."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lm_eval_tasks.contracts.conversations.objects import read_json, read_objects
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import FIT, MANIFEST
from lm_eval_tasks.contracts.questions import read_header

JSON = (".jsonl", ".ndjson", ".json")
ENDINGS = (*JSON, ".csv", ".tsv", ".parquet")
KINDS = "JSON lines or JSON (.jsonl, .json, also .gz), CSV (.csv, .tsv, also .gz) or parquet (.parquet)"
TRAIN = "train"  # the split that is read where there are several
# Files that tell of data and hold none.
_NO_DATA = (MANIFEST, FIT, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|dev|eval|test)(?:ing)?(?![a-z])", re.IGNORECASE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_PART = 10_000  # rows that are Python's own objects at a time


class Source(NamedTuple):
    """Data as it came."""

    table: pl.DataFrame
    # The values of some columns, row by row. Of JSON they are the file's own, where the table has one type a column.
    list_values: Callable[[Sequence[str]], Iterable[tuple[Any, ...]]]


def read_source(source: str | Path, split: str | None = None, config: str | None = None) -> Source:
    """Read a file, a folder of files, or a data set of the Hub.

    Args:
        source: a file (see `KINDS`); a folder whose card has a `configs:` header, or of such files; the id of a data set.
        split: which split; where None and there are several, `train`.
        config: which config of a folder or a data set; needed where there are several.

    Raises:
        UserError: it cannot be read, is empty, or has no such split or config.
    """
    path = Path(source)
    if path.is_file():
        if split is not None or config is not None:
            raise UserError(f"{source} is a file, which has no splits or configs. Leave the option out, or name a folder.")
        return read_file(path)
    if path.is_dir():
        return join_sources({file: read_file(file) for file in list_files(path, split, config)})
    if find_ending(path) or not _HUB_ID.fullmatch(str(source)):
        raise UserError(f"{source} is neither a file nor a folder. Name {KINDS}, a folder of these, or a data set of the Hub.")
    return read_hub(str(source), split or TRAIN, config)


def find_ending(file: Path) -> str | None:
    """The ending of `ENDINGS` that says what a file holds, or None.

    >>> find_ending(Path("herbs.v2.jsonl.gz")), find_ending(Path("README.md"))
    ('.jsonl', None)
    """
    name = file.name.lower().removesuffix(".gz")
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def read_file(file: Path) -> Source:
    """Read a file by its ending.

    Raises:
        UserError: it is of another kind, cannot be read, or is empty.
    """
    ending = find_ending(file)
    if ending is None:
        raise UserError(f"{file} is not of a kind that is read. Name {KINDS}.")
    is_json = ending in JSON
    found = Source(*read_json(file, may_be_list=ending == ".json")) if is_json else read_table(_read_table(file, ending))
    if not found.table.height:
        raise UserError(f"{file} is empty. Name a file that holds at least one row.")
    return found


def read_table(table: pl.DataFrame) -> Source:
    """A table whose values are its own."""

    def list_values(names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for part in table.select(names).iter_slices(_PART):
            yield from part.rows()

    return Source(table, list_values)


def join_sources(sources: Mapping[Path, Source]) -> Source:
    """The rows of several files, one after another; a column that one lacks is null there.

    Raises:
        UserError: they have a column of types that cannot be one.
    """
    if len(sources) == 1:
        return next(iter(sources.values()))
    kinds: dict[str, tuple[pl.DataType, Path]] = {}
    for file, part in sources.items():
        for name, kind in part.table.schema.items():
            known, first = kinds.setdefault(name, (kind, file))
            if not _fits(known, kind):
                raise UserError(f"{first} has {known} in the column {name!r}, but {file} has {kind}. Read them apart.")
            if known == pl.Null:
                kinds[name] = kind, file
    try:
        table = pl.concat([part.table for part in sources.values()], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"the files from {next(iter(sources))} on are not alike: {_shorten(error)}. Read them apart."
        ) from error

    def list_values(names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for part in sources.values():
            there = [name for name in names if name in part.table.columns]
            for values in part.list_values(there):
                yield values if there == names else tuple(map(dict(zip(there, values)).get, names))

    return Source(table, list_values)


def _fits(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether two types are one, but for keys that one lacks and the width of numbers: polars joins others too, as it may."""
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        kinds = {field.name: field.dtype for field in other.fields}
        return all(_fits(field.dtype, kinds.get(field.name, field.dtype)) for field in one.fields)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        return _fits(one.inner, other.inner)
    return one == other or pl.Null in (one, other) or (one.is_numeric() and other.is_numeric())


def list_files(folder: Path, split: str | None = None, config: str | None = None) -> list[Path]:
    """The files of one split of a folder: those that its card's `configs:` header names, or else those that it holds.

    Without a header a file is of the split that its path names (`data/train-00000-of-00002.parquet`). Where no split is asked
    for, it is the only one, or `train`; where no path names `train`, all files are read.

    Raises:
        UserError: no such config, split or file.
    """
    card = folder / "README.md"
    configs = read_header(card).get("configs") if card.is_file() else None
    if configs:
        return _list_named_files(folder, configs, split, config)
    if config is not None:
        raise UserError(f"{folder} has no configs: its README.md has no `configs:` in its header. Leave out the config.")
    there = [p for p in sorted(folder.rglob("*")) if find_ending(p) and p.is_file() and p.name not in _NO_DATA]
    splits: dict[str | None, list[Path]] = {}
    for file in there:
        path = file.relative_to(folder)
        if not any(part.startswith(".") for part in path.parts):
            found = _SPLIT.search(str(path))
            splits.setdefault(found[1].lower() if found else None, []).append(file)
    if not splits:
        raise UserError(f"{folder} holds no file of data. Name a folder of {KINDS}.")
    if split is None:
        return splits.get(TRAIN) or sorted(chain.from_iterable(splits.values()))
    if split not in splits:
        known = ", ".join(sorted(filter(None, splits))) or "none that a file is named after"
        raise UserError(f"{folder} has no split {split!r}; it has {known}.")
    return splits[split]


def _list_named_files(folder: Path, configs: Any, split: str | None, config: str | None) -> list[Path]:
    card = folder / "README.md"
    try:
        named = {str(entry.get("config_name", "default")): _list_splits(entry["data_files"]) for entry in configs}
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{card}: the `configs:` of its header name no files ({error!r}). Mend the header.") from error
    chosen = _choose("config", config, named, folder, "default")
    splits = named[chosen]
    patterns = splits[_choose("split", split, splits, f"{folder}, config {chosen!r}", TRAIN)]
    try:
        files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    except (NotImplementedError, ValueError, TypeError):  # an absolute path, or nothing
        files = []
    if not files:
        raise UserError(
            f"{card} names {', '.join(map(str, patterns))}, which does not exist. Fetch or write the data set again."
        )
    return files


def _list_splits(data_files: Any) -> dict[str, list[str]]:
    """What a header names as files: a text, several, or an object a split."""
    if isinstance(data_files, str):
        return {TRAIN: [data_files]}
    if all(isinstance(item, str) for item in data_files):
        return {TRAIN: list(data_files)}
    paths = {item["split"]: item["path"] for item in data_files}
    return {split: [path] if isinstance(path, str) else list(path) for split, path in paths.items()}


def _choose(what: str, asked: str | None, known: Mapping[str, Any], where: str | Path, usual: str) -> str:
    if asked is None and (len(known) == 1 or usual in known):
        return usual if usual in known else next(iter(known))
    if asked in known:
        return asked
    said = f"has several {what}s" if asked is None else f"has no {what} {asked!r}"
    raise UserError(f"{where} {said}: name one of {', '.join(known)} (--{what}).")


def read_hub(name: str, split: str, config: str | None) -> Source:
    """Read one split of a data set of the Hub.

    Raises:
        UserError: it cannot be read.
    """
    from lm_eval_tasks.contracts.published import load_split

    data = load_split(name, config, split)
    # What has several types is kept as JSON, which only the rows show as it was.
    return Source(*read_objects(data.to_list())) if "Json(" in repr(data.features) else read_table(data.to_polars())


def _read_table(file: Path, ending: str) -> pl.DataFrame:
    try:
        if ending == ".parquet":
            return pl.read_parquet(file)
        separator = "\t" if ending == ".tsv" else ","
        return pl.read_csv(file, infer_schema=False, empty_string_is_null=False, separator=separator)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} cannot be read: {_shorten(error)}. Fetch or write the file again.") from error


def _shorten(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
