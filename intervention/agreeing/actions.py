"""What is done with the turns that clash: the data set is written anew in its own form, with verdicts, weights and masks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from intervention.agreeing.rows import TURN
from intervention.agreeing.verdicts import VERDICTS
from intervention.publishing.cards import describe_set, render_card
from intervention.publishing.licences import UNKNOWN, Terms, choose_strictest, find_terms
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.conversations.writing import write_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder
from lm_eval_tasks.contracts.logs.lines import parse_lines
from lm_eval_tasks.contracts.manifest import hash_inputs, write_manifest
from lm_eval_tasks.contracts.names import name_unknown

DATA = "data"  # the folder beside the row table
CLASHES = "clashes"
WORST = (CLASHES, "undecided", *(name for name in VERDICTS if name not in (CLASHES, "undecided")))
MASKED = pl.List(pl.Struct({"turn": pl.Int64, "start": pl.Int64, "end": pl.Int64}))
BEFORE = pl.List(pl.Struct({"turn": pl.Int64, "response": pl.String}))

Texts = dict[tuple[int, int], str]


@dataclass(frozen=True)
class Change:
    """What an action makes of the rows.

    Attributes:
        told: a sentence that counts what it did.
        columns: `row` and columns that take the place of the usual ones, of the rows that it changes.
        left_out: the numbers of the rows that it leaves out.
        responses: (row, turn) -> the response that takes the place of the one that is there.
    """

    told: str
    columns: pl.DataFrame | None = None
    left_out: frozenset[int] = frozenset()
    responses: Texts | None = None


def check_action(action: str, rewrites: Path | None) -> None:
    """Raise a `UserError` where there is no such action, or rewrites are named or not named as it needs them."""
    if unknown := name_unknown([action], ACTIONS):
        raise UserError(f"--action {unknown[0]} is none of {', '.join(ACTIONS)}.")
    if (action == "rewrite") != (rewrites is not None):
        needs = "needs the texts: --rewrites LOG" if rewrites is None else "takes no texts: leave out --rewrites"
        raise UserError(f"--action {action} {needs}.")
    if rewrites and not rewrites.is_file():
        raise UserError(f"--rewrites {rewrites} is no file. Name JSON lines with row, turn and text.")


def write_data(
    data: Conversations, rows: Path, action: str, output: Path, rewrites: Path | None = None, command: Sequence[str] = ()
) -> str:
    """Do something with the turns that clash, and write the data set in its own form, with a card and a manifest.

    Beside the data's columns stand, by row, `verdict` (the worst of its turns': clashes, undecided, then the others; null
    where none was judged), `weight` (0 to 1) and `masked` (spans of responses, in characters, that are to carry no loss), and
    where responses were rewritten `response_before`.

    Args:
        data: the conversations.
        rows: their row table (`rows.parquet`), with verdicts.
        action: a key of `ACTIONS`.
        output: the folder to write.
        rewrites: the texts of `rewrite`.
        command: the command line, for the manifest.

    Returns:
        A sentence that counts what was done.

    Raises:
        UserError: what `check_action` says; texts or shares are missing; the data has a column of a name that is written.
    """
    check_action(action, rewrites)
    table = pl.read_parquet(rows)
    clashing = table.filter(verdict=CLASHES)
    sentence, act = ACTIONS[action]
    texts = read_texts(rewrites) if rewrites else {}
    change = act(clashing, texts) if clashing.height else Change("no turn clashes, so that nothing was changed")
    extra = mark_rows(data, table, change.columns)
    kept = data.rows.filter(~pl.col("row").is_in(list(change.left_out)))["row"]
    if not kept.len():
        raise UserError("every row has a turn that clashes, so that --action drop would leave none. Take another action.")
    counts = {"rows": kept.len(), "turns": table.height, "clashing_turns": clashing.height}
    counts["clashing_rows"] = clashing["row"].n_unique()
    terms = [find_terms("instruction data", data.source)]
    terms += [Terms("rewritten responses", rewrites.name, UNKNOWN)] if rewrites else []
    licence = choose_strictest(terms)
    shown = {"action": action, "sentence": sentence, "told": change.told, "source": Path(data.source).name, **counts}
    shown |= {"verdicts": VERDICTS, "rewritten": change.responses is not None, "terms": terms, "licence": licence}
    with write_folder(output) as folder:
        template = "agreement.md.j2"
        header = describe_set(template, kept.len(), licence, terms)
        write_conversations(data, folder, kept, change.responses, extra, render_card(template, shown), header)
        config: dict[str, Any] = {"source": Path(data.source).name, "form": data.form, "action": action, **counts}
        config["terms"] = [asdict(part) for part in terms]
        write_manifest(folder, "action", list(command), config, hash_inputs(agreement=rows, rewrites=rewrites), {})
    return f"{action}: {change.told}"


def mark_rows(data: Conversations, table: pl.DataFrame, changed: pl.DataFrame | None = None) -> pl.DataFrame:
    """The columns that are written beside each row of the data: `verdict`, `weight` (1), `masked` (nothing), and more.

    Args:
        data: the conversations.
        table: their row table, with verdicts.
        changed: what stands there in some rows, after `row`.
    """
    ranks = {verdict: rank for rank, verdict in enumerate(WORST)}
    rank = pl.col("verdict").replace_strict(ranks, return_dtype=pl.Int64)
    worst = table.group_by("row").agg(pl.col("verdict").sort_by(rank).first())
    marked = data.rows.select("row").join(worst, on="row", how="left", maintain_order="left")
    if changed is not None:
        marked = marked.join(changed, on="row", how="left", maintain_order="left")
    for name, usual in (("weight", pl.lit(1.0)), ("masked", pl.lit([], MASKED))):
        marked = marked.with_columns((pl.coalesce(name, usual) if name in marked.columns else usual).alias(name))
    return marked.select("row", "verdict", "weight", "masked", pl.exclude("row", "verdict", "weight", "masked"))


def keep(clashing: pl.DataFrame, texts: Texts) -> Change:  # noqa: ARG001
    """Change nothing."""
    return Change(f"{_count(clashing)} stay as they are")


def drop(clashing: pl.DataFrame, texts: Texts) -> Change:  # noqa: ARG001
    """Leave out the rows."""
    return Change(f"{_count(clashing)} left out", left_out=frozenset(clashing["row"]))


def weigh(clashing: pl.DataFrame, texts: Texts) -> Change:  # noqa: ARG001
    """Weigh each row by 1 - `score`, the least of its turns'."""
    shares = clashing["score"] if "score" in clashing.columns else pl.Series([None] * clashing.height)
    if lacking := shares.null_count():
        row, turn = clashing.filter(shares.is_null()).select(*TURN).row(0)
        raise UserError(
            f"--action weight weighs by the probability of another answer, which {lacking} of {clashing.height} turns that "
            f"clash lack, the first in row {row}, turn {turn}. Ask them (--answers), or take another action."
        )
    weights = clashing.group_by("row", maintain_order=True).agg(weight=(1 - pl.col("score")).min())
    mean, least = weights["weight"].mean(), weights["weight"].min()
    return Change(f"{_count(clashing)} weighed less: {mean:.3f} on average, {least:.3f} at least", weights)


def mask(clashing: pl.DataFrame, texts: Texts) -> Change:  # noqa: ARG001
    """Mask the spans where the model overrules the response, and the whole response where there is none."""
    known = {name: pl.col(name) if name in clashing.columns else pl.lit(None) for name in ("conflict_start", "conflict_end")}
    spans = clashing.select(
        *TURN,
        start=known["conflict_start"].cast(pl.Int64),
        end=known["conflict_end"].cast(pl.Int64),
        length=pl.col("response").str.len_chars().cast(pl.Int64),
    )
    whole = spans["start"].null_count()
    spans = spans.with_columns(pl.col("start").fill_null(0), pl.col("end").fill_null(pl.col("length")))
    masked = spans.group_by("row", maintain_order=True).agg(masked=pl.struct("turn", "start", "end"))
    told = f"{_count(clashing)} masked: {spans.height - whole} where the model overrules them, {whole} as a whole"
    return Change(told, masked.cast({"masked": MASKED}))


def rewrite(clashing: pl.DataFrame, texts: Texts) -> Change:
    """Put other texts in the place of the responses, and keep these in `response_before`."""
    turns = clashing.select(*TURN).rows()
    if lacking := [turn for turn in turns if turn not in texts]:
        raise UserError(
            f"--rewrites has no text for {len(lacking)} of {len(turns)} turns that clash, the first in row {lacking[0][0]}, "
            f"turn {lacking[0][1]}. Write them, or take another action."
        )
    before = clashing.group_by("row", maintain_order=True).agg(response_before=pl.struct("turn", "response"))
    responses = {turn: texts[turn] for turn in turns}
    return Change(f"{_count(clashing)} rewritten", before.cast({"response_before": BEFORE}), responses=responses)


# Action -> what it does, for cards and the command line, and the function that does it.
ACTIONS: dict[str, tuple[str, Callable[[pl.DataFrame, Texts], Change]]] = {
    "keep": ("Nothing is changed.", keep),
    "drop": ("Rows with a turn that clashes are left out.", drop),
    "weight": (
        "A row with a turn that clashes has the weight 1 - s, where s is its score, the probability that the model gives to "
        "another answer (of several such turns, the least weight).",
        weigh,
    ),
    "mask": (
        "Of a response that clashes, the place where the model overrules it under both prompts is masked, and all of it where "
        "there is no such place.",
        mask,
    ),
    "rewrite": ("Responses that clash are replaced by other texts.", rewrite),
}


def read_texts(file: Path) -> Texts:
    """The texts of JSON lines with `row`, `turn` and `text`.

    Raises:
        UserError: a line is something else, or a turn has two texts.
    """
    texts: Texts = {}
    for line in parse_lines(file):
        value = line.value if isinstance(line.value, dict) else {}
        key, text = (value.get("row"), value.get("turn")), value.get("text")
        if any(type(number) is not int for number in key) or not isinstance(text, str) or not text.strip():
            raise UserError(f"{line.where} has no whole numbers `row` and `turn` and no `text` that says something. Mend it.")
        if texts.setdefault(key, text) != text:
            raise UserError(f"{line.where} has another text for row {key[0]}, turn {key[1]} than a line before. Leave one out.")
    return texts


def _count(clashing: pl.DataFrame) -> str:
    return f"{clashing.height} responses that clash, in {clashing['row'].n_unique()} rows,"
