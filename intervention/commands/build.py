"""`python -m intervention build`: instruction sets that agree or clash with a model's beliefs."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import Folder, Probes, Questions, Threshold, list_words


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
