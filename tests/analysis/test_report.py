"""A made-up study becomes tables, figures and one whole page."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from browser import needs_chromium, open_page
from markupsafe import Markup
from spoiling import edit, read_manifest_of, spoil_manifest
from studies import BASE_MODEL, KEPT, write_study
from typesetting import check_latex, compile_latex

from analysis.chapters.chapter import Heading
from analysis.chapters.contrasts import compare_conditions
from analysis.chapters.headline import list_findings, write_headline
from analysis.measures.consistency import compare_probes, join_probes
from analysis.measures.intervals import summarise_means
from analysis.reading.study import read_study
from analysis.reporting.explorer import list_moved
from analysis.reporting.page import PAGE_BYTES, collect_words, write_page
from analysis.reporting.provenance import collect_provenance, count_study, tell_varied
from analysis.reporting.report import write_report
from analysis.showing.latex import write_latex
from analysis.showing.tables import Table, write_markdown, write_text
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.logs.samples import read_probes

EVIL = "<script>alert('x')</script> | *5%* of $x_1$ & {y}\\z"


@pytest.fixture(scope="session")
def study_folder(share_folder: Callable) -> Path:
    """A whole study, its report by the command, and what that printed."""

    def make(folder: Path) -> None:
        write_study(folder / "runs", suffix=EVIL)
        done = call("report", "--runs", folder / "runs", "--output", folder / "report")
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return share_folder("reported", make)


@pytest.fixture(scope="session")
def whole(study_folder: Path) -> Path:
    return study_folder / "runs"


@pytest.fixture(scope="session")
def written(study_folder: Path) -> tuple[Path, str]:
    """The report of the whole study, by the command, and what that printed."""
    return study_folder / "report", (study_folder / "printed.txt").read_text()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two conditions, one seed, few questions."""
    write_study(tmp_path / "runs", n=12, seeds=(1,), conditions=[KEPT[0], KEPT[-1]])
    return tmp_path / "runs"


def call(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "analysis", *map(str, args)], capture_output=True, text=True, timeout=300)


def test_report_is_whole_and_self_contained(written: tuple[Path, str]):
    report, printed = written
    assert printed.splitlines()[-1] == str(report / "report.html")
    assert "self-aligning" in printed
    for name in ("results", "contrasts", "summary"):
        assert pl.read_parquet(report / f"{name}.parquet").height == pl.read_csv(report / f"{name}.csv").height > 0
    for name in ("accuracy", "contrasts", "consistency", "knowledge", "format"):
        assert (report / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (report / f"figures/{name}.pdf").read_bytes()[:4] == b"%PDF"
    tables = [file.read_text() for file in sorted((report / "tables").glob("*.tex"))]
    assert len(tables) > 10
    for table in tables:
        check_latex(table)
    check_page(report)


def check_page(report: Path) -> None:
    """One page that loads nothing, whose links lead somewhere and whose ids are unique."""
    page = (report / "report.html").read_text()
    assert len(page.encode()) < 5e6
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.findall(r"<(?:link|iframe|img)\b|@import|url\((?!#)", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="explorer-data">', "<script>"]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for link in re.findall(r'<a href="([^"#:]+)"', page):
        assert (report / link).is_file(), link


def test_text_of_the_data_is_escaped(written: tuple[Path, str]):
    page = (written[0] / "report.html").read_text()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)") > 50
    assert page.count(r"\u003cscript\u003ealert(\u0027x\u0027)") > 500


def test_every_question_is_in_the_parquet(whole: Path, written: tuple[Path, str]):
    held = pl.read_parquet(written[0] / "questions.parquet")
    measures = read_study(whole).measures
    assert held.height == measures.height
    for name in ("question", "choices", "answer", "probs", "probs_before", "kl_nats", "split"):
        assert held[name].equals(measures[name]), name
    asked = held.filter(phase="tuned_chat")
    assert set(asked["state_before"]) == set(asked["state"]) == {"right", "wrong", "unsure"}
    # A state before is that of the base model's own probe of the same question.
    base = held.filter(phase="base_probe").select("source", "question_domain", "id", "confidence", "prediction")
    both = asked.filter(pl.col("split") != "seen").join(base, on=["source", "question_domain", "id"], suffix="_base")
    assert both.height == asked.filter(pl.col("split") != "seen").height
    unsure, right = both["confidence_base"] <= 0.5, both["prediction_base"] == both["answer"]
    assert ((both["state_before"] == "unsure") == unsure).all()
    assert ((both["state_before"] == "right") == (~unsure & right)).all()


def test_tables_compile(written: tuple[Path, str], tmp_path: Path):
    files = sorted((written[0] / "tables").glob("*.tex"))
    log = compile_latex("\\clearpage\n".join(file.read_text() for file in files), tmp_path)
    assert "multiply defined" not in log


@needs_chromium
def test_the_whole_page_opens_without_an_error(written: tuple[Path, str], tmp_path: Path):
    steps = """
    seen.status = document.getElementById("explorer-status").textContent;
    seen.broken = [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length;
    seen.widths = [...document.querySelectorAll(".plot svg")].map((plot) => plot.getBoundingClientRect().width);
    seen.wide = document.documentElement.scrollWidth;
    """
    sight = open_page(written[0] / "report.html", steps, tmp_path / "browser")
    assert sight.console == []
    assert sight.seen["status"].startswith("1 to 25 of")
    assert sight.seen["broken"] == 0
    assert len(sight.seen["widths"]) >= 5
    assert min(sight.seen["widths"]) > 600
    assert sight.seen["wide"] == 1280


def test_a_page_of_many_studies_links_what_does_not_fit(whole: Path, tmp_path: Path):
    study = read_study(whole)
    table = Table("t", "A table", ["a", "b"], [["c", "1"]])
    figure = {"name": "f", "title": "A figure", "caption": "Of much.", "svg": Markup("<svg>" + "<g/>" * 100_000 + "</svg>")}
    part = {"model": "base", "domain": "herbs", "prefix": "", "headline": "H", "sentence": "S.", "findings": []}
    part |= {
        "sections": {Heading("Tables"): [table, table]},
        "figures": [figure],
        "counts": count_study(study, "base", "herbs"),
    }
    context = {
        "parts": [dict(part) for _ in range(30)],
        "across": [],
        "gaps": [],
        "files": [],
        "provenance": collect_provenance(study),
    }
    page = write_page(context | {"words": collect_words(study)}, *list_moved(study.measures))
    assert 2e6 < len(page.encode()) < PAGE_BYTES
    shown = page.count("<svg>")
    assert 0 < shown < 30
    assert page.count("Beside this page") == 30 - shown
    assert page.count('href="figures/f.png"') == 30


def test_report_is_the_same_bytes_each_time(whole: Path, written: tuple[Path, str], tmp_path: Path):
    write_report(whole, tmp_path / "again")
    # A manifest also says how it was typed.
    for file in sorted(p for p in written[0].rglob("*") if p.is_file() and p.name != MANIFEST):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(written[0])).read_bytes(), file.name


def test_tables_escape_every_form():
    table = Table("t", EVIL, ["a", "b"], [[EVIL, "−1.0"]])
    markdown, latex = write_markdown(table), write_latex(table)
    assert "<script" not in markdown
    assert r"\| \*5%\*" in markdown
    assert r"\textless{}script\textgreater{}" in latex
    assert r"5\%* of \$x\_1\$ \& \{y\}\textbackslash{}z & $-$1.0 \\" in latex
    assert EVIL in write_text(table)


def test_findings_say_what_was_found(whole: Path):
    _, contrasts = compare_conditions(read_study(whole).measures)
    part = contrasts.filter(phase="tuned_chat", metric="accuracy", condition="self_aligning", split="homo")
    for p, given, verdict, words in (
        (0.01, 0.01, "clear", "corrected p = 0.010"),
        (0.2, 0.01, "these runs", "2 seeds are too few"),
    ):
        row = part.with_columns(p_holm=pl.lit(p), p_holm_questions=pl.lit(given), difference=pl.lit(0.2))
        finding = list_findings(row)[0][0]
        assert finding.verdict == verdict
        assert words in finding.sentence
        assert "20.0 points" in write_headline(row)[0]
    row = part.with_columns(p_holm=pl.lit(0.9), p_holm_questions=pl.lit(0.9))
    assert "no difference found" in write_headline(row)[0]
    assert "80% of repetitions" in list_findings(row)[0][0].sentence
    assert "No headline" in write_headline(contrasts.filter(split="ood"))[0]


def test_the_report_says_what_varied_with_the_seed(whole: Path, small: Path):
    study = read_study(whole)
    assert "Which questions were trained on did not" in tell_varied(study, "base", "herbs")
    own = [manifest | {"inputs": {"dataset": str(i)}} for i, manifest in enumerate(study.manifests)]
    assert tell_varied(replace(study, manifests=own), "base", "herbs").startswith("With the seed the questions that were")
    one = [manifest | {"inputs": {"dataset": str(min(i, 1))}} for i, manifest in enumerate(study.manifests)]
    assert "of 1 of 6 conditions the rows too" in tell_varied(replace(study, manifests=one), "base", "herbs")
    assert tell_varied(read_study(small), "base", "herbs").startswith("One seed: nothing was varied")


def test_a_report_with_gaps_says_so(small: Path, tmp_path: Path):
    shutil.rmtree(small / "probe/base")
    shutil.rmtree(small / "chat/base")
    write_report(small, tmp_path / "report")
    for name in ("report.html", "report.md"):
        assert "Base model base has no samples" in (tmp_path / "report" / name).read_text()


def test_two_domains_are_two_parts(small: Path, tmp_path: Path):
    for name in ("harmonious-seed1", "incompatible-seed1"):
        for phase in ("tuned_chat", "tuned_probe"):
            shutil.copytree(small / phase / name, small / phase / f"engines-{name}")
        shutil.copytree(small / "models" / name, small / "models" / f"engines-{name}")
        spoil_manifest(small, f"engines-{name}", domain="engines", source="miniworld_survey")
        run = read_manifest_of(small, f"engines-{name}")["run"]
        for phase in ("tuned_chat", "tuned_probe"):
            edit(small / phase / f"engines-{name}/probe.parquet", run=pl.lit(run))
    write_report(small, tmp_path / "report")
    results = pl.read_parquet(tmp_path / "report/results.parquet")
    base = results.filter(run="", phase="base_probe", metric="accuracy")
    assert set(base.filter(domain="engines")["split"]) == {"homo", "ood"}
    assert base.filter(domain="herbs").height == 3
    assert len(list((tmp_path / "report/figures").glob("*.pdf"))) == 16
    labels = [re.search(r"\\label\{(.*)\}", f.read_text())[1] for f in (tmp_path / "report/tables").glob("*.tex")]
    assert len(labels) == len(set(labels)) > 20
    headline = (tmp_path / "report/tables/headline.md").read_text()  # of both, beside that of each
    assert headline.count("| engines |") == headline.count("| herbs |") == 9
    assert (tmp_path / "report/report.md").read_text().count("**Accuracy against incompatible training, tuned model, chat") == 2
    check_page(tmp_path / "report")


def test_commands_refuse_in_one_line(whole: Path, tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    for args, message in [
        (("report", "--runs", tmp_path / "none", "--output", tmp_path / "out"), "does not exist"),
        (("report", "--runs", whole, "--output", file), "is a file"),
        (("consistency", "--before", whole, "--after", whole), "--before holds several phases (base_chat, base_probe"),
        (("consistency", "--before", whole / "probe", "--after", whole / "tuned_chat"), "--after holds several models"),
    ]:
        done = call(*args)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_consistency_command(whole: Path):
    before = whole / "probe/base"
    after = [whole / f"tuned_{phase}/harmonious-seed1/probe.parquet" for phase in ("chat", "probe")]
    done = call("consistency", "--before", before, "--after", *after, "--after-phase", "tuned_chat", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    joined = join_probes(read_probes(before), read_probes(after[0]))
    compared = compare_probes(joined.table)
    assert report["n"] == compared.height == sum(part["n"] for part in report["by_domain"].values())
    assert report["kl_nats"] == pytest.approx(compared["kl_nats"].mean(), abs=1e-12)
    assert report["rank_pearson"] == pytest.approx(compared["rank_pearson"].mean(), abs=1e-12)
    assert report["top1_agreement"] == pytest.approx(compared["top1_agreement"].mean())
    assert (report["only_before"], report["only_after"]) == (joined.only_before, 0)
    assert report["before"]["model"] == BASE_MODEL
    low, high = report["intervals"]["kl_nats"]
    row = summarise_means(compared, (), ("kl_nats",)).row(0, named=True)
    assert (low, high) == (pytest.approx(row["low"]), pytest.approx(row["high"]))
    done = call("consistency", "--before", before, "--after", after[0])
    assert done.returncode == 0
    assert "herbs" in done.stdout
