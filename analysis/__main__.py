"""`python -m analysis`: compare logs, and report a study."""

import gc
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.contracts.errors import report_errors
from lm_eval_tasks.contracts.vocabulary import SCORES

# Before numpy is imported: its threads cost more than they save on matrices of this size, and last digits then do not depend on
# how many processors there are.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


class ManyPaths(typer.core.TyperCommand):
    """A command whose `--before` and `--after` each take all the paths up to the next option, as a shell's `*` gives them."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Repeat the option before every path."""
        spread: list[str] = []
        option = None
        for arg in args:
            if arg.startswith("-"):
                option = arg if arg in ("--before", "--after") else None
                spread += [] if option else [arg]
            else:
                spread += [option, arg] if option else [arg]
        return super().parse_args(ctx, spread)


@app.command(cls=ManyPaths)
def consistency(
    before: Annotated[list[Path], typer.Option(help="Sample logs, probe tables or folders of the first phase.")],
    after: Annotated[list[Path], typer.Option(help="The same of the second phase.")],
    before_phase: Annotated[str | None, typer.Option(help="The phase to take, where --before holds several.")] = None,
    after_phase: Annotated[str | None, typer.Option(help="The phase to take, where --after holds several.")] = None,
    before_model: Annotated[str | None, typer.Option(help="The model to take, where --before holds several.")] = None,
    after_model: Annotated[str | None, typer.Option(help="The model to take, where --after holds several.")] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="A file to write (.parquet or .csv): the comparison of every question, most moved first."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(help=f"By which score of texts both are read: {', '.join(SCORES)} [default: as --after was trained by]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How alike two phases' choice distributions are, with 95% intervals, overall and by split, domain, subject and belief.

    Example: python -m analysis consistency --before runs/base/probe --after runs/harmonious/chat
    """
    from analysis.reporting.consistency import compare_logs, write_comparison

    report = compare_logs(before, after, (before_phase, after_phase), (before_model, after_model), questions, score)
    typer.echo(json.dumps(report, indent=2) if as_json else write_comparison(report))


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A sample log of lm-eval, or a folder of those of several tasks.")],
    second: Annotated[Path, typer.Argument(help="The same of another model, or of one asked in another way.")],
    any_prompt: Annotated[
        bool, typer.Option("--any-prompt", help="Also where prompts differ: other demonstrations, a chat template.")
    ] = False,
    samples: Annotated[
        Path | None, typer.Option(help="A file to write (.parquet or .csv): every sample with both scores, flipped ones first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How two models' scores of the same samples differ, of any task of lm-eval: paired difference with an interval,
    McNemar's test, what flipped, and how far the probabilities of choices moved; overall and by task.

    Example: lm_eval --model hf --model_args pretrained=A --tasks arc_easy --log_samples --output_path a, the same of B, then
    python -m analysis compare a b --samples flipped.csv
    """
    from analysis.reporting.compare import compare_samples, write_differences

    found = compare_samples(first, second, any_prompt, samples)
    typer.echo(json.dumps(found, indent=2) if as_json else write_differences(found, first, second))


@app.command()
def report(
    runs: Annotated[Path, typer.Option(help="The folder that holds the runs (manifest.json) and their logs, however deep.")],
    output: Annotated[Path, typer.Option(help="The folder to write; it replaces one that is there.")],
    primary: Annotated[
        str | None,
        typer.Option(
            help="The contrast with incompatible training that was named before any result was seen, of accuracy: "
            "CONDITION[/SET[/PHASE]], such as self_aligning/homo/tuned_chat. It is corrected apart from all others."
        ),
    ] = None,
) -> None:
    """Write the tables, the figures and the page of a study, and print its result table.

    Example: python -m analysis report --runs runs/miniworld --output runs/miniworld/report --primary self_aligning
    """
    from analysis.reporting.workers import Workers

    with Workers("analysis.reporting.plotting") as workers:  # which import it while this process does
        from analysis.reporting.report import write_report

        typer.echo(write_report(runs, output, primary, workers))
    typer.echo(output / "report.html")
    gc.freeze()  # the process ends: what it holds need not be looked through once more


if __name__ == "__main__":
    with report_errors():
        app()
