"""The groups that the paper released, as a probe table, instruction sets and a question set of the contract's form.

Files of a group, JSON lines (plain or .gz), all of one model and one domain:

    consistent-correct-exp-sample     harmonious: pred = answer, output = answer
    inconsistent-golden-exp           incompatible: pred differs, output = answer
    inconsistent-predict-model-exp    self_aligning: pred differs, output = pred, explained by the model (`model_exp`)

`output` is the index of the choice that was trained on; the released `explanation` is gold's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from intervention.comparing.balance import describe_balance
from intervention.instructions import add_turns, write_instructions
from intervention.publishing.folders import check_config, write_dataset
from intervention.publishing.licences import Terms, find_terms
from intervention.sources.jsonlines import read_jsonl
from intervention.sources.origin import Origin
from intervention.sources.questions import write_questions
from intervention.texts.statements import find_contradictions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path, write_folder, write_parquet
from lm_eval_tasks.contracts.logs.probe_table import SUM_TOLERANCE, check_probes
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest
from lm_eval_tasks.contracts.markdown import format_table
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, check_questions, check_rows, check_unique, hash_questions
from lm_eval_tasks.contracts.rules import Rule
from lm_eval_tasks.contracts.vocabulary import THRESHOLD

FILES = {
    "harmonious": "consistent-correct-exp-sample.jsonl",
    "incompatible": "inconsistent-golden-exp.jsonl",
    "self_aligning": "inconsistent-predict-model-exp.jsonl",
}
RELEASED_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "question": pl.String,
        "choices": pl.List(pl.String),
        "answer": pl.Int64,
        "explanation": pl.String,
        "correct": pl.Boolean,
        "pred": pl.Int64,
        "probs": pl.List(pl.Float64),
        "golden_prob": pl.Float64,
        "pred_prob": pl.Float64,
        "output": pl.Int64,
        "model_exp": pl.String,
    }
)
SOURCE = "released"
RELEASE = "renmengjie7/self-aligning"  # as `licences` knows it


@dataclass(frozen=True)
class Group:
    """One folder of the release."""

    model: str
    domain: str
    files: Mapping[str, Path]  # condition -> file, of those that are there


def find_groups(folder: str | Path, model: str | None = None, domain: str | None = None) -> list[Group]:
    """The groups in a folder `.../<model>/<domain>`, or in a tree of such folders.

    Args:
        folder: one group's folder, or a tree.
        model: instead of the folder's name; for one group's folder only.
        domain: likewise.

    Raises:
        UserError: no released file at all, a file that is there twice, a name given for a tree.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Name the folder of a released group, or a tree of them.")
    names = {name + ending for name in FILES.values() for ending in ("", ".gz")}
    parents = sorted({file.parent for file in folder.rglob("*.jsonl*") if file.name in names})
    if not parents:
        raise UserError(f"{folder} holds no released group. Its files are {', '.join(FILES.values())} (or .gz).")
    if (model or domain) and parents != [folder]:
        raise UserError(f"{folder} is a tree of groups, so --model and --domain do not fit. Name one group's folder.")
    groups = []
    for parent in parents:
        own = parent.resolve()
        files = {condition: file for condition, name in FILES.items() if (file := _find_file(parent / name))}
        groups.append(Group(model or own.parent.name, check_config(domain or own.name, parent), files))
    return groups


def _find_file(plain: Path) -> Path | None:
    found = [file for file in (plain, plain.with_name(plain.name + ".gz")) if file.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[0]} is there plain and as .gz. Remove one of them.")
    return found[0] if found else None


def convert_released(
    folder: str | Path, output: str | Path, model: str | None = None, domain: str | None = None, command: Sequence[str] = ()
) -> pl.DataFrame:
    """Write the probe table, the instruction sets and the question set of released groups.

    One group goes to `output` itself, a tree of them to `output/<model>/<domain>`.

    Returns:
        One row a group and file: model, domain, condition, rows, and how many lack an explanation; null rows if it is missing.

    Raises:
        UserError: a row is not what its file's name promises, or the output cannot be written; see `find_groups`.
    """
    groups = find_groups(folder, model, domain)
    summary = []
    single = len(groups) == 1 and _is_group(folder)
    with write_folder(output) as scratch:
        for group in groups:
            target = scratch if single else scratch / group.model / group.domain
            if target != scratch and target.exists():
                raise UserError(f"{folder}: two groups are of {group.model}/{group.domain}. Give one of them at a time.")
            target.mkdir(parents=True, exist_ok=True)
            tables = read_group(group)
            probes = list_probes(group, tables)
            write_parquet(probes, target / "probes.parquet")
            write_sets(group, tables, target / "instructions")
            asked, hashes = probes.select(*QUESTION_SCHEMA, "split"), hash_inputs(**group.files)
            note = "All questions of the group are of the split train; the release has dev and test questions beside it."
            write_questions(asked, target / "questions", list(command), hashes, Origin([find_release_terms()], [note]))
            summary += [_summarize(group, condition, tables.get(condition)) for condition in FILES]
        config = {"groups": [f"{group.model}/{group.domain}" for group in groups]}
        inputs = {str(file.relative_to(folder)): hash_path(file) for group in groups for file in group.files.values()}
        write_manifest(scratch, "released", list(command), config, inputs, {})
    return pl.DataFrame(summary)


def _is_group(folder: str | Path) -> bool:
    return any(_find_file(Path(folder) / name) for name in FILES.values())


def _summarize(group: Group, condition: str, table: pl.DataFrame | None) -> dict[str, object]:
    rows = None if table is None else table.height
    bare = None if table is None else int((table["reason"].fill_null("").str.strip_chars() == "").sum())
    return {"model": group.model, "domain": group.domain, "condition": condition, "rows": rows, "unexplained": bare}


def read_group(group: Group) -> dict[str, pl.DataFrame]:
    """The rows of each file of a group: the question columns, the release's own, `question_hash`, and `reason`.

    Raises:
        UserError: a row breaks the contract of questions or is not what its file's name promises, or two files disagree.
    """
    tables = {condition: read_released(file, condition, group.domain) for condition, file in group.files.items()}
    check_agreement(tables, group)
    return tables


def read_released(file: Path, condition: str, domain: str) -> pl.DataFrame:
    """Read and check one released file."""
    table = read_jsonl(file, RELEASED_SCHEMA).with_columns(
        source=pl.lit(SOURCE), domain=pl.lit(domain), subject=pl.lit(None), topics=pl.lit([], dtype=pl.List(pl.String))
    )
    questions = check_questions(table, file)
    table = questions.with_columns(table.select("correct", "pred", "probs", "golden_prob", "pred_prob", "output", "model_exp"))
    table = table.with_columns(hash_questions(table))
    n, remedy = pl.col("choices").list.len(), "fetch the file again, or drop the row"
    for name in ("pred", "output", "probs"):
        check_rows(table, pl.col(name).is_null(), name, f"is missing; {remedy}", file)
    number = pl.element()
    for rule, name, complaint in (
        (pl.col("probs").list.len() != n, "probs", "are not one a choice"),
        (
            pl.col("probs").list.eval(number.is_null() | ~number.is_between(0, 1 + SUM_TOLERANCE)).list.any(),
            "probs",
            "are no probabilities",
        ),
        ((pl.col("probs").list.sum() - 1).abs() > SUM_TOLERANCE, "probs", "do not sum to 1"),
        *(
            ((pl.col(name) < 0) | (pl.col(name) >= n), name, "is not the 0-based index of a choice")
            for name in ("pred", "output")
        ),
    ):
        check_rows(table, rule, name, f"{complaint}; {remedy}", file)
    answered, right = pl.col("probs").list.get(pl.col("pred")), pl.col("pred") == pl.col("answer")
    promised = "pred" if condition == "self_aligning" else "answer"
    for rule, name, complaint in (
        (answered < pl.col("probs").list.max() - SUM_TOLERANCE, "pred", "is not the choice with the greatest of probs"),
        ((pl.col("pred_prob") - answered).abs() > SUM_TOLERANCE, "pred_prob", "is not what probs say of pred"),
        (
            (pl.col("golden_prob") - pl.col("probs").list.get(pl.col("answer"))).abs() > SUM_TOLERANCE,
            "golden_prob",
            "is not what probs say of answer",
        ),
        (pl.col("correct") != right, "correct", "is not whether pred equals answer"),
        (
            right != (condition == "harmonious"),
            "pred",
            f"{'differs from' if condition == 'harmonious' else 'equals'} answer, so the row is not {condition}",
        ),
        (pl.col("output") != pl.col(promised), "output", f"differs from {promised}, so the row is not {condition}"),
    ):
        check_rows(table, rule, name, f"{complaint}; {remedy}", file)
    check_unique(table, file)
    return table.with_columns(reason="model_exp" if condition == "self_aligning" else "explanation")


def check_agreement(tables: Mapping[str, pl.DataFrame], group: Group) -> None:
    """Raise a `UserError` where one id has different questions or probes in two files of a group."""
    first: pl.DataFrame | None = None
    for condition, table in tables.items():
        said = table.select("id", "question_hash", "pred", "probs", file=pl.lit(str(group.files[condition])))
        if first is not None:
            both = first.join(said, on="id", how="inner", suffix="_2", maintain_order="left")
            differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_2") for name in ("question_hash", "pred", "probs"))
            if (clash := both.filter(differs)).height:
                row = clash.row(0, named=True)
                raise UserError(
                    f"{row['file']} and {row['file_2']}: id {row['id']!r} has another question or probe in each. "
                    "Fetch them again."
                )
            said = said.join(first, on="id", how="anti", maintain_order="left")
        first = said if first is None else pl.concat([first, said])


def list_probes(group: Group, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The probe table of a group: each question once, harmonious first, with gold's explanation where a file has it."""
    rows = pl.concat(table.with_columns(_has=pl.col("explanation").is_not_null()) for table in tables.values())
    rows = rows.with_row_index("_row")
    kept = rows.sort(~pl.col("_has"), "_row").unique("id", keep="first", maintain_order=True)
    first = rows.group_by("id").agg(pl.col("_row").min().alias("_first"))
    kept = kept.join(first, on="id").sort("_first")
    constants = {"model": group.model, "run": "", "phase": "base_probe", "scoring": "letter", "task": SOURCE, "split": "train"}
    confidence = pl.col("probs").list.get(pl.col("pred"))
    probes = kept.with_columns(
        prediction="pred",
        confidence=confidence,
        correct=pl.col("pred") == pl.col("answer"),
        draw=0,
        order=0,
        **{name: pl.lit(value) for name, value in constants.items()},
    )
    return check_probes(probes, group.domain)


def write_sets(group: Group, tables: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """Write the instruction sets of a group, in the order of the release."""
    answered = {
        name: table.with_columns(
            choice="output",
            belief="pred",
            confidence=pl.col("probs").list.get(pl.col("pred")),
            condition=pl.lit(name),
            ratio=pl.lit(None, dtype=pl.Float64),
            belief_rule=pl.lit(str(Rule())),
            score=pl.lit("sum"),
            threshold=pl.lit(THRESHOLD),
            match=pl.lit("none"),
            context=pl.lit(None, dtype=pl.String),
            order=pl.lit(0, dtype=pl.Int64),
            explanation_from=_name_origin(name),
            contradicts=find_contradictions(table, "reason", "output"),
        )
        for name, table in tables.items()
    }
    rows = {name: write_instructions(add_turns(table, "letter"), "letter") for name, table in answered.items()}
    configs = {f"{group.domain}_{name}": {"train": table} for name, table in rows.items()}
    folder.mkdir()
    shown = {"balance": format_table(describe_balance(rows)), "group": group, "inputs": hash_inputs(**group.files)}
    written = [find_terms("explanations", group.model)] if "self_aligning" in tables else []
    write_dataset(folder, configs, "released.md.j2", terms=[find_release_terms(), *written], **shown)


def find_release_terms() -> Terms:
    """The terms of the released questions and of what explains their gold answers: the release names no licence."""
    return replace(find_terms("questions", RELEASE), source=SOURCE)


def _name_origin(condition: str) -> pl.Expr:
    """Who explains: null where nobody does."""
    blank = pl.col("reason").fill_null("").str.strip_chars() == ""
    return pl.when(~blank).then(pl.lit("model" if condition == "self_aligning" else "gold"))
