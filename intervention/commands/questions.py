"""`python -m intervention questions`: the questions of a source as a question set."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intervention.commands.options import Folder, list_words
from intervention.commands.teaching import BANKS, OWN, PUBLISHED

if TYPE_CHECKING:
    import polars as pl

    from intervention.sources.origin import Origin

app = typer.Typer(no_args_is_help=True, help="Write a question set from the questions of a source.", rich_markup_mode=None)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files; train=FILE holds train questions.")]
Split = Annotated[str | None, typer.Option(help="The split of all questions: train, dev or test.")]
Columns = Annotated[
    list[str], typer.Option("--column", metavar="NAME=COLUMN", help="The file's column for one of ours; repeatable.")
]
Constants = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="source, domain, subject or split of all; repeatable.")
]
Separator = Annotated[str | None, typer.Option(help="What stands between choices or answers in one text, as '\\n'.")]
Answers = Annotated[str | None, typer.Option(help="index (from 0), number (from 1), letter or text [default: inferred].")]
Divided = Annotated[
    str | None,
    typer.Option(
        "--splits", help="How questions that name no split are divided: counts of each domain, and shares of the others "
        "[default: train=0.7,dev=10,test=0.3]."
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Decides which question comes into which of the --splits.")]
Licence = Annotated[str | None, typer.Option(help="The licence of the questions, as the Hub names it (cc-by-4.0).")]
Data = Annotated[
    str | None, typer.Option("--data", help="Another Hub id, a folder of the same layout, or the folder of the authors' files.")
]
Domains = Annotated[list[str], typer.Option("--domain", help="A domain to write; repeatable [default: all].")]
Strict = Annotated[bool, typer.Option("--strict", help="Leave out no question that cannot be asked: the first is an error.")]


@app.callback()
def choose_source() -> None:
    """Write a question set from the questions of a source."""


@app.command("medmcqa")
def questions_medmcqa(
    output: Folder,
    data: Data = None,
    first: Annotated[int | None, typer.Option(help="The first choice's number in cop, 0 or 1 [default: found out].")] = None,
) -> None:
    """Write MedMCQA's questions with one right choice and an explanation: the domain medicine.

    \b
    From the Hub (openlifescienceai/medmcqa), a folder of the same layout, or the authors' train.json and dev.json.
    test is MedMCQA's validation split, dev ten of its train questions. An id is the split and the row (validation/5).

    \b
    Example:
      python -m intervention questions medmcqa --output questions
      python -m intervention questions medmcqa --data downloads/medmcqa --output questions
    """
    from intervention.sources.medmcqa import HUB, read_medmcqa

    _keep_quiet()
    table, origin = read_medmcqa(data or HUB, first)
    _write(table, origin, output, data=data or HUB)


@app.command("xiezhi")
def questions_xiezhi(
    files: Annotated[list[Path], typer.Argument(metavar="PLACE...", help="Xiezhi's repository, or JSON lines, plain or .gz.")],
    output: Folder,
    domain: Annotated[list[str], typer.Option(help="A label; repeatable [default: engineering, history, jurisprudence].")] = [],  # noqa: B006
) -> None:
    """Write Xiezhi's questions in the paper's domains and the paper's split (250 test, 10 dev, the rest train).

    \b
    PLACE is a clone of github.com/MikeGu721/XiezhiBenchmark; or its files xiezhi_inter_eng/xiezhi.v1.1.json and
    xiezhi_spec_eng/xiezhi.v1.1.json, in this order; or files that are named after their label (Engineering.jsonl).
    An id is the row's number among those of its label, as in the paper.

    \b
    Example:
      python -m intervention questions xiezhi XiezhiBenchmark --output questions
      python -m intervention questions xiezhi Engineering.jsonl.gz --output questions
    """
    from intervention.sources.xiezhi import find_files, read_xiezhi
    from lm_eval_tasks.contracts.manifest import hash_inputs

    table, origin = read_xiezhi(files, domain)
    _write(table, origin, output, hash_inputs(questions=[file for place in files for file in find_files(place)]))


@app.command("join")
def questions_join(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Question sets; dev,test=SET takes these splits alone.")],
    output: Folder,
    domain: Annotated[
        list[str], typer.Option(metavar="NEW=OLD,OLD", help="A new name for domains of the sets; repeatable.")
    ] = [],  # noqa: B006
    most: Annotated[
        list[str],
        typer.Option(metavar="[DOMAIN/]SPLIT=N", help="At most so many questions of each source and domain; repeatable."),
    ] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Decides which questions --most takes.")] = 0,
) -> None:
    """Write several question sets as one: what a study trains on, and what it is evaluated on.

    A question of the same domain from another source is ID, one of another domain OOD. --domain brings banks together that
    name their domains otherwise.

    \b
    Example:
      python -m intervention questions join mine dev,test=mmlu --domain science=physics,chemistry,biology \\
        --most test=20 --most science/test=100 --output questions
    """
    from intervention.sources.joining import join_sets, read_word
    from lm_eval_tasks.contracts.manifest import hash_inputs

    table, origin = join_sets(sets, domain, most, seed)
    _write(table, origin, output, hash_inputs(questions=[Path(read_word(word)[1]) for word in sets]))


@app.command("triviaqa", help=BANKS["triviaqa"])
def _questions_triviaqa(
    output: Folder,
    data: Data = None,
    config: Annotated[str | None, typer.Option(help="Which config, as unfiltered.nocontext [default: rc.nocontext].")] = None,
    splits: Divided = None,
    seed: Seed = 0,
    strict: Strict = False,
) -> None:
    _write_bank("triviaqa", output, data, splits, seed=seed, config=config, strict=strict)


@app.command("popqa", help=BANKS["popqa"])
def _questions_popqa(output: Folder, data: Data = None, splits: Divided = None, seed: Seed = 0, strict: Strict = False) -> None:
    _write_bank("popqa", output, data, splits, seed=seed, strict=strict)


@app.command("squad", help=BANKS["squad"])
def _questions_squad(
    output: Folder,
    data: Data = None,
    open_book: Annotated[bool, typer.Option("--open-book", help="Put the paragraph before its question.")] = False,
    splits: Divided = None,
    seed: Seed = 0,
    strict: Strict = False,
) -> None:
    _write_bank("squad", output, data, splits, seed=seed, open_book=open_book, strict=strict)


@app.command("sciq", help=BANKS["sciq"])
def _questions_sciq(
    output: Folder,
    data: Data = None,
    free_form: Annotated[bool, typer.Option("--free-form", help="Without the choices: a free-form question set.")] = False,
    splits: Divided = None,
    seed: Seed = 0,
    strict: Strict = False,
) -> None:
    _write_bank("sciq", output, data, splits, seed=seed, free_form=free_form, strict=strict)


def _write_bank(name: str, output: Path, data: str | None, splits: str | None, **options: Any) -> None:
    from intervention.sources.banks import BANKS as KNOWN
    from intervention.sources.banks import read_bank
    from intervention.sources.splits import parse_splits

    _keep_quiet()
    table, origin = read_bank(name, data, splits=None if splits is None else parse_splits(splits), **options)
    _write(table, origin, output, data=data or KNOWN[name].path)


def _add_published(name: str, teaches: str) -> None:
    @app.command(name, help=teaches)
    def write_published(output: Folder, data: Data = None, domain: Domains = [], strict: Strict = False) -> None:  # noqa: B006
        from intervention.sources.published import HUB, read_published

        _keep_quiet()
        table, origin = read_published(name, data, domain, strict)
        _write(table, origin, output, data=data or HUB[name])


def _add_own(kind: str, teaches: str) -> None:
    @app.command(kind, help=teaches)
    def write_own(
        files: Files,
        output: Folder,
        split: Split = None,
        column: Columns = [],  # noqa: B006
        constant: Constants = [],  # noqa: B006
        separator: Separator = None,
        answers: Answers = None,
        licence: Licence = None,
        splits: Divided = None,
        seed: Seed = 0,
        strict: Strict = False,
    ) -> None:
        from intervention.sources.layout import make_layout
        from intervention.sources.own import find_file, read_own
        from intervention.sources.splits import parse_splits
        from lm_eval_tasks.contracts.manifest import hash_inputs

        layout = make_layout(column, constant, split, separator, answers)
        divided = None if splits is None else parse_splits(splits)
        table, origin = read_own(kind, files, layout, licence, divided, seed, strict)
        _write(table, origin, output, hash_inputs(questions=[find_file(name, {})[0] for name in files]))


for name, teaches in PUBLISHED.items():
    _add_published(name, teaches)
for kind, teaches in OWN.items():
    _add_own(kind, teaches)


def _keep_quiet() -> None:
    """Without a network one line says so, after the Hub's client has tried several times and warned each time."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _write(
    table: "pl.DataFrame", origin: "Origin", output: Path, inputs: Mapping[str, str] | None = None, data: str = ""
) -> None:
    """Write the set, and print its counts, what was left out and what was decided."""
    from intervention.sources.origin import hash_source
    from intervention.sources.questions import write_questions
    from lm_eval_tasks.contracts.markdown import format_table

    counts = write_questions(table, output, list_words(), inputs or hash_source(data, table), origin)
    lines = [f"left out: {rows:,} rows, {reason}" for reason, rows in origin.dropped.items()]
    print("\n".join([format_table(counts), "", *lines, *origin.notes, f"{output}: the question set"]))
