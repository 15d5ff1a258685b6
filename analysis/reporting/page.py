"""The report's page and its markdown twin: templates filled, everything escaped, and the page kept below its size."""

from bisect import bisect_right
from typing import Any

import jinja2
import polars as pl
from jinja2.utils import htmlsafe_json_dumps

from analysis.chapters.headline import VERDICTS
from analysis.measures.states import name_thresholds
from analysis.reading.study import Study
from analysis.reporting.explorer import LIMIT, pack_moved, unpack_moved
from analysis.showing.tables import write_markdown
from lm_eval_tasks.contracts.markdown import escape_text
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, EVALUATION_SETS, name_set

PAGE_BYTES = 5_000_000
EXPLORER_BYTES = 1_500_000  # what figures and tables leave to the explorer
PLAIN = 20  # answers that stand in the page for readers without JavaScript


def collect_words(study: Study) -> dict[str, Any]:
    """What the page explains: the study's conditions, evaluation sets and verdicts."""
    held = set(study.runs["condition"])
    conditions = [
        (c.label, c.colour, f"{c.sentence[0].upper()}{c.sentence[1:]}.") for c in CONDITIONS.values() if c.name in held
    ]
    evaluations = [(name_set(name), text) for name, text in EVALUATION_SETS.items()]
    return {"conditions": conditions, "splits": evaluations, "verdicts": VERDICTS}


def write_page(context: dict[str, Any], moved: pl.DataFrame, asked: int, limit: int = PAGE_BYTES) -> str:
    """The HTML page, in fewer than `limit` bytes.

    Where there is too much, figures and tables of the last parts are linked instead of shown until the explorer has its
    share; then the explorer holds fewer answers. The page says either.

    Args:
        context: what the template needs but for the explorer; `linked` is set on its parts.
        moved: the explorer's answers, as `explorer.list_moved` gives them.
        asked: how many answers they were taken from.
        limit: the size of the page, in bytes of UTF-8.
    """

    def fill(count: int) -> str:
        packed = pack_moved(moved, count)
        explorer = {
            "held": count,
            "asked": asked,
            "limit": LIMIT,
            "threshold": name_thresholds(moved["threshold"]),
            "json": htmlsafe_json_dumps(packed, ensure_ascii=False, separators=(",", ":")),
            "plain": unpack_moved(packed, PLAIN),
        }
        return render("report.html.jinja", context | {"explorer": explorer})

    def measure(count: int) -> int:
        return len(fill(count).encode())

    for part in context["parts"]:
        part["linked"] = False
    for part in reversed(context["parts"]):
        if measure(0) <= limit - min(EXPLORER_BYTES, limit // 2):
            break
        part["linked"] = True
    page = fill(moved.height)
    if len(page.encode()) < limit:
        return page
    return fill(max(bisect_right(range(moved.height + 1), limit - 1, key=measure) - 1, 0))


def render(template: str, context: dict[str, Any]) -> str:
    """Fill a template of this package; everything is escaped, for HTML in pages and for markdown through the filter `md`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.reporting", "templates"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escape_text, "md_table": write_markdown}
    return environment.get_template(template).render(context)
