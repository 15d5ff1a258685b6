"""From instruction data, its readings and what the model answers itself to the row table, verdicts and their shares."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from intervention.agreeing.asking import read_own_answers, read_own_probes
from intervention.agreeing.evidence import (
    KINDS_OF_EVIDENCE,
    join_turns,
    list_kinds,
    list_questions,
    weigh_answers,
    weigh_contrast,
    weigh_tokens,
)
from intervention.agreeing.judging import read_judgements
from intervention.agreeing.page import name_model, write_page
from intervention.agreeing.rows import make_rows
from intervention.agreeing.shares import find_groups, list_first, share_verdicts
from intervention.agreeing.verdicts import judge
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder, write_parquet
from lm_eval_tasks.contracts.logs.readings import read_token_texts, scan_readings
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest

PAGE = "agreement.html"


def write_agreement(
    data: Conversations,
    readings: Path,
    output: Path,
    answers: Path | None,
    probes: Sequence[Path],
    judgements: Sequence[Path],
    command: list[str],
) -> list[tuple[str, pl.DataFrame]]:
    """Judge the turns of instruction data; write the row table (`rows.parquet`), a page (`agreement.html`) and a manifest.

    Args:
        data: the conversations.
        readings: a folder of readings.
        output: the folder.
        answers: what the model answers itself, if it was asked.
        probes: logs of these answers as choices, if they were probed.
        judgements: logs of what the model holds for true (`judging.py`), if it was asked.
        command: the command line, for the manifest.

    Returns:
        The tables that are shown, each with its title.

    Raises:
        UserError: readings, answers or probes of other data.
    """
    rows, read = judge_turns(data, readings, answers, probes, judgements)
    told = {kind: count_verdicts(rows[f"says_{kind}"]) for kind in list_kinds(rows)}
    shares = share_verdicts(rows)
    names = {name: f"data's {name}" for name in find_groups(data)}
    named = rows.join(data.rows.select("row", *(pl.col(name).alias(own) for name, own in names.items())), on="row")
    groups = {"the kind of row": share_verdicts(rows, ["kind"])}
    groups |= {name: share_verdicts(named, [own]) for name, own in names.items()}
    with write_folder(output) as folder:
        write_parquet(rows, folder / "rows.parquet")
        page = write_page(rows, data, name_model(read), told, shares, groups)
        (folder / PAGE).write_text(page, encoding="utf-8")
        inputs = hash_inputs(readings=readings, answers=answers, probes=probes, judgements=judgements)
        config = {"source": Path(data.source).name, "form": data.form, "turns": rows.height}
        write_manifest(folder, "agree", command, config, inputs, {})
    sayings = pl.DataFrame([{"evidence": KINDS_OF_EVIDENCE[kind]} | counts for kind, counts in told.items()])
    tables = [("What each kind of evidence says (turns)", sayings), ("Verdicts (intervals: 95%, Wilson)", shares)]
    tables += [(f"Verdicts by {name}", table) for name, table in groups.items()]
    if (first := list_first(rows)).height:
        tables.append(("Clashes to look at first", first))
    return tables


def judge_turns(
    data: Conversations, readings: Path, answers: Path | None, probes: Sequence[Path], judgements: Sequence[Path] = ()
) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """The row table with evidence and verdicts, and the manifest of the readings.

    Raises:
        UserError: readings, answers or probes of other data or of another model; probes without the answers that they are of.
    """
    scanned, manifest = scan_readings(readings)
    rows = weigh_tokens(make_rows(data, scanned, str(readings), read_token_texts(readings)))
    if probes and not answers:
        raise UserError("--probes are of the model's own answers as choices: name these too (--answers answers.parquet).")
    model = manifest["config"]["model"]
    own = read_own_answers(answers, rows, model) if answers else None
    judged = read_judgements(judgements, rows, own, model) if judgements else None
    if own is None and judged is None:
        return judge(rows), manifest
    known = list_questions(rows, [table for table in (own, judged) if table is not None])
    if own is not None:
        known = weigh_answers(known, own)
        if probes:
            known = weigh_contrast(known, own, read_own_probes(probes, own, answers))
    if judged is not None:
        known = known.join(judged, on="id", how="left", maintain_order="left")
    return judge(join_turns(rows, known)), manifest


def count_verdicts(says: pl.Series) -> dict[str, int]:
    """How many turns a kind of evidence says each verdict of, and of how many it says nothing."""
    counts = dict(says.drop_nulls().value_counts().iter_rows())
    return {name: counts.get(name, 0) for name in ("clashes", "agrees", "style", "no_belief")} | {"nothing": says.null_count()}
