"""The page of `agree`: one HTML file that a person opens to see what clashes, with all text of the data as text."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from intervention.agreeing.evidence import KINDS_OF_EVIDENCE, list_kinds
from intervention.agreeing.measures import MEASURES
from intervention.agreeing.rows import TURN
from intervention.agreeing.shares import list_confidence, sort_confident
from intervention.agreeing.verdicts import NEEDED, VERDICTS
from intervention.conditions import shuffle_rows
from lm_eval_tasks.contracts.conversations.flaws import EXCLUDING, FLAWS, count_flaws
from lm_eval_tasks.contracts.conversations.reading import Conversations
from lm_eval_tasks.contracts.logs.readings import PROMPTS
from lm_eval_tasks.contracts.public import make_public

LIMIT = 2000  # rows on the page
PAGE_BYTES = 6_000_000
CHARACTERS = 2000  # of a text: of a prompt, and of a response before, at and after its conflict
SEED = 0  # of the order of rows that do not clash
SHOWN = [name for name in MEASURES if not name.startswith("span_") and name != "preferred"]
NUMBERS = (
    "ifd", "samples", "groups", "belief_share", "agree_share", "agree_low", "agree_high", "other_share", "probability",
    "contrast_nats",
)  # fmt: skip


def write_page(
    rows: pl.DataFrame,
    data: Conversations,
    model: str,
    told: Mapping[str, Mapping[str, int]],
    shares: pl.DataFrame,
    groups: Mapping[str, pl.DataFrame],
    limit: int = PAGE_BYTES,
) -> str:
    """The HTML page, in at most `limit` bytes: clashes first, the most confident at the top, then others in a random order.

    Args:
        rows: the row table with verdicts.
        data: the conversations that it is of.
        model: what the model that judged is called, as `name_model` finds it.
        told: a kind of evidence -> of how many turns it says each verdict, and of how many `nothing`.
        shares: of all turns, as `shares.share_verdicts` gives them.
        groups: of the turns by something: what it is called -> their shares, of which the first column names the group.
        limit: the size of the page, in bytes of UTF-8.
    """
    ordered = order_rows(rows)
    written = [dump_json(row) for row in pack_rows(ordered, data)]
    names = {"names": _COLUMNS, "numbers": list_numbers(rows), "measures": SHOWN, "prompts": list_prompts(rows)}
    names["kinds"] = list(told)
    context = {
        "judged": describe_data(data, model),
        "shares": shares.rows(named=True),
        "meanings": VERDICTS,
        "needed": NEEDED,
        "evidence": [{"name": kind, "words": KINDS_OF_EVIDENCE[kind], "counts": counts} for kind, counts in told.items()],
        "groups": [{"title": title, "groups": list_groups(table, shares)} for title, table in groups.items()],
        "limit": LIMIT,
    }

    def fill(held: int) -> str:
        missing = Counter(rows["verdict"]) - Counter(ordered["verdict"][:held])
        packed = dump_json(names)[:-1] + ',"rows":[' + ",".join(written[:held]) + "]}"
        own = {"held": held, "left": {name: missing[name] for name in VERDICTS if missing[name]}, "data": Markup(packed)}
        return _TEMPLATES.get_template("agreement.html.jinja").render(context | own)

    room = limit - len(fill(0).encode()) - 1000  # the words that differ by how many rows are held
    held = sum(size <= room for size in accumulate(len(row.encode()) + 1 for row in written))
    return fill(held)


def order_rows(rows: pl.DataFrame, limit: int = LIMIT) -> pl.DataFrame:
    """The first `limit` rows: clashes, the most confident first, then the others in an order that only the seed decides."""
    # A long table is not copied to be sorted.
    thin = rows.select(*TURN, "verdict", *list_confidence(rows)).with_row_index("_index")
    clashes = pl.col("verdict") == "clashes"
    first = sort_confident(thin.filter(clashes))
    ordered = pl.concat([first, shuffle_rows(thin.filter(~clashes), SEED, "page", TURN)])
    return rows[ordered["_index"][:limit]]


# The values of a row on the page. Of all that a table may lack there is null.
_COLUMNS = (
    "row", "turn", "turns", "before", "system", "id", "kind", "flaws", "prompt", "response", "claim", "belief", "expected",
    "in_parts", "verdict", "evidence", "says", "samples", "belief_share", "agree_share", "surprisal", "contrast_nats",
    "numbers", "measures",
)  # fmt: skip


def pack_rows(rows: pl.DataFrame, data: Conversations) -> Iterator[list[Any]]:
    """The values of rows (`_COLUMNS`), as the page's script reads them.

    A text is a pair: what is shown of it, and how many characters are not. A response is three: before its conflict, the
    conflict, and after it; without a conflict the third is all.
    """
    stand = data.turns.select(
        *TURN, turns=pl.len().over("row"), before=pl.col("messages").list.len() - 1, system=pl.col("system").is_not_null()
    )
    prompts, numbers, kinds = list_prompts(rows), list_numbers(rows), list_kinds(rows)
    for row in rows.join(stand, on=TURN, how="left", maintain_order="left").iter_rows(named=True):
        start, end = row.get("conflict_start"), row.get("conflict_end")
        start, end = (0, 0) if start is None or end is None else (start, end)
        response = row["response"]
        values = row | {
            "id": cut_text(row["id"]),
            "prompt": cut_text(row["asked"]),
            "response": [cut_text(response[:start], at_end=True), cut_text(response[start:end]), cut_text(response[end:])],
            "claim": row.get("claim") and cut_text(row["claim"]),
            "belief": row.get("belief") and cut_text(row["belief"]),
            "expected": row.get("expected") and cut_text(row["expected"]),
            "in_parts": not all(row.get(f"whole_{prompt}", True) for prompt in prompts),
            "says": [row[f"says_{kind}"] for kind in kinds],
            "surprisal": row[f"surprisal_nats_{prompts[0]}"] if prompts else None,
            "numbers": [row[name] for name in numbers],
            "measures": [[row[f"{name}_{prompt}"] for name in SHOWN] for prompt in prompts],
        }
        yield [values.get(name) for name in _COLUMNS]


def cut_text(text: str, at_end: bool = False) -> tuple[str, int]:
    """At most `CHARACTERS` of a text, from its beginning or up to its end, and how many others it has.

    >>> cut_text("sage")
    ('sage', 0)
    """
    left = max(len(text) - CHARACTERS, 0)
    return (text[left:] if at_end else text[:CHARACTERS]), left


def list_prompts(rows: pl.DataFrame) -> list[str]:
    """The prompts under which a row table has measures."""
    return [prompt for prompt in PROMPTS if f"surprisal_nats_{prompt}" in rows.columns]


def list_numbers(rows: pl.DataFrame) -> list[str]:
    """The numbers of a turn that a row table has."""
    return [name for name in NUMBERS if name in rows.columns]


def list_groups(table: pl.DataFrame, shares: pl.DataFrame) -> list[dict[str, Any]]:
    """The groups of a table of shares, the largest first: `name`, `n`, and `cells`, one a verdict, with their interval and
    whether it lies above the share of all turns (1), below it (-1), or around it (0)."""
    everywhere = dict(shares.select("verdict", "share").iter_rows())
    groups = []
    for (name,), part in table.group_by(table.columns[0], maintain_order=True):
        cells = [
            cell | {"differs": int(cell["low"] > everywhere[cell["verdict"]]) - int(cell["high"] < everywhere[cell["verdict"]])}
            for cell in part.iter_rows(named=True)
        ]
        groups.append({"name": name, "n": part["n"][0], "cells": cells})
    return sorted(groups, key=lambda group: -group["n"])


def describe_data(data: Conversations, model: str) -> dict[str, Any]:
    """What the page says of the data and the model, without a path of this machine."""
    path = Path(data.source)
    flaws = [
        {"rows": rows, "words": FLAWS[flaw], "excluded": flaw in EXCLUDING}
        for flaw, rows, _ in count_flaws(data.flaws).iter_rows()
    ]
    return {
        "data": path.resolve().name if path.exists() else make_public(data.source),
        "form": data.form.replace("_", "/"),
        "rows": data.rows.height,
        "turns": data.turns.height,
        "model": model,
        "flaws": flaws,
    }


def name_model(manifest: Mapping[str, Any]) -> str:
    """How the manifest of readings names their model, without a path.

    >>> name_model({"config": {"model": "/home/me/base", "adapter": None}})
    'base'
    """
    config = manifest["config"]
    return " + ".join(make_public([name for name in (config["model"], config.get("adapter")) if name]))


def dump_json(value: Any) -> str:
    """JSON that no text can leave: `<`, `>`, `&` and `'` are escaped. What is no finite number is null."""
    return str(htmlsafe_json_dumps(_round(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _round(item) for name, item in value.items()}
    return [_round(item) for item in value] if isinstance(value, (list, tuple)) else value


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("intervention.agreeing", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
