"""`python -m intervention`: questions to question sets, probes to beliefs, both to instruction sets."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_tasks.manifest import report_errors

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None
)
sources = typer.Typer(no_args_is_help=True, help="Write a question set from the questions of a source.", rich_markup_mode=None)
app.add_typer(sources, name="questions")
requests = typer.Typer(no_args_is_help=True, help="Write what a model is to be asked to write about.", rich_markup_mode=None)
app.add_typer(requests, name="requests")

Questions = Annotated[Path, typer.Option(help="The question set (a folder).")]
Probes = Annotated[list[Path], typer.Option(help="Sample log, probe table, or a folder of them; repeatable.")]
Threshold = Annotated[float, typer.Option(help="A prediction is a belief where its confidence is greater.")]
Folder = Annotated[Path, typer.Option(help="The folder to write.")]
Domain = Annotated[str, typer.Option(help="The domain whose train questions are used.")]
Requests = Annotated[Path, typer.Option(help="The requests file to write (parquet).")]


@sources.callback()
def choose_source() -> None:
    """Write a question set from the questions of a source."""


@sources.command("jsonl")
def questions_jsonl(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines, plain or .gz.")],
    output: Folder,
    split: Annotated[str | None, typer.Option(help="The split of all questions: train, dev or test.")] = None,
) -> None:
    """Write JSON lines of your own as a question set.

    \b
    A line: {"id": "1", "source": "mine", "domain": "herbs", "split": "test", "question": "What heals?",
             "choices": ["sage", "ivy"], "answer": 0}
    and, if you have them, subject, explanation and topics. Without `split` in the lines, name --split.

    \b
    Example:
      python -m intervention questions jsonl mine.jsonl --output questions
      python -c "import datasets; print(datasets.load_dataset('questions', 'herbs'))"
    """
    from intervention.folders import format_table
    from intervention.questions import convert_jsonl

    print(f"{format_table(convert_jsonl(files, output, split, list_words()))}\n\n{output}: the question set")


@app.command()
def beliefs(
    questions: Questions,
    probes: Probes,
    output: Annotated[Path, typer.Option(help="The parquet file to write.")],
    threshold: Threshold = 0.5,
) -> None:
    """Write one row a question: what the base model believes, how confidently, and whether that is gold.

    \b
    Example:
      python -m intervention beliefs --questions questions --probes probe/base --output beliefs.parquet
    """
    from intervention.beliefs import count_beliefs, read_beliefs, write_beliefs
    from intervention.folders import format_table

    table, unasked = read_beliefs(questions, probes, threshold)
    write_beliefs(table, output)
    print(
        f"{format_table(count_beliefs(table))}\n\n{output}: {table.height} questions ({unasked} in {questions} were not asked)"
    )


@requests.command("explain")
def requests_explain(
    questions: Questions,
    probes: Probes,
    domain: Domain,
    output: Requests,
    answers: Annotated[
        str, typer.Option(help="belief: the model's wrong beliefs; gold: gold of each probed question.")
    ] = "belief",
    threshold: Threshold = 0.5,
) -> None:
    """Write which answers the base model is to explain: its own wrong beliefs, as the condition self_aligning needs them.

    \b
    Example:
      python -m intervention requests explain --questions questions --probes probe/base --domain herbs \\
        --output explain.parquet
      python -m lm_eval_tasks run --model hf --model_args pretrained=MODEL --tasks selfalign_explain \\
        --metadata '{"requests": "explain.parquet"}' --log_samples --output_path explanations
    """
    from intervention.requests import request_explanations, write_requests

    table = request_explanations(questions, probes, domain, answers, threshold)
    write_requests(table, output)
    print(f"{output}: {table.height} answers to explain ({answers} of train questions of {domain}), for selfalign_explain")


@requests.command("context")
def requests_context(
    questions: Questions,
    domain: Domain,
    output: Requests,
    probes: Annotated[
        list[Path], typer.Option(help="Probes of the base model: only the questions on which its belief is wrong; repeatable.")
    ] = [],  # noqa: B006
    threshold: Threshold = 0.5,
) -> None:
    """Write which questions need background knowledge, as the condition contextualized needs it: all train questions, or,
    with --probes, those on which the base model's belief is wrong.

    \b
    Example:
      python -m intervention requests context --questions questions --probes probe/base --domain herbs \\
        --output context.parquet
      python -m lm_eval_tasks run --model hf --model_args pretrained=STRONGER --tasks selfalign_context \\
        --metadata '{"requests": "context.parquet"}' --apply_chat_template --log_samples --output_path contexts
    """
    from intervention.requests import request_contexts, write_requests

    table = request_contexts(questions, domain, probes, threshold)
    write_requests(table, output)
    print(f"{output}: {table.height} train questions of {domain} that need knowledge, for selfalign_context")


@app.command()
def build(
    questions: Questions,
    probes: Probes,
    domain: Annotated[str, typer.Option(help="The domain whose train questions are used.")],
    output: Folder,
    conditions: Annotated[list[str], typer.Option(help="Names, joined by commas or repeated [default: all possible].")] = [],  # noqa: B006
    ratio: Annotated[list[float], typer.Option(help="Share of the belief in a mix; repeatable [default: the paper's].")] = [],  # noqa: B006
    threshold: Threshold = 0.5,
    size: Annotated[int | None, typer.Option(help="Questions a condition [default: as many as all can have].")] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    contexts: Annotated[Path | None, typer.Option(help="JSON lines: source, domain, id, context.")] = None,
    general: Annotated[Path | None, typer.Option(help="JSON lines: instruction, input, output.")] = None,
    general_share: Annotated[float, typer.Option(help="General instructions for each question.")] = 1.0,
    explanations: Annotated[str, typer.Option(help="none, or gold where every response is gold.")] = "none",
) -> None:
    """Write instruction sets that agree or clash with the base model's beliefs, and differ in nothing else.

    \b
    Conditions: harmonious, incompatible, self_aligning, contextualized, random_wrong, mix, gold.
    All have one size; all but harmonious and gold have the same questions in the same places.

    \b
    Example:
      python -m intervention build --questions questions --probes probe/base --domain herbs \\
        --conditions harmonious,self_aligning,mix --ratio 0.4 --general general.jsonl --output instructions
      python -c "import datasets; print(datasets.load_dataset('instructions', 'herbs_mix-0.4')['train'][0])"
    """
    from intervention.build import Inputs, Plan, build_instructions
    from intervention.folders import format_table

    plan = Plan(domain, conditions, ratio, threshold, size, seed, general_share, explanations)
    balance, notes = build_instructions(Inputs(questions, probes, contexts, general), plan, output, list_words())
    print("\n".join([format_table(balance), "", *notes]))
    print(f"{output}: {balance.height} instruction sets, {domain}_{balance['condition'][0]} and so on")


@app.command()
def released(
    input: Annotated[Path, typer.Option(help="A group's folder (.../<model>/<domain>) or a tree of them.")],  # noqa: A002
    output: Folder,
    model: Annotated[str | None, typer.Option(help="The base model [default: the folder's name].")] = None,
    domain: Annotated[str | None, typer.Option(help="The domain [default: the folder's name].")] = None,
) -> None:
    """Write the paper's released groups as a probe table (probes.parquet) and instruction sets (instructions/).

    \b
    Example:
      python -m intervention released --input Self-Aligning/data/llama-2-7b/engineering --output released
    """
    from intervention.folders import format_table
    from intervention.released import FILES, convert_released

    summary = convert_released(input, output, model, domain, list_words())
    for row in summary.filter(summary["rows"].is_null()).iter_rows(named=True):
        place = f"{row['model']}/{row['domain']}"
        print(f"{place}: {FILES[row['condition']]} is missing, so {row['condition']} is left out", file=sys.stderr)
    print(f"{format_table(summary.drop_nulls())}\n\n{output}: probe tables and instruction sets")


def list_words() -> list[str]:
    """The command line as a manifest keeps it."""
    return ["-m", "intervention", *sys.argv[1:]]


if __name__ == "__main__":
    with report_errors():
        app()
