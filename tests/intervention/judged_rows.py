"""Judged rows of made-up data, whose texts may hold anything, and their page."""

import json
from pathlib import Path

import polars as pl
from browser import HOSTILE, Elements

from intervention.agreeing.agree import count_verdicts
from intervention.agreeing.evidence import KINDS_OF_EVIDENCE
from intervention.agreeing.measures import MEASURES
from intervention.agreeing.page import write_page
from intervention.agreeing.rows import JUDGING
from intervention.agreeing.shares import share_verdicts
from intervention.agreeing.verdicts import judge
from lm_eval_tasks.contracts.conversations.reading import Conversations, read_conversations

SAYS = ("clashes", "agrees", "no_belief", None)
NAMED = ("alpha", "beta")
START, END = 3, 7  # of the conflicts, in characters


def make_data(folder: Path, texts: list[str]) -> Conversations:
    """Rows of the data whose prompt, response, id and source hold a text each."""
    lines = [
        {
            "id": f"{i} {text}",
            "prompt": f"{i}? {text}",
            "completion": f"so 🌿 {i} {text}",
            "source": f"{NAMED[i % 2]} {texts[0]}",
        }
        for i, text in enumerate(texts)
    ]
    file = folder / "my rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return read_conversations(file)


def make_rows(data: Conversations, belief: str = "") -> pl.DataFrame:
    """A judged row table of data: every fourth row clashes, agrees, is without belief, is undecided; one number is infinite."""
    i = pl.col("row")
    says = pl.Series(SAYS, dtype=pl.String)
    found = data.turns.select("row", "turn", "text_hash", "response", asked=pl.col("messages").list.last().struct["content"])
    ids = data.rows.select("row", id=data.ids)
    found = found.join(ids, on="row").with_columns(
        (pl.lit(says.gather(found["row"] % 4)).alias(f"says_{kind}") for kind in KINDS_OF_EVIDENCE),
        kind=pl.lit("fact"), flaws=pl.lit([], pl.List(pl.String)), samples=pl.lit(16), groups=pl.lit(2),
        conflict_start=pl.when(i % 4 == 0).then(START), conflict_end=pl.when(i % 4 == 0).then(END),
        expected=pl.when(i % 4 == 0).then(pl.format(" the {}", pl.lit(belief))),
        belief=pl.when(i % 4 != 3).then(pl.format("held {} {}", i, pl.lit(belief))),
        belief_share=pl.when(i % 4 != 3).then((i % 17) / 17), agree_share=pl.when(i % 4 != 3).then((i % 5) / 10),
        contrast_nats=pl.when(i % 4 != 3).then(5.0 - i), ifd=pl.when(i == 1).then(float("inf")).otherwise(0.5),
    )  # fmt: skip
    measures = [
        ((i * 0.5 + 1) if name == "surprisal_nats" else pl.lit(1)).cast(kind).alias(f"{name}_{prompt}")
        for prompt in JUDGING
        for name, kind in MEASURES.items()
    ]
    return judge(found.with_columns(measures))


def fill_page(rows: pl.DataFrame, data: Conversations, **options: int) -> str:
    told = {kind: count_verdicts(rows[f"says_{kind}"]) for kind in KINDS_OF_EVIDENCE}
    named = rows.join(data.rows.select("row", "source"), on="row")
    groups = {"the kind of row": share_verdicts(rows, ["kind"]), "source": share_verdicts(named, ["source"])}
    return write_page(rows, data, "me/base", told, share_verdicts(rows), groups, **options)


def read_rows(page: str) -> list[dict]:
    packed = json.loads(Elements(page).scripts[0])
    return [dict(zip(packed["names"], row, strict=True)) for row in packed["rows"]]


def write_hostile(folder: Path) -> tuple[Conversations, pl.DataFrame, Path]:
    """Sixty rows whose prompt, response, id, source and belief hold what could break a page, and that page."""
    data = make_data(folder, [HOSTILE] * 60)
    rows = make_rows(data, HOSTILE)
    (folder / "agreement.html").write_text(fill_page(rows, data), encoding="utf-8")
    return data, rows, folder / "agreement.html"
