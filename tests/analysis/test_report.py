"""A made-up study becomes the contract's tables and one whole page; what is missing is named; what is wrong is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from studies import BASE_MODEL, KEPT, write_study

from analysis.consistency import compare_probes, join_probes
from analysis.contrasts import compare_conditions
from analysis.findings import list_findings, write_headline
from analysis.report import write_report
from analysis.results import RESULT_COLUMNS, read_study, summarise_results
from analysis.tables import Table, write_latex, write_markdown, write_text
from lm_eval_tasks.manifest import MANIFEST, UserError, write_manifest
from lm_eval_tasks.samples import read_probes, write_probes

EVIL = "<script>alert('x')</script> | *5%* of $x_1$ & {y}\\z"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "runs"
    write_study(folder, suffix=EVIL)
    return folder


@pytest.fixture(scope="module")
def written(whole: Path) -> tuple[Path, str]:
    """The report of the whole study, by the command, and what that printed."""
    done = call("report", "--runs", whole, "--output", whole.parent / "report")
    assert done.returncode == 0, done.stderr
    return whole.parent / "report", done.stdout


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two conditions, one seed, few questions."""
    write_study(tmp_path / "runs", n=12, seeds=(1,), conditions=[KEPT[0], KEPT[-1]])
    return tmp_path / "runs"


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy of the study that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "runs")


def read_manifest_of(runs: Path, name: str) -> dict:
    return json.loads((runs / "models" / name / MANIFEST).read_text())


def call(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "analysis", *map(str, args)], capture_output=True, text=True, timeout=120)


def edit(file: Path, change: pl.Expr | None = None, **columns: pl.Expr) -> None:
    table = pl.read_parquet(file)
    write_probes(table.filter(change) if change is not None else table.with_columns(**columns), file)


def test_results_follow_the_contract(whole: Path):
    study = read_study(whole)
    results = summarise_results(study.measures)
    assert study.gaps == []
    assert tuple(results.columns) == RESULT_COLUMNS
    base = results.filter(run="")
    assert set(base["condition"]) == {"base"}
    assert base["seed"].null_count() == base.height
    assert set(base["split"]) == {"homo", "id", "ood"}
    assert set(base.filter(phase="base_probe")["metric"]) == {"accuracy", "confidence", "choice_mass"}
    assert set(results.filter(phase="tuned_chat")["split"]) == {"homo", "id", "ood", "seen"}
    assert results.filter(condition="mix")["ratio"].unique().to_list() == [0.4]
    assert results.filter(pl.col("condition") != "mix")["ratio"].null_count() > 0
    assert (results["low"] <= results["value"]).all()
    assert (results["value"] <= results["high"]).all()


def test_results_equal_a_recount_from_the_logs(whole: Path):
    results = summarise_results(read_study(whole).measures)
    run = read_manifest_of(whole, "incompatible-seed2")["run"]
    before, after = (read_probes(whole / part) for part in ("probe/base", "tuned_chat/incompatible-seed2"))
    splits = {
        "seen": after.filter(split="train"),
        "homo": after.filter(split="test", source="miniworld_exam"),
        "id": after.filter(split="test", source="miniworld_survey", domain="herbs"),
        "ood": after.filter(pl.col("domain") != "herbs"),
    }
    for split, part in splits.items():
        compared = compare_probes(join_probes(before, part).table)
        rows = {r["metric"]: r for r in results.filter(run=run, phase="tuned_chat", split=split).iter_rows(named=True)}
        assert rows["accuracy"]["n"] == part.height
        assert rows["accuracy"]["value"] == pytest.approx(part["correct"].mean())
        for metric in ("kl_nats", "rank_pearson", "top1_agreement"):
            assert rows[metric]["value"] == pytest.approx(compared[metric].mean(), abs=1e-12)


def test_report_is_whole_and_self_contained(written: tuple[Path, str]):
    report, printed = written
    assert printed.splitlines()[-1] == str(report / "report.html")
    assert "self-aligning" in printed
    for name in ("results", "contrasts", "summary"):
        assert pl.read_parquet(report / f"{name}.parquet").height == pl.read_csv(report / f"{name}.csv").height > 0
    for name in ("accuracy", "contrasts", "consistency", "knowledge", "format"):
        assert (report / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (report / f"figures/{name}.pdf").read_bytes()[:4] == b"%PDF"
    for file in (report / "tables").glob("*.tex"):
        rows = [line for line in file.read_text().splitlines() if line.endswith(r"\\")]
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", file.read_text())[1])
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}, file.name
    check_page(report)


def check_page(report: Path) -> None:
    """One page that loads nothing, whose links lead somewhere and whose ids are unique."""
    page = (report / "report.html").read_text()
    assert len(page.encode()) < 5e6
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.findall(r"<(?:script|link|iframe|img)\b|@import|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for link in re.findall(r'<a href="([^"#:]+)"', page):
        assert (report / link).is_file(), link


def test_text_of_the_data_is_escaped(written: tuple[Path, str]):
    page = (written[0] / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)") > 500


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
    for p, low, verdict, words in (
        (0.01, 0.1, "clear", "corrected p = 0.010"),
        (0.2, 0.1, "these seeds", "2 seeds are too few"),
    ):
        row = part.with_columns(p_holm=pl.lit(p), low_questions=pl.lit(low), high_questions=pl.lit(0.3), difference=pl.lit(0.2))
        finding = list_findings(row)[0][0]
        assert finding.verdict == verdict
        assert words in finding.sentence
        assert "20.0 points" in write_headline(row)[0]
    row = part.with_columns(p_holm=pl.lit(0.9), low_questions=pl.lit(-0.1), high_questions=pl.lit(0.1))
    assert "no difference found" in write_headline(row)[0]
    assert "80% of repetitions" in list_findings(row)[0][0].sentence
    assert "No headline" in write_headline(contrasts.filter(split="ood"))[0]


@pytest.mark.parametrize(
    ("spoil", "gap"),
    [
        (lambda r: [shutil.rmtree(r / p / "mix-0.4-seed1") for p in ("tuned_chat", "tuned_probe")],
         "Mix 0.4, seed 1 (herbs) has no samples"),
        (lambda r: shutil.rmtree(r / "tuned_probe/harmonious-seed1"), "was not asked in phase tuned_probe"),
        (lambda r: shutil.rmtree(r / "models/harmonious-seed1"), "of which there is no manifest.json; left out"),
        (lambda r: shutil.rmtree(r / "chat/base"), "The base model was not asked in phase base_chat"),
        (lambda r: [shutil.rmtree(r / "chat/base"), shutil.rmtree(r / "probe/base")], "Base model base has no samples"),
        (lambda r: edit(r / "tuned_chat/harmonious-seed2/probe.parquet", pl.col("split") == "test"), "lacks the split seen"),
        (lambda r: edit(r / "probe/base/probe.parquet", pl.col("id") != "test-0"), "were not asked of the base model before"),
        (lambda r: edit(r / "tuned_chat/harmonious-seed2/probe.parquet", run=pl.lit("")), "carry no run id"),
        (lambda r: edit(r / "chat/base/probe.parquet", model=pl.lit("elsewhere")), "No run was trained from elsewhere"),
    ],
)  # fmt: skip
def test_gaps_are_named(runs: Path, spoil, gap: str):
    spoil(runs)
    study = read_study(runs)
    assert gap in "\n".join(study.gaps)
    assert summarise_results(study.measures).height > 0


def test_a_report_with_gaps_says_so(small: Path, tmp_path: Path):
    shutil.rmtree(small / "probe/base")
    shutil.rmtree(small / "chat/base")
    write_report(small, tmp_path / "report")
    for name in ("report.html", "report.md"):
        assert "Base model base has no samples" in (tmp_path / "report" / name).read_text()


def test_one_seed_is_said(small: Path):
    assert "Seeds were not varied" in "\n".join(read_study(small).gaps)


def test_infinite_kl_is_counted(runs: Path):
    file = runs / "tuned_chat/incompatible-seed1/probe.parquet"
    sharp = (
        pl.col("choices").list.eval(pl.element().rank("ordinal").cast(pl.Float64) == 1).list.eval(pl.element().cast(pl.Float64))
    )
    first = pl.col("choices").list.arg_min().cast(pl.Int64)
    edit(
        file,
        loglikelihoods=pl.lit(None),
        probs=sharp,
        prediction=first,
        confidence=pl.lit(1.0),
        correct=first == pl.col("answer"),
    )
    study = read_study(runs)
    assert "have an infinite KL" in "\n".join(study.gaps)
    kl = summarise_results(study.measures).filter(metric="kl_nats")
    assert kl["value"].is_finite().all()


def spoil_manifest(runs: Path, name: str, **config: object) -> None:
    manifest = read_manifest_of(runs, name)
    write_manifest(runs / "models" / name, "train", [], manifest["config"] | config, {}, {})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: shutil.copytree(r / "models/mix-0.4-seed1", r / "models/copy"), "are the same run"),
        (lambda r: (r / "models/new").mkdir() or (shutil.copy(r / "models/mix-0.4-seed1" / MANIFEST, r / "models/new") and
         spoil_manifest(r, "new", learning_rate=1.0)), "were trained on the same condition and seed"),
        (lambda r: spoil_manifest(r, "mix-0.4-seed1", seed=None), "config has no 'seed'"),
        (lambda r: spoil_manifest(r, "incompatible-seed1", seed=2), "were trained on the same condition and seed"),
        (lambda r: spoil_manifest(r, "incompatible-seed1", seed="one"), "not of the contract's types"),
        (lambda r: spoil_manifest(r, "mix-0.4-seed1", source="other"), "trained on miniworld_exam and other"),
        (lambda r: shutil.rmtree(r / "models"), "holds no trained run"),
        (lambda r: [f.unlink() for f in r.rglob("probe.parquet")], "holds no sample log"),
        (lambda r: edit(r / "tuned_chat/mix-0.4-seed1/probe.parquet", scoring=pl.lit("letter")), "scored by letter"),
        (lambda r: edit(r / "probe/base/probe.parquet", scoring=pl.lit("letter")),
         "scored by letter before and by cloze after"),
        (lambda r: (r / "samples_x.jsonl").write_text('{"doc": {"id"'), "line 1"),
        (lambda r: (r / "models/mix-0.4-seed1" / MANIFEST).write_text("{"), "is not a manifest"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(runs: Path, tmp_path: Path, spoil, message: str):
    spoil(runs)
    with pytest.raises(UserError, match=re.escape(message)):
        write_report(runs, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_two_domains_are_two_chapters(small: Path, tmp_path: Path):
    for name in ("harmonious-seed1", "incompatible-seed1"):
        for place in ("tuned_chat", "tuned_probe"):
            shutil.copytree(small / place / name, small / place / f"engines-{name}")
        shutil.copytree(small / "models" / name, small / "models" / f"engines-{name}")
        spoil_manifest(small, f"engines-{name}", domain="engines", source="miniworld_survey")
        run = read_manifest_of(small, f"engines-{name}")["run"]
        for place in ("tuned_chat", "tuned_probe"):
            edit(small / place / f"engines-{name}/probe.parquet", run=pl.lit(run))
    write_report(small, tmp_path / "report")
    results = pl.read_parquet(tmp_path / "report/results.parquet")
    base = results.filter(run="", phase="base_probe", metric="accuracy")
    assert set(base.filter(domain="engines")["split"]) == {"homo", "ood"}
    assert base.filter(domain="herbs").height == 3
    assert len(list((tmp_path / "report/figures").glob("*.pdf"))) == 10
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
    half = 1.96 * compared["kl_nats"].std() / np.sqrt(compared.height)
    assert (low, high) == (pytest.approx(report["kl_nats"] - half, rel=0.01), pytest.approx(report["kl_nats"] + half, rel=0.01))
    done = call("consistency", "--before", before, "--after", after[0])
    assert done.returncode == 0
    assert "herbs" in done.stdout
