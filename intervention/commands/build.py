"""`python -m intervention build`: instruction sets that agree or clash with a model's beliefs."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import (
    Answers,
    BeliefRule,
    Beliefs,
    Domain,
    Folder,
    Probes,
    Questions,
    Score,
    Threshold,
    list_words,
    parse_rule,
)
from lm_eval_tasks.contracts.vocabulary import CONDITIONS


def build(
    questions: Questions,
    domain: Domain,
    output: Folder,
    probes: Probes = [],  # noqa: B006
    beliefs: Beliefs = None,
    conditions: Annotated[
        list[str],
        typer.Option(
            help=f"Of {', '.join(CONDITIONS)}; by commas or repeated "
            f"[default: all possible but {', '.join(c.name for c in CONDITIONS.values() if not c.by_default)}]."
        ),
    ] = [],  # noqa: B006
    ratio: Annotated[list[float], typer.Option(help="Share of the belief in a mix; repeatable [default: the paper's].")] = [],  # noqa: B006
    threshold: Threshold = None,
    belief_rule: BeliefRule = None,
    score: Score = None,
    answers: Answers = None,
    size: Annotated[int | None, typer.Option(help="Questions a condition [default: as many as all can have].")] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    match: Annotated[
        str,
        typer.Option(
            help="none (as in the paper), letter, confidence, letter+confidence (drop rows), rotation (rotate choices; needs "
            "probes in every order), rotation+confidence; of text responses length, length+confidence (drop rows)."
        ),
    ] = "none",
    explanations: Annotated[
        list[str],
        typer.Option(
            help="gold, model, none or paper (gold's, but the model's own for its beliefs), and logs of selfalign_explain; "
            "repeatable [default: paper, where its texts are there; none with --match]."
        ),
    ] = [],  # noqa: B006
    contexts: Annotated[
        Path | None, typer.Option(help="Log of selfalign_context, or JSON lines: source, domain, id, context.")
    ] = None,
    context_probes: Annotated[
        list[Path], typer.Option(help="Log of a context probe: says how often contexts move the belief to gold; repeatable.")
    ] = [],  # noqa: B006
    keep_moved: Annotated[bool, typer.Option("--keep-moved", help="Keep only questions whose context does.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out questions that lack a text, instead of refusing.")
    ] = False,
    drop_contradictions: Annotated[
        bool, typer.Option("--drop-contradictions", help="Leave out questions whose explanation states another choice.")
    ] = False,
    general: Annotated[
        str | None,
        typer.Option(help="General instructions: a file or a data set of the Hub with the columns instruction, input, output."),
    ] = None,
    general_share: Annotated[float, typer.Option(help="General instructions for each question.")] = 1.0,
    response_format: Annotated[str | None, typer.Option(help="letter or text [default: as the probes were scored].")] = None,
) -> None:
    """Write instruction sets that agree or clash with the base model's beliefs, and differ in nothing else.

    \b
    All have one size; those that take the same questions have them in the same positions.

    \b
    Example:
      python -m intervention build --questions questions --probes probe/base --domain herbs \\
        --general vicgalle/alpaca-gpt4 --output instructions
      python -m intervention build --questions questions --probes probe/base --domain herbs \\
        --conditions harmonious,self_aligning,mix --ratio 0.4 --match letter+confidence --output matched
      python -m intervention build --questions questions --probes probe/base --domain herbs \\
        --belief-rule agreement:0.75 --output steady
      python -m intervention build --questions questions --probes probe/base --domain herbs \\
        --explanations paper --explanations explanations/base --contexts contexts/stronger --output explained
      python -m intervention build --questions questions --beliefs beliefs.parquet --domain herbs --output as_looked_at
      python -m intervention build --questions answers/choices --probes probed --answers answers/answers.parquet \\
        --domain herbs --conditions harmonious,incompatible,unknown --output free_form
      python -c "import datasets; print(datasets.load_dataset('instructions', 'herbs_mix-0.4')['train'][0])"
    """
    from intervention.believing.source import Source
    from intervention.build import Inputs, Plan, build_instructions
    from intervention.texts.additions import MODES, Texts
    from lm_eval_tasks.contracts.errors import UserError
    from lm_eval_tasks.contracts.markdown import format_table

    logs = [Path(value) for value in explanations if value not in MODES and Path(value).exists()]
    modes = [value for value in explanations if Path(value) not in logs]
    if len(modes) > 1:
        raise UserError(f"--explanations {' and '.join(modes)}: name one of {', '.join(MODES)} (and logs that exist).")
    texts = Texts(logs, contexts, context_probes, allow_missing, drop_contradictions, keep_moved)
    plan = Plan(domain, conditions, ratio, size, seed, general_share, match, next(iter(modes), None), response_format)
    inputs = Inputs(questions, Source(probes, beliefs, threshold, parse_rule(belief_rule), score, answers), general, texts)
    balance, notes = build_instructions(inputs, plan, output, list_words())
    print("\n".join([format_table(balance), "", *notes]))
    print(f"{output}: {balance.height} instruction sets, {domain}_{balance['condition'][0]} and so on")
