"""Xiezhi (Gu et al. 2023), the paper's questions of engineering, history and jurisprudence, and the paper's split of them.

Its JSON lines have question, labels (disciplines), answer (the option's text) and options (joined by line breaks). The paper
(github.com/renmengjie7/Self-Aligning, `XieZhiBenchmark/cal.py` and `xiezhi2standard.py`) reads `xiezhi_inter_eng` and then
`xiezhi_spec_eng` of Xiezhi's repository, takes as a domain the rows that carry its label, in that order, and numbers them;
drops those without exactly four options; then seeds one generator with 42 and shuffles Engineering, History, Science and
Jurisprudence in turn: 250 test rows, 10 dev rows, the rest is train. The order within a split is the shuffle's, as there.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.publishing.folders import check_config
from intervention.sources.answers import find_text
from intervention.sources.jsonlines import read_jsonl
from intervention.sources.origin import Origin, drop_rows, find_all_terms, hash_table, join_words
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import check_questions, check_rows

SOURCE = "xiezhi"
ROW_SCHEMA = pl.Schema({"question": pl.String, "labels": pl.List(pl.String), "answer": pl.String, "options": pl.String})
# Where the files stand in Xiezhi's repository; the order is the paper's.
FILES = ("xiezhi_inter_eng/xiezhi.v1.1.json", "xiezhi_spec_eng/xiezhi.v1.1.json")
FOLDERS = (".", "Tasks/Knowledge/Benchmarks/test")
SEED, TEST, DEV, OPTIONS = 42, 250, 10, 4
# The labels in the order in which the paper shuffles them, and how many rows it shuffles.
PAPER_ROWS = {"Engineering": 5089, "History": 8958, "Science": 3872, "Jurisprudence": 6921}
DOMAINS = ("engineering", "history", "jurisprudence")  # those that the paper trains on
# SHA-256 over the `question_hash` of the paper's test questions in their order, which tells whether a split is the paper's.
PAPER_TEST = {"engineering": "24296f6ad4d83889", "history": "982ff126db09ecc0", "jurisprudence": "7cd4f2df16676f2c"}


def read_xiezhi(files: Sequence[str | Path], domains: Sequence[str] = ()) -> tuple[pl.DataFrame, Origin]:
    """Read Xiezhi: the question columns and `split`, in the order of the split, and their origin.

    Args:
        files: Xiezhi's repository or the folder of its benchmarks; or JSON lines in their order, of which one that is named
            after a label (`Engineering.jsonl`) holds that label's rows alone; or a folder of such files.
        domains: labels, in any case; the paper's domains, of those that are there, where empty.

    Raises:
        UserError: no such file, a row that cannot be read, or a domain that has no rows or too few.
    """
    sources = [source for name in files for source in find_files(Path(name))]
    tables = [(file, read_jsonl(file, ROW_SCHEMA)) for file in sources]
    labels = find_labels(tables)
    chosen = sorted({domain.lower() for domain in domains} or {domain for domain in DOMAINS if domain in labels})
    if unknown := [domain for domain in chosen if domain not in labels]:
        raise UserError(f"no row of {join_words(sources)} has the label {unknown[0]!r}; there are {join_words(labels, 40)}.")
    if not chosen:
        raise UserError(
            f"no row of {join_words(sources)} is of {', '.join(DOMAINS)}. Name another label with --domain: "
            f"{join_words(labels, 40)}."
        )
    paper = [label.lower() for label in PAPER_ROWS]
    # Whatever is chosen, all of the paper's labels are shuffled.
    kept = {name: take_label(tables, labels[name]) for name in dict.fromkeys([*paper, *chosen]) if name in labels}
    orders = shuffle_rows({name: table.height for name, (table, _) in kept.items()})
    parts, notes, dropped = [], [], {}
    for name in chosen:
        part = split_rows(kept[name][0], orders[name], name)
        notes.append(describe_split(part, name, {label: len(orders[label]) for label in paper}))
        # The paper keeps these rows, so they are shuffled with the others; but they cannot be asked.
        blank = pl.concat_list("question", "choices").list.eval(pl.element().fill_null("").str.strip_chars() == "").list.any()
        part, reasons = drop_rows(part, {f"{name}: a text is missing": blank})
        dropped |= {f"{name}: {reason}": count for reason, count in kept[name][1].items()} | reasons
        parts.append(part)
    table = pl.concat(parts)
    if twice := int((table["times"] > 1).sum()):
        notes.append(f"The answer stands twice among the options of {twice} rows; the first is gold, as in the paper.")
    table = check_questions(table, ", ".join(map(str, files))).with_columns(table["split"])
    notes += describe_overlap(table)
    config = {"name": SOURCE, "domains": chosen}
    return table, Origin(find_all_terms(table), notes, dropped, (SOURCE,), config, {"split": SEED})


def find_files(path: Path) -> list[Path]:
    """The files of Xiezhi that a word of the command line names, in the order in which they are read."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise UserError(
            f"{path} does not exist. Clone github.com/MikeGu721/XiezhiBenchmark and name its folder, or name files."
        )
    for folder in FOLDERS:
        files = [path / folder / name for name in FILES]
        if all(file.is_file() for file in files):
            return files
    if files := [file for file in sorted(path.glob("*.json*")) if name_label(file)]:
        return files
    raise UserError(
        f"{path} holds neither {' and '.join(FILES)} (here or in {FOLDERS[1]}) nor files that are named after a label "
        f"({', '.join(f'{label}.jsonl' for label in PAPER_ROWS)}). Name Xiezhi's repository, or the files themselves."
    )


def name_label(file: Path) -> str | None:
    """The one of the paper's labels that a file is named after."""
    names = {label.lower(): label for label in PAPER_ROWS}
    return names.get(file.name.partition(".")[0].lower())


def find_labels(tables: Sequence[tuple[Path, pl.DataFrame]]) -> dict[str, str]:
    """The labels of which there are rows, by their names in small letters; the most frequent first."""
    found = [
        pl.Series([name_label(file)] * table.height, dtype=pl.String) if name_label(file) else table["labels"].explode()
        for file, table in tables
    ]
    counts = pl.concat([series.alias("label") for series in found]).drop_nulls().value_counts()
    labels: dict[str, str] = {}
    for label in counts.sort("count", "label", descending=[True, False])["label"]:
        labels.setdefault(label.lower(), label)  # of spellings that differ in their capitals, the most frequent
    return labels


def take_label(tables: Sequence[tuple[Path, pl.DataFrame]], label: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """The questions of one label in the order of the files, and how many rows are left out for which reason.

    Returns:
        The questions, whose `id` is the row's number, with `times`, how often the answer is among the choices; the counts.
    """
    parts = []
    for file, table in tables:
        own = name_label(file)
        if own == label:
            check_rows(
                table, ~pl.col("labels").list.contains(label), "labels", f"lack {label!r}, after which the file is named", file
            )
            parts.append(table)
        elif own is None:
            # A row that carries a label twice stands twice, as in the paper.
            parts.append(table.with_columns(_label="labels").explode("_label").filter(pl.col("_label") == label).drop("_label"))
    rows = pl.concat(parts).with_columns(choices=pl.col("options").str.split("\n"))
    found = find_text(rows)
    table = rows.select(
        "question",
        "choices",
        id=pl.int_range(pl.len()).cast(pl.String),
        source=pl.lit(SOURCE),
        domain=pl.lit(label.lower()),
        subject=pl.lit(None, pl.String),
        answer=found["position"],
        explanation=pl.lit(None, pl.String),
        topics="labels",
        times=found["times"],
    )
    return drop_rows(
        table,
        {
            f"not exactly {OPTIONS} options": pl.col("choices").list.len() != OPTIONS,
            "the answer is none of the options": pl.col("times") == 0,
        },
    )


def shuffle_rows(rows: Mapping[str, int]) -> dict[str, list[int]]:
    """The paper's order of the rows of each domain; a label that the paper does not split has a generator of its own.

    Args:
        rows: a domain -> how many rows it has. One of the paper's four that is missing counts as in the paper, because the
            order of the later ones depends on how many rows were shuffled before them.
    """
    generator, orders = random.Random(SEED), {}
    for label, count in PAPER_ROWS.items():
        orders[label.lower()] = list(range(rows.get(label.lower(), count)))
        generator.shuffle(orders[label.lower()])
    for name in rows.keys() - orders.keys():
        orders[name] = list(range(rows[name]))
        random.Random(f"{SEED} {name}").shuffle(orders[name])
    return orders


def split_rows(table: pl.DataFrame, order: Sequence[int], name: str) -> pl.DataFrame:
    """The rows in the shuffled order, with their split.

    Raises:
        UserError: too few rows for a train split.
    """
    if table.height <= TEST + DEV:
        raise UserError(
            f"{name} has {table.height} rows with {OPTIONS} options; more than {TEST + DEV} are needed for the split."
        )
    check_config(name, "labels")
    position = pl.int_range(pl.len())
    held_out = pl.when(position < TEST).then(pl.lit("test")).when(position < TEST + DEV).then(pl.lit("dev"))
    return table[list(order)].with_columns(split=held_out.otherwise(pl.lit("train")))


def describe_split(table: pl.DataFrame, name: str, rows: Mapping[str, int]) -> str:
    """A sentence that says whether a domain's split is the paper's.

    Args:
        table: the domain's rows with their split.
        name: the domain.
        rows: how many rows were shuffled of each of the paper's four labels.
    """
    theirs = {label.lower(): count for label, count in PAPER_ROWS.items()}
    if name not in theirs:
        return f"{name}: the paper does not split it; it is split here in the paper's way."
    if name in PAPER_TEST and hash_table(table.filter(pl.col("split") == "test")) == PAPER_TEST[name]:
        return f"{name}: the split is the paper's (its {TEST} test questions, in its order)."
    before = list(theirs)[: list(theirs).index(name) + 1]  # what is shuffled later does not matter
    others = [
        f"{label} has {rows[label]:,}, in the paper {theirs[label]:,}" for label in before if rows[label] != theirs[label]
    ]
    if not others and name not in PAPER_TEST:
        return f"{name}: split in the paper's way, from as many rows as the paper's."
    why = f"rows with {OPTIONS} options: {'; '.join(others)}" if others else "the rows or their order differ"
    return f"{name}: the split is NOT the paper's ({why})."


def describe_overlap(table: pl.DataFrame) -> list[str]:
    """A sentence on questions that stand in several domains, because a row can have several labels."""
    several = (
        table.group_by("question", "choices")
        .agg(
            pl.col("domain").n_unique().alias("domains"),
            tested=(pl.col("split") == "test").any(),
            other=(pl.col("split") != "test").any(),
        )
        .filter(pl.col("domains") > 1)
    )
    mixed = several.filter("tested", "other").height
    if not several.height:
        return []
    return [
        f"{several.height:,} questions stand in several domains, because a row can have several labels; {mixed:,} of them are "
        "test questions of one domain and train or dev questions of another: take one domain at a time, or drop them."
    ]
