import json
import re
from pathlib import Path

import matplotlib.image
import polars as pl
import pytest
from browser import HOSTILE, Elements, needs_chromium, open_page
from studies import KEPT, write_study

from analysis.measures.states import add_states
from analysis.reading.study import read_study
from analysis.reporting.explorer import LIMIT, list_moved, pack_moved, unpack_moved
from analysis.reporting.page import PAGE_BYTES, PLAIN, write_page

EMPTY = {
    "parts": [],
    "across": [],
    "gaps": [],
    "files": [],
    "provenance": {"runs": [], "shared": {}, "versions": {}},
    "words": {"conditions": [], "splits": [], "verdicts": {}},
}
LOOK = """
const form = document.getElementById("explorer-form");
const look = () => ({
  hash: location.hash,
  status: document.getElementById("explorer-status").textContent,
  rows: [...document.querySelectorAll("#explorer-list .question")].map((row) => ({
    what: row.querySelector(".what").firstChild.textContent,
    where: row.querySelector(".where").textContent,
    transition: row.querySelector(".transition").firstChild.textContent,
    changed: row.querySelector(".transition small")?.textContent,
    ask: row.querySelector(".ask").textContent,
    kl: row.querySelector(".kl").firstChild.textContent,
    choices: [...row.querySelectorAll("td bdi")].map((choice) => choice.textContent),
    shares: [...row.querySelectorAll("td.num")].map((share) => share.textContent),
    bars: [...row.querySelectorAll(".bars i")].map((bar) => bar.style.width),
  })),
});
const put = (name, value) => {
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
  return look();
};
const turn = () => new Promise((done) => addEventListener("hashchange", done, { once: true }));
"""


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """A study whose every question and choice holds what could break a page."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, n=60, conditions=KEPT[:3] + KEPT[-2:], suffix=HOSTILE)
    return read_study(folder).measures


@pytest.fixture(scope="module")
def page(measures: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(write_page(dict(EMPTY), *list_moved(measures)))
    return file


def take_answers(measures: pl.DataFrame) -> pl.DataFrame:
    """The answers that may be listed, chosen another way: the most moved seed of each question and condition."""
    asked = measures.filter(pl.col("split") != "seen", phase="tuned_chat").sort("kl_nats", descending=True)
    return add_states(asked.group_by("condition", "ratio", "source", "question_domain", "id", maintain_order=True).first())


def test_states_are_of_belief_and_gold():
    rows = [
        ([0.7, 0.3], 0, 0, "right"),
        ([0.3, 0.7], 1, 0, "wrong"),
        ([0.5, 0.5], 0, 0, "unsure"),
        ([0.4, 0.3, 0.3], 0, 0, "unsure"),
        (None, None, 0, None),
    ]
    table = pl.DataFrame(
        [(p, c, a, p and max(p), c) for p, c, a, _ in rows],
        schema={"probs_before": pl.List(pl.Float64), "prediction_before": pl.Int64, "answer": pl.Int64}
        | {"confidence": pl.Float64, "prediction": pl.Int64},
        orient="row",
    )
    for name in ("state_before", "state"):
        assert add_states(table.with_columns(threshold=0.5))[name].to_list() == [row[-1] for row in rows]
    # By another threshold other answers are beliefs.
    assert add_states(table.with_columns(threshold=0.7))["state"].to_list() == ["unsure"] * 4 + [None]
    assert add_states(table.with_columns(threshold=0.35))["state"].to_list() == ["right", "wrong", "right", "right", None]


def test_the_most_moved_are_shared_fairly(measures: pl.DataFrame):
    answers = take_answers(measures)
    everything, asked = list_moved(measures)
    assert asked == everything.height == answers.height
    few, _ = list_moved(measures, limit=22)
    counts = few.group_by("condition").len()["len"]
    assert (few.height, counts.min(), counts.max()) == (22, 4, 5)
    for (condition,), part in few.group_by("condition"):
        most = answers.filter(condition=condition).sort("kl_nats", descending=True).head(part.height)
        assert sorted(part["kl_nats"]) == pytest.approx(sorted(most["kl_nats"]))
    # A condition with few answers leaves its share to the others.
    rare = measures.filter((pl.col("condition") != "harmonious") | pl.col("id").is_in(["test-1", "test-2"]))
    few, _ = list_moved(rare, limit=100)
    assert few.height == 100
    assert few.filter(condition="harmonious").height < 20


def test_packed_rows_say_what_the_measures_say(measures: pl.DataFrame):
    moved, _ = list_moved(measures)
    packed = json.loads(json.dumps(pack_moved(moved, 50)))
    rows = unpack_moved(packed, 100)
    assert len(rows) == 50
    expected = moved.head(50).sort("kl_nats", descending=True).rows(named=True)
    for row, measured in zip(rows, expected, strict=True):
        question = row["question"]
        assert row["condition"]["name"].replace("-", "_").startswith(measured["condition"])
        assert [question[k] for k in ("id", "question", "choices", "answer")] == [
            measured[k] for k in ("id", "question", "choices", "answer")
        ]
        assert question["domain"] == measured["question_domain"]
        assert row["kl"] == pytest.approx(measured["kl_nats"], abs=5e-4)
        assert row["before"] == pytest.approx([1000 * p for p in measured["probs_before"]], abs=0.5)
        assert row["after"] == pytest.approx([1000 * p for p in measured["probs"]], abs=0.5)
        assert (row["first_before"], row["first"]) == (measured["prediction_before"], measured["prediction"])
    infinite = moved.with_columns(kl_nats=pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise("kl_nats"))
    assert json.loads(json.dumps(pack_moved(infinite, 9), allow_nan=False))["answers"]["kl"][0] is None


def test_data_cannot_leave_its_script(page: Path, measures: pl.DataFrame):
    elements = Elements(page.read_text())
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attrs in elements.found for name in attrs)
    assert json.loads(elements.scripts[0]) == pack_moved(list_moved(measures)[0], LIMIT)
    assert "<!--" not in page.read_text()


def test_without_a_script_the_first_stand_there(page: Path):
    text = page.read_text()
    assert text.count('<details class="question"') == PLAIN
    assert f"Here are {PLAIN} of its answers" in re.search(r"<noscript>(.*?)</noscript>", text)[1]
    assert re.search(r'<form id="explorer-form" hidden', text)


def test_a_study_without_answers_says_so(measures: pl.DataFrame):
    assert "None can be named" in write_page(dict(EMPTY), *list_moved(measures.filter(run="")))


def lengthen(measures: pl.DataFrame, rows: int, letters: int) -> pl.DataFrame:
    """The measures many times over, with `rows` answers in the chat prompt of questions of many letters."""
    chat = measures.filter(pl.col("split") != "seen", phase="tuned_chat", seed=1)
    times = -(-rows // chat.height)
    copies = pl.concat(chat.with_columns(id=pl.col("id") + f" of copy {i}") for i in range(times)).head(rows)
    return copies.with_columns(question=pl.col("question") + pl.lit("<é> " * (letters // 4)))


def test_a_page_of_long_questions_stays_under_its_size(measures: pl.DataFrame):
    moved, asked = list_moved(lengthen(measures, 2400, 1000))
    assert (moved.height, asked) == (LIMIT, 2400)
    assert len(write_page(dict(EMPTY), moved, asked).encode()) < PAGE_BYTES
    moved, asked = list_moved(lengthen(measures, 2400, 6000))
    text = write_page(dict(EMPTY), moved, asked)
    assert PAGE_BYTES * 0.98 < len(text.encode()) < PAGE_BYTES
    held = int(re.search(r"The ([\d,]+) most moved of 2,400 answers", text)[1].replace(",", ""))
    assert len(json.loads(Elements(text).scripts[0])["answers"]["kl"]) == held < LIMIT
    assert "as many as keep this page under 5 MB" in text
    one = write_page(dict(EMPTY), *list_moved(lengthen(measures, 1, 6_000_000)))
    assert len(one.encode()) < PAGE_BYTES
    assert "The 0 most moved of 1 answers" in one


@needs_chromium
def test_filters_sorting_and_search_work_in_a_browser(page: Path, measures: pl.DataFrame, tmp_path: Path):
    steps = f"""{LOOK}
    seen.first = look();
    seen.condition = put("condition", "self-aligning");
    seen.transition = put("transition", "right-wrong");
    seen.none = put("q", "nowhere to be found");
    form.reset(); await new Promise((done) => setTimeout(done, 50));
    seen.reset = look();
    seen.found = put("q", "ENGINE NUMBER 7 of");
    put("q", ""); seen.lost = put("sort", "confidence-down");
    seen.gained = put("sort", "confidence-up"); seen.least = put("sort", "kl-up"); put("sort", "kl-down");
    document.querySelector("[data-step='1']").click(); seen.next = look();
    location.hash = "#condition=incompatible&split=OOD&domain=annals&sort=kl-up"; await turn(); seen.address = look();
    location.hash = "#condition=unheard&page=99"; await turn(); seen.wrong = look();
    seen.unlabelled = [...form.elements].filter((e) => e.tagName !== "BUTTON" && !e.labels.length).length;
    seen.title = document.title; seen.images = document.images.length;
    seen.scripts = document.scripts.length;
    """
    sight = open_page(page, steps, tmp_path / "browser")
    seen = sight.seen
    assert sight.console == []
    answers = take_answers(measures)
    count = answers.height

    def expect(**where: str) -> pl.DataFrame:
        return answers.filter(**where).sort("kl_nats", descending=True)

    def kls(name: str) -> list[float]:
        return [float(row["kl"].split()[0]) for row in seen[name]["rows"]]

    assert seen["first"]["status"] == f"1 to 25 of {count} answers"
    assert kls("first") == pytest.approx(answers["kl_nats"].sort(descending=True)[:25].to_list(), abs=6e-4)
    part = expect(condition="self_aligning")
    assert seen["condition"]["status"] == f"1 to 25 of {part.height} answers, chosen from {count}"
    assert {row["what"] for row in seen["condition"]["rows"]} <= {"self-aligning, seed 1", "self-aligning, seed 2"}
    assert seen["condition"]["hash"] == "#condition=self-aligning"
    part = expect(condition="self_aligning", state_before="right", state="wrong")
    assert 0 < part.height == int(re.search(r"of (\d+) answers", seen["transition"]["status"])[1])
    assert {row["transition"] for row in seen["transition"]["rows"]} == {"right → wrong"}
    assert seen["transition"]["rows"][0]["ask"] == part["question"][0]
    assert seen["none"]["status"].startswith(f"None of the {count} answers fits")
    assert seen["none"]["rows"] == []
    assert seen["reset"] == seen["first"] | {"hash": "#questions"}
    found = answers.filter(pl.col("question").str.to_lowercase().str.contains("engine number 7 of", literal=True))
    assert 0 < found.height == len(seen["found"]["rows"])
    change = answers["confidence"] - answers["confidence_before"]
    for name, sign in (("lost", 1), ("gained", -1)):
        shares = [[[float(p.rstrip("%")) for p in s.split(" → ")] for s in row["shares"]] for row in seen[name]["rows"]]
        changes = [max(q for _, q in row) - max(p for p, _ in row) for row in shares]
        assert [sign * c for c in changes] == pytest.approx(sorted(sign * 100 * c for c in change)[:25], abs=0.11)
    assert kls("least") == pytest.approx(answers["kl_nats"].sort()[:25].to_list(), abs=6e-4)
    assert seen["next"]["status"] == f"26 to 50 of {count} answers"
    assert seen["next"]["hash"] == "#page=2"
    part = expect(condition="incompatible", split="ood", question_domain="annals")
    assert {row["where"] for row in seen["address"]["rows"]} == {"OOD · annals"}
    assert kls("address") == pytest.approx(part["kl_nats"].sort()[:25].to_list(), abs=6e-4)
    assert f"of {count} answers" in seen["wrong"]["status"]
    assert seen["unlabelled"] == 0

    # What the data holds is text, to the letter, and nothing of it ran.
    measured = expect().row(0, named=True)
    shown = seen["first"]["rows"][0]
    assert shown["ask"] == measured["question"]
    assert shown["choices"] == measured["choices"]
    assert all(text.endswith(HOSTILE) for text in (shown["ask"], *shown["choices"]))
    assert shown["shares"][0] == f"{100 * measured['probs_before'][0]:.1f}% → {100 * measured['probs'][0]:.1f}%"
    widths = [float(width.rstrip("%")) for width in shown["bars"]]
    assert widths[::2] == pytest.approx([100 * p for p in measured["probs_before"]], abs=0.06)
    assert widths[1::2] == pytest.approx([100 * p for p in measured["probs"]], abs=0.06)
    assert (seen["title"], seen["images"], seen["scripts"]) == ("selfalign: what fine-tuning moved", 0, 3)
    assert len({tuple(colour) for colour in matplotlib.image.imread(sight.picture)[::20, ::20].reshape(-1, 4)}) > 5


@needs_chromium
def test_a_narrow_dark_page_fits_and_a_console_error_would_be_seen(page: Path, tmp_path: Path):
    steps = """
    seen.width = document.documentElement.scrollWidth; seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
    seen.status = document.getElementById("explorer-status").textContent; null.nothing;
    """
    sight = open_page(page, steps, tmp_path / "browser", fragment="#split=HOMO", width=400, dark=True)
    assert (sight.seen["width"], sight.seen["dark"]) == (400, True)
    assert "chosen from" in sight.seen["status"]
    assert len(sight.console) == 1
    assert matplotlib.image.imread(sight.picture)[:400, :400, :3].mean() < 0.4
