"""The report: every table and figure of a folder of runs, and one page that holds them all."""

import sys
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from analysis.contrasts import CONTRAST_METRICS, compare_conditions
from analysis.figures import COLOURS, draw_figures, write_figure
from analysis.findings import VERDICTS, list_findings, write_headline
from analysis.intervals import SEED
from analysis.labels import CONDITIONS, METRICS, SPLITS, name_condition, name_split
from analysis.results import Study, read_study, summarise_results
from analysis.tables import (
    Table,
    escape_markdown,
    tabulate_contrasts,
    tabulate_metric,
    tabulate_summary,
    write_latex,
    write_markdown,
    write_text,
)
from lm_eval_tasks.manifest import write_folder, write_manifest

MOVED = 200
TUNED = ("tuned_chat", "tuned_probe")
_ROW = ("run", "condition", "ratio", "seed", "phase", "split", "source", "question_domain", "id")


def write_report(runs: str | Path, output: str | Path) -> str:
    """Read a study and write its whole report.

    Args:
        runs: the folder that holds the runs and their logs.
        output: the folder to write, which replaces one that is there.

    Returns:
        The compact result tables as text.

    Raises:
        UserError: the study cannot be read (see `results.read_study`), or the output cannot be written.
    """
    study = read_study(runs)
    results = summarise_results(study.measures)
    summary, contrasts = compare_conditions(study.measures)
    with write_folder(output) as folder:
        for name, table in (("results", results), ("summary", summary), ("contrasts", contrasts)):
            table.write_parquet(folder / f"{name}.parquet")
            table.write_csv(folder / f"{name}.csv")
        held = ("question_hash", *METRICS, "rank_undefined", "prediction", "prediction_before", "answer")
        study.measures.select("model", "domain", *_ROW, *held).write_parquet(folder / "questions.parquet")
        chapters = _write_chapters(study, results, summary, contrasts, folder)
        context = {
            "chapters": chapters,
            "gaps": study.gaps,
            "provenance": collect_provenance(study),
            "words": collect_words(study),
        }
        for name in ("report.html", "report.md"):
            (folder / name).write_text(render(f"{name}.jinja", context))
        runs = {f"{run['domain']} {run['label']} seed {run['seed']}": run["run"] for run in context["provenance"]["runs"]}
        write_manifest(folder, "report", sys.argv, {}, runs, {"bootstrap": SEED})
    return "\n".join(write_text(chapter["summary"]) for chapter in chapters)


def _write_chapters(
    study: Study, results: pl.DataFrame, summary: pl.DataFrame, contrasts: pl.DataFrame, folder: Path
) -> list[dict[str, Any]]:
    """Write the tables and figures of each base model and trained domain; what the page needs of each."""
    (folder / "tables").mkdir()
    (folder / "figures").mkdir()
    pairs = study.runs.select("model", "domain").unique(maintain_order=True).rows()
    chapters = []
    for place, (model, domain) in enumerate(pairs):
        prefix = "" if len(pairs) == 1 else f"{place + 1}-{domain}-"
        parts = [table.filter(model=model, domain=domain) for table in (results, summary, contrasts)]
        tables = list_tables(*parts[1:])
        for table in tables:
            (folder / "tables" / f"{prefix}{table.name}.md").write_text(write_markdown(table))
            (folder / "tables" / f"{prefix}{table.name}.tex").write_text(write_latex(table))
        figures = [
            {"name": f"{prefix}{s.name}", "title": s.title, "caption": s.caption}
            | {"svg": Markup(write_figure(s, folder / "figures" / f"{prefix}{s.name}"))}
            for s in draw_figures(parts[1], parts[2], parts[0])
        ]
        headline, sentence = write_headline(parts[2])
        chapters.append(
            {"model": model, "domain": domain, "headline": headline, "sentence": sentence, "findings": list_findings(parts[2])}
            | {"summary": tables[0], "tables": tables[1:], "figures": figures}
            | {
                "counts": count_study(study, model, domain),
                "moved": list_moved(study.measures.filter(model=model, domain=domain)),
            }
        )
    return chapters


def list_tables(summary: pl.DataFrame, contrasts: pl.DataFrame) -> list[Table]:
    """All tables of one study: the compact one first, those without a row left out."""
    tables = [tabulate_summary(summary)]
    tables += [
        tabulate_contrasts(contrasts, metric, phase) for metric in CONTRAST_METRICS for phase in ("tuned_chat", "tuned_probe")
    ]
    tables += [tabulate_metric(summary, metric, phase) for metric in METRICS for phase in TUNED]
    return [tables[0], *(table for table in tables[1:] if table.rows)]


def count_study(study: Study, model: str, domain: str) -> dict[str, Any]:
    """The numbers of the pipeline picture."""
    runs = study.runs.filter(model=model, domain=domain)
    asked = study.measures.filter(model=model, domain=domain)
    return {
        "runs": runs.height,
        "conditions": runs.select("condition", "ratio").n_unique(),
        "seeds": sorted(set(runs["seed"])),
        "source": runs["source"][0],
        "questions": asked.select("source", "question_domain", "id").n_unique(),
        "before": asked.filter(run="").height,
        "after": asked.filter(pl.col("run") != "").height,
    }


def list_moved(measures: pl.DataFrame) -> list[dict[str, Any]]:
    """The questions whose distribution moved most (by KL) in the chat prompt, an equal share of `MOVED` for each condition."""
    asked = measures.filter(pl.col("kl_nats").is_not_null(), pl.col("split") != "seen", phase="tuned_chat")
    share = MOVED // max(asked.select("condition", "ratio").n_unique(), 1)
    top = (
        asked.sort("kl_nats", *_ROW, descending=[True] + [False] * len(_ROW))
        .unique(["condition", "ratio", "source", "question_domain", "id"], keep="first", maintain_order=True)
        .group_by("condition", "ratio", maintain_order=True)
        .head(share)
        .sort("kl_nats", *_ROW, descending=[True] + [False] * len(_ROW))
    )
    return [
        {
            "condition": name_condition(row["condition"], row["ratio"]),
            "colour": COLOURS.get(row["condition"], "#999999"),
            "split": name_split(row["split"]),
            "choices": [
                {
                    "text": text,
                    "before": 100 * p,
                    "after": 100 * q,
                    "gold": i == row["answer"],
                    "belief": i == row["prediction_before"],
                }
                for i, (text, p, q) in enumerate(zip(row["choices"], row["probs_before"], row["probs"], strict=True))
            ],
        }
        | {key: row[key] for key in ("seed", "question_domain", "source", "id", "question", "kl_nats")}
        for row in top.iter_rows(named=True)
    ]


def collect_provenance(study: Study) -> dict[str, Any]:
    """Where the numbers come from: runs with their inputs, the settings that all share, and the versions."""
    configs = [manifest["config"] for manifest in study.manifests]
    told = ("domain", "source", "condition", "ratio", "seed", "dataset_config")
    shared = {key: value for key, value in configs[0].items() if key not in told and all(c.get(key) == value for c in configs)}
    versions: dict[str, set[str]] = {}
    for manifest in study.manifests:
        for package, version in manifest.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    runs = [
        {
            "run": row["run"],
            "label": name_condition(row["condition"], row["ratio"]),
            "domain": row["domain"],
            "seed": row["seed"],
        }
        | {"model": row["model"], "folder": Path(row["folder"]).name, "inputs": manifest.get("inputs", {})}
        for row, manifest in zip(study.runs.iter_rows(named=True), study.manifests, strict=True)
    ]
    return {"runs": runs, "shared": shared, "versions": {name: ", ".join(sorted(v)) for name, v in sorted(versions.items())}}


def collect_words(study: Study) -> dict[str, Any]:
    """What the page explains: the study's conditions, splits and verdicts."""
    held = set(study.runs["condition"])
    conditions = [(name_condition(name, None), COLOURS[name], text) for name, text in CONDITIONS.items() if name in held]
    return {"conditions": conditions, "splits": [(name_split(s), text) for s, text in SPLITS.items()], "verdicts": VERDICTS}


def render(template: str, context: dict[str, Any]) -> str:
    """Fill a template of this package; everything is escaped, for HTML in pages and for markdown through the filter `md`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escape_markdown, "md_table": write_markdown}
    return environment.get_template(template).render(context)
