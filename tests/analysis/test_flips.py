"""The page's explorer as a list of the questions whose first choice changed."""

import re
from pathlib import Path

import polars as pl
import pytest
from browser import needs_chromium, open_page
from studies import KEPT, write_study
from test_explorer import EMPTY, LOOK, take_answers

from analysis.reading.study import read_study
from analysis.reporting.explorer import list_moved
from analysis.reporting.page import write_page


@needs_chromium
def test_one_click_shows_the_flips(tmp_path: Path):
    write_study(tmp_path / "runs", n=60, conditions=KEPT[:3] + KEPT[-2:])
    measures = read_study(tmp_path / "runs").measures
    page = tmp_path / "report.html"
    page.write_text(write_page(dict(EMPTY), *list_moved(measures)))
    steps = f"""{LOOK}
    const chips = [...form.querySelectorAll("[name=flip]")];
    seen.chips = chips.map((chip) => [chip.value, chip.labels[0].textContent.trim(), chip.checked]);
    seen.start = look();
    for (const chip of chips.slice(1).reverse()) {{ chip.click(); seen[chip.value] = look(); }}
    seen.one = put("condition", "incompatible");
    location.hash = "#flip=wrong-right&sort=kl-up"; await turn(); seen.address = look();
    seen.checked = form.querySelector("[name=flip]:checked").value;
    location.hash = "#flip=unheard&split=ID"; await turn(); seen.wrong = look();
    form.reset(); await new Promise((done) => setTimeout(done, 50)); seen.reset = look();
    """
    sight = open_page(page, steps, tmp_path / "browser", fragment="#flip=changed&page=2")
    seen = sight.seen
    assert sight.console == []
    answers = take_answers(measures)
    right = [answers[name] == answers["answer"] for name in ("prediction_before", "prediction")]
    changed = answers["prediction_before"] != answers["prediction"]
    expected = {"all": changed | True, "changed": changed}
    for name, (before, after) in {"right-wrong": (1, 0), "wrong-right": (0, 1), "wrong-wrong": (0, 0)}.items():
        expected[name] = changed & (right[0] == bool(before)) & (right[1] == bool(after))
    counts = {name: int(chosen.sum()) for name, chosen in expected.items()}
    assert counts["changed"] == counts["right-wrong"] + counts["wrong-right"] + counts["wrong-wrong"] > 25
    assert [(name, int(text.split()[-1]), on) for name, text, on in seen["chips"]] == [
        (name, count, name == "changed") for name, count in counts.items()
    ]
    assert seen["start"]["status"].startswith("26 to")

    def check(name: str, chosen: pl.Series) -> None:
        part = answers.filter(chosen).sort("kl_nats", descending=True)
        assert int(re.search(r"of (\d+) answers", seen[name]["status"])[1]) == part.height
        assert [row["ask"] for row in seen[name]["rows"]] == part["question"].head(25).to_list()

    for name in list(counts)[1:]:
        assert {row["changed"] for row in seen[name]["rows"]} == {"first choice changed"}
        assert seen[name]["hash"] == f"#flip={name}"
        check(name, expected[name])
    check("one", changed & (answers["condition"] == "incompatible"))
    assert seen["one"]["hash"] == "#flip=changed&condition=incompatible"
    kls = [float(row["kl"].split()[0]) for row in seen["address"]["rows"]]
    assert kls == pytest.approx(answers.filter(expected["wrong-right"])["kl_nats"].sort().head(25).to_list(), abs=6e-4)
    assert seen["checked"] == "wrong-right"
    check("wrong", answers["split"] == "id")
    assert seen["reset"]["status"] == f"1 to 25 of {answers.height} answers"
    assert seen["reset"]["hash"] == "#questions"
