"""What the conditions of instruction sets differ in besides agreement: a balance table as in clinical trials, and a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from intervention.comparing.balance import (
    AGREEMENT,
    DIFFERENCE_SCHEMA,
    MARK,
    Spread,
    Summary,
    describe_balance,
    get_spread,
    list_measures,
    measure_differences,
    summarise_rows,
    write_smd,
)
from intervention.comparing.loveplot import plot_differences, write_figure
from intervention.instructions import INSTRUCTION_SCHEMA
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest
from lm_eval_tasks.contracts.markdown import escape_text, format_table
from lm_eval_tasks.contracts.questions import read_configs
from lm_eval_tasks.contracts.vocabulary import GENERAL, REFERENCE

CONDITIONS_A_TABLE = 4  # beside the reference
OLD = ("prompt", "completion", "condition", "domain", "agrees_with_belief", "agrees_with_gold")
NEW = ("gold_letter", "response_letter", "confidence", "explanation_from", "contradicts")
PERCENT = ("= belief", "= gold", "explained", "contradicts")
NOTE = (
    "Means (standard deviations) and percentages, of the rows that answer questions. SMD: standardised mean difference from "
    f"the reference, the first column of numbers; {MARK}: above 0.1 (Austin 2009). Of all letters or domains at once it is a "
    "distance, without a sign (Yang and Dalton 2012), which chance alone makes about {chance:.2f} of four letters in "
    "samples of this size. Conditions are made to differ in agreement, so it has none."
)

Groups = dict[str, list[str]]  # a reference -> the conditions that are compared with it


def compare_sets(
    folders: Sequence[Path], reference: str | None = None, output: Path | None = None, command: Sequence[str] = ()
) -> str:
    """Compare the conditions of one or several instruction sets.

    Args:
        folders: instruction sets, or folders with some of them somewhere below.
        reference: a condition's name: of each folder that has it, where several do; `incompatible`, else the first, where None.
        output: the folder to write: tables (CSV and parquet), the balance table (markdown) and a Love plot.
        command: the command line, for the manifest.

    Returns:
        The balance table as markdown.

    Raises:
        UserError: no instruction set, one from before a column was there, an unknown reference, nothing to compare, or the
            output cannot be written.
    """
    sets = find_sets(folders)
    summaries = read_conditions(sets)
    groups = group_conditions(list(summaries), reference)
    differences = pl.concat(
        measure_differences({name: summaries[name] for name in (own, *others)}, own).with_columns(reference=pl.lit(own))
        for own, others in groups.items()
    ).select("reference", *DIFFERENCE_SCHEMA)
    text = write_tables(summaries, groups, differences)
    if output:
        with write_folder(output) as folder:
            write_comparison(folder, describe_balance(summaries), differences, text)
            inputs = hash_inputs(instructions=sets)
            write_manifest(folder, "compare", list(command), {"references": groups}, inputs, {})
    return text


# --- reading


def find_sets(folders: Sequence[Path]) -> list[Path]:
    """The instruction sets that folders are or hold.

    Raises:
        UserError: a folder neither is nor holds one.
    """
    found: list[Path] = []
    for folder in folders:
        own = [folder] if (folder / "README.md").is_file() else [card.parent for card in sorted(folder.rglob("README.md"))]
        sets = [path for path in own if path == folder or _is_set(path)]
        if not sets:
            raise UserError(f"{folder} is no instruction set and holds none. `python -m intervention build` writes them.")
        found += [path for path in sets if path not in found]
    return found


def _is_set(folder: Path) -> bool:
    """Whether it looks like an instruction set, of whatever age; told apart from question sets and models."""
    try:
        files = [file for splits in read_configs(folder).values() for file in splits.values()]
    except UserError:
        return False
    return all(file.suffix == ".parquet" and "completion" in pl.read_parquet_schema(file) for file in files)


def read_conditions(sets: Sequence[Path]) -> dict[str, Summary]:
    """What is measured of each condition; conditions are named FOLDER/condition where two folders have the same name.

    Raises:
        UserError: a set lacks columns, or has no rows that answer questions.
    """
    found = {folder: {} for folder in sets}
    for folder in sets:
        for config, splits in read_configs(folder).items():
            rows = pl.concat(read_rows(file, folder) for file in splits.values())
            own = rows.filter(pl.col("condition") != GENERAL)["domain"].unique()
            if not len(own):
                raise UserError(f"{folder}: {config} has no row that answers a question, so there is nothing to compare.")
            label = config.removeprefix(f"{own[0]}_") if len(own) == 1 else config
            found[folder][config if label in found[folder] else label] = summarise_rows(rows)
    names = [name for conditions in found.values() for name in conditions]
    short = dict(zip(sets, name_folders(sets), strict=True)) if len(set(names)) < len(names) else {}
    return {
        f"{short[folder]}/{name}" if short else name: summary
        for folder, conditions in found.items()
        for name, summary in conditions.items()
    }


def read_rows(file: Path, folder: Path) -> pl.DataFrame:
    """The columns of an instruction set's file that are compared.

    Raises:
        UserError: it is no instruction set, or one from before a column was there.
    """
    have = pl.read_parquet_schema(file)
    if missing := [name for name in OLD if name not in have]:
        raise UserError(f"{folder} is no instruction set: {file} has no column {missing[0]!r}. Name a folder of `build`.")
    if missing := [name for name in NEW if name not in have]:
        raise UserError(f"{folder} was built before instruction sets had the column {missing[0]!r}. Build it again.")
    try:
        return pl.read_parquet(file, columns=[*OLD, *NEW]).select(pl.col(n).cast(INSTRUCTION_SCHEMA[n]) for n in (*OLD, *NEW))
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{file}: a column is not of the type that it has in an instruction set. {error}") from error


def name_folders(folders: Sequence[Path]) -> list[str]:
    """The shortest names that tell folders apart: their paths without the parts that all have first or last."""
    paths = [list(folder.absolute().parts) for folder in folders]
    if len({tuple(path[:2]) for path in paths}) > 1:
        # They have no folder in common but the root: what is shown to others begins where they part, not with somebody's home.
        least = next(n for n in range(1, max(map(len, paths)) + 1) if len({tuple(path[-n:]) for path in paths}) == len(paths))
        return ["/".join(path[-least:]).lstrip("/") for path in paths]
    while len({path[0] for path in paths}) == 1 and min(map(len, paths)) > 1:
        paths = [path[1:] for path in paths]
    while len({path[-1] for path in paths}) == 1 and min(map(len, paths)) > 1:
        paths = [path[:-1] for path in paths]
    return ["/".join(path) for path in paths]


def group_conditions(names: Sequence[str], reference: str | None) -> Groups:
    """Which conditions are compared with which: with the reference of their folder, or with the only one there is.

    Raises:
        UserError: no such condition, a folder without it where another has it, or nothing to compare it with.
    """
    wanted = reference or REFERENCE.name
    found = [name for name in names if name == wanted or name.endswith(f"/{wanted}")]
    if not found and reference:
        raise UserError(f"--reference {reference} is none of the conditions {', '.join(names)}.")
    found = found or [names[0]]
    groups: Groups = {name: [] for name in found}
    for name in (name for name in names if name not in groups):
        folder = name.rpartition("/")[0]
        near = found if len(found) == 1 else [own for own in found if own.rpartition("/")[0] == folder]
        if not near:
            raise UserError(f"{folder} has no condition {wanted}, but others have. Name one for all: --reference {found[0]}.")
        groups[near[0]].append(name)
    groups = {own: others for own, others in groups.items() if others}
    if not groups:
        raise UserError(f"{', '.join(names)}: there is no other condition to compare. Name another folder too.")
    return groups


# --- writing


def write_tables(summaries: Mapping[str, Summary], groups: Groups, differences: pl.DataFrame) -> str:
    """The balance tables as markdown, a few conditions beside their reference in each, and what they mean."""
    parts, sizes = [], []
    for reference, others in groups.items():
        own = {name: summaries[name] for name in (reference, *others)}
        sizes += [1 / summary.questions for summary in own.values()]
        marks = {
            (row["condition"], row["measure"]): write_smd(row)
            for row in differences.filter(pl.col("reference") == reference).iter_rows(named=True)
            if row["measure"] not in AGREEMENT
        }
        for start in range(0, len(others), CONDITIONS_A_TABLE):
            names = [reference, *others[start : start + CONDITIONS_A_TABLE]]
            parts.append(format_table(tabulate_conditions(own, names, marks)))
    # Four letters have three degrees of freedom; the expectation of a chi-squared variable is its degrees of freedom.
    chance = (3 * 2 * max(sizes)) ** 0.5
    return "\n\n".join([*parts, NOTE.format(chance=chance)])


def tabulate_conditions(
    summaries: Mapping[str, Summary], names: Sequence[str], marks: Mapping[tuple[str, str], str]
) -> pl.DataFrame:
    """One balance table as text: a row a measure, a column the reference, and two each other condition.

    Args:
        summaries: of all conditions that are compared with this reference, so that each table has the same rows.
        names: the reference, and the conditions of this table.
        marks: standardised differences as text.
    """
    measures = list_measures(summaries)
    rows = ["questions", "general instructions", *map(_name_row, measures)]
    # Where all are of one folder, it stands once, above the names of the rows.
    folders = {name.rpartition("/")[0] for name in summaries}
    folder = min(folders) if len(folders) == 1 else ""
    columns: dict[str, list[str]] = {escape_text(folder): rows}
    for number, name in enumerate(names):
        summary = summaries[name]
        sizes = [f"{summary.questions:,}", f"{summary.general or 0:,}"]
        columns[escape_text(name.removeprefix(f"{folder}/"))] = [
            *sizes,
            *(_write_value(summary, measure) for measure in measures),
        ]
        if number:
            columns["SMD" + " " * number] = ["", "", *(marks.get((name, measure), "") for measure in measures)]
    return pl.DataFrame(columns)


def _name_row(measure: str) -> str:
    if measure in ("gold letters", "says letters", "domains"):
        return measure
    return f"{measure}, %" if measure in PERCENT or len(measure.split()[-1]) == 1 else f"{measure}, mean (SD)"


def _write_value(summary: Summary, measure: str) -> str:
    spread = get_spread(summary, measure)
    if spread is None:
        return "–"
    if not isinstance(spread, Spread):
        return f"{len(spread)}" if measure == "domains" else ""
    if _name_row(measure).endswith("%"):
        return f"{100 * spread.mean:.1f}" + (f" of {spread.n:,}" if spread.n < summary.questions else "")
    digits = 3 if measure == "confidence" else 1
    return f"{spread.mean:.{digits}f} ({spread.variance**0.5:.{digits}f})"


def write_comparison(folder: Path, balance: pl.DataFrame, differences: pl.DataFrame, text: str) -> None:
    """Write tables, text and figure into a folder that exists."""
    for name, table in (("balance", balance), ("differences", differences)):
        write_parquet(table, folder / f"{name}.parquet")
        (folder / f"{name}.csv").write_text(table.write_csv(), encoding="utf-8")
    (folder / "balance.md").write_text(text + "\n\n![Love plot](loveplot.png)\n", encoding="utf-8")
    write_figure(plot_differences(differences), folder / "loveplot")
