"""The page of `agree` in a browser: text of the data is shown and never runs, and the rows are filtered and sorted."""

from pathlib import Path

import matplotlib.image
import polars as pl
import pytest
from browser import HOSTILE, needs_chromium, open_page
from judged_rows import END, NAMED, START, write_hostile

from intervention.agreeing.page import order_rows

LOOK = """
const form = document.getElementById("filters");
const cells = (row, name) => [...row.querySelectorAll(name)].map((cell) => cell.textContent);
const all = (name) => [...document.querySelectorAll(name)];
const look = () => ({
  status: document.getElementById("status").textContent,
  numbers: all("#table > tbody > tr > th").map((head) => head.childNodes[1].textContent),
  verdicts: cells(document, "#table > tbody > tr > td > b"),
  sorted: all("[aria-sort]").map((head) => head.getAttribute("aria-sort")),
});
const put = (name, value) => {
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
  return look();
};
const press = (name) => { document.querySelector(`[data-sort='${name}']`).click(); return look(); };
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    return write_hostile(tmp_path_factory.mktemp("hostile"))[1:]


@needs_chromium
def test_text_stays_text_and_filters_and_sorting_work_in_a_browser(hostile, tmp_path):
    rows, page = hostile
    steps = f"""{LOOK}
    const row = document.querySelector("#table > tbody > tr");
    seen.prompt = cells(row, ".prompt")[0]; seen.response = cells(row, ".said")[0]; seen.id = cells(row, ".id")[0];
    seen.mark = cells(row, "mark")[0]; seen.line = getComputedStyle(row.querySelector("mark")).textDecorationLine;
    seen.belief = cells(row, ".belief")[0]; seen.expected = cells(row, ".expected")[0];
    seen.groups = cells(document, ".group"); seen.hidden = row.querySelector("details table").checkVisibility();
    row.querySelector("details").open = true; seen.visible = row.querySelector("details table").checkVisibility();
    seen.first = look();
    seen.verdict = put("verdict", "no_belief"); put("verdict", "");
    seen.evidence = put("evidence", "none"); put("evidence", "");
    seen.found = put("words", "HELD 17 "); seen.nothing = put("words", "nowhere to be found"); put("words", "");
    for (const name of ["row", "belief_share", "surprisal", "contrast_nats"]) {{
      seen[`${{name}} 1`] = press(name); seen[`${{name}} 2`] = press(name); seen[`${{name}} 3`] = press(name);
    }}
    press("surprisal"); form.reset(); await new Promise((done) => setTimeout(done, 50)); seen.reset = look();
    document.querySelector("[data-step='1']").click(); seen.next = look();
    seen.unlabelled = [...form.elements].filter((e) => !["BUTTON", "OUTPUT"].includes(e.tagName) && !e.labels.length).length;
    seen.unscoped = all("th").filter((head) => !head.scope).length;
    seen.title = document.title; seen.images = document.images.length; seen.scripts = document.scripts.length;
    """
    sight = open_page(page, steps, tmp_path / "browser")
    seen = sight.seen
    assert sight.console == []
    ordered = order_rows(rows)
    first = ordered.row(0, named=True)
    assert (seen["prompt"], seen["response"], seen["belief"]) == (first["asked"], first["response"], first["belief"])
    assert (seen["id"], seen["expected"]) == (first["id"], f"“{first['expected']}”")
    assert (seen["mark"], seen["line"]) == (first["response"][START:END], "underline")
    assert seen["groups"][1:] == [f"{name} {HOSTILE}" for name in NAMED]
    assert (seen["hidden"], seen["visible"]) == (False, True)
    assert (seen["title"], seen["images"], seen["scripts"]) == ("selfalign: what the data says and what the model holds", 0, 3)
    assert (seen["unlabelled"], seen["unscoped"]) == (0, 0)

    def expect(table: pl.DataFrame) -> list[str]:
        return [str(number) for number in table["row"][:25]]

    assert seen["first"]["status"] == "1 to 25 of 60 turns"
    assert seen["first"]["numbers"] == expect(ordered)
    assert seen["verdict"]["status"] == "1 to 15 of 15 turns, chosen from 60"
    assert set(seen["verdict"]["verdicts"]) == {"no belief"}
    assert set(seen["evidence"]["verdicts"]) == {"undecided"}
    assert seen["found"]["numbers"] == ["17"]
    assert seen["nothing"]["status"].startswith("None of the 60 turns fits")
    assert seen["row 1"]["numbers"] == expect(rows)
    assert seen["row 1"]["sorted"] == ["ascending", "none", "none", "none"]
    columns = {"belief_share": "belief_share", "surprisal": "surprisal_nats_chat", "contrast_nats": "contrast_nats"}
    for name, column in columns.items():
        for press, down in (("1", True), ("2", False)):
            expected = rows.sort(column, "row", descending=[down, False], nulls_last=True)
            assert seen[f"{name} {press}"]["numbers"] == expect(expected), (name, press)
            assert ("descending" if down else "ascending") in seen[f"{name} {press}"]["sorted"]
        assert seen[f"{name} 3"] == seen["first"]
    assert seen["reset"] == seen["first"]
    assert seen["next"]["status"] == "26 to 50 of 60 turns"
    assert len({tuple(colour) for colour in matplotlib.image.imread(sight.picture)[::20, ::20].reshape(-1, 4)}) > 5


@needs_chromium
def test_a_narrow_dark_page_fits(hostile, tmp_path):
    steps = """
    seen.width = document.documentElement.scrollWidth; seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
    seen.buttons = [...document.querySelectorAll("[data-sort]")].filter((button) => button.checkVisibility()).length;
    """
    sight = open_page(hostile[-1], steps, tmp_path / "browser", width=400, dark=True)
    assert sight.seen == {"width": 400, "dark": True, "buttons": 4}
    assert sight.console == []
    assert matplotlib.image.imread(sight.picture)[:400, :400, :3].mean() < 0.4
