"""From a question set and a base model's probes to instruction sets that differ in agreement with its beliefs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from intervention.beliefs import find_beliefs
from intervention.conditions import (
    NAMES,
    RIGHT,
    Condition,
    answer_questions,
    choose_size,
    find_pools,
    list_wrong,
    parse_conditions,
    take_questions,
)
from intervention.folders import format_table, hash_inputs, write_dataset
from intervention.instructions import describe_balance, interleave_rows, read_contexts, read_general, write_instructions
from lm_eval_tasks.manifest import UserError, write_folder, write_manifest
from lm_eval_tasks.prompts import RESPONSE_FORMAT
from lm_eval_tasks.questions import KEY, read_questions
from lm_eval_tasks.samples import read_probes


@dataclass(frozen=True)
class Inputs:
    """The files that a build reads."""

    questions: Path
    probes: Sequence[Path]
    contexts: Path | None = None
    general: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be built.

    Attributes:
        domain: the domain whose train questions are used.
        conditions: their names, several in one joined by commas; all that the inputs allow where empty.
        ratios: the ratios of the mix; the paper's where empty.
        threshold: a prediction is a belief where its confidence is greater.
        size: questions a condition; the largest possible where None.
        seed: decides everything random.
        general_share: general instructions for each question.
        explanations: `none`, or `gold`: the question's explanation follows the response.
    """

    domain: str
    conditions: Sequence[str] = ()
    ratios: Sequence[float] = ()
    threshold: float = 0.5
    size: int | None = None
    seed: int = 0
    general_share: float = 1.0
    explanations: str = "none"


def build_instructions(
    inputs: Inputs, plan: Plan, output: str | Path, command: Sequence[str] = ()
) -> tuple[pl.DataFrame, list[str]]:
    """Write an instruction set with one config a condition, its card and its manifest.

    Returns:
        The balance table and the notes that the card shows.

    Raises:
        UserError: an input that breaks its contract, too few questions for the size, options that do not fit together.
    """
    conditions = parse_conditions(plan.conditions, plan.ratios) if plan.conditions else []
    questions = read_questions(inputs.questions)
    table, model, scoring = select_questions(inputs, plan, questions)
    conditions = conditions or parse_conditions(list_possible(table, plan, inputs.contexts is not None), plan.ratios)
    check_plan(plan, conditions, inputs.contexts is not None)
    pools = find_pools(table, conditions)
    size = choose_size(pools, plan.size)
    chosen = add_texts(take_questions(pools, size, plan.seed), questions, conditions, inputs, plan)
    count = round(plan.general_share * size) if inputs.general else 0
    general = read_general(inputs.general, count, plan.seed, RESPONSE_FORMAT[scoring]) if inputs.general and count else None

    configs, answered = {}, {}
    for condition in conditions:
        rows = answer_questions(chosen["incompatible" if condition.shared else condition.name], condition, plan.seed)
        if condition.name != "contextualized":
            rows = rows.with_columns(context=pl.lit(None, dtype=pl.String))
        answered[condition.label] = rows.select("choices", "choice", "belief", "answer", "confidence")
        rows = rows.with_columns(
            order=pl.lit(0, dtype=pl.Int64),
            explanation_from=pl.when(pl.col("reason").is_not_null()).then(pl.lit("gold")),
            contradicts=pl.lit(None, dtype=pl.Boolean),
        )
        rows = write_instructions(rows, RESPONSE_FORMAT[scoring])
        rows = rows if general is None else interleave_rows(rows, general, plan.seed)
        configs[f"{plan.domain}_{condition.label}"] = {"train": rows}

    balance = describe_balance(answered, count)
    hashes = hash_inputs(
        questions=inputs.questions,
        probes=inputs.probes,
        contexts=inputs.contexts if any(c.name == "contextualized" for c in conditions) else None,
        general=inputs.general,
    )
    config = {
        "domain": plan.domain,
        "source": chosen[next(iter(chosen))]["source"][0],
        "model": model,
        "scoring": scoring,
        "response_format": RESPONSE_FORMAT[scoring],
        "conditions": [condition.label for condition in conditions],
        "threshold": plan.threshold,
        "size": size,
        "general": count,
        "general_share": plan.general_share,
        "explanations": plan.explanations,
    }
    with write_folder(output) as folder:
        facts = {"config": config, "inputs": hashes, "seed": plan.seed, "notes": (notes := note_left_out(table, conditions))}
        write_dataset(folder, configs, "instructions.md.j2", balance=format_table(balance), **facts)
        write_manifest(folder, "build", list(command), config, hashes, {"seed": plan.seed})
    return balance, notes


def select_questions(inputs: Inputs, plan: Plan, questions: pl.DataFrame) -> tuple[pl.DataFrame, str, str]:
    """The train questions of the domain with what the model believes of them; the model; and how it was asked.

    Raises:
        UserError: no train questions, of several sources, or none that was probed.
    """
    table = questions.filter(pl.col("split") == "train", pl.col("domain") == plan.domain)
    if not table.height:
        domains = ", ".join(questions.filter(pl.col("split") == "train")["domain"].unique().sort()) or "no domain"
        raise UserError(f"{inputs.questions} has no train questions of {plan.domain!r}; it has some of {domains}.")
    if len(sources := table["source"].unique().sort()) > 1:
        raise UserError(
            f"{inputs.questions}: the train questions of {plan.domain} are of {len(sources)} sources, {sources[0]!r} and "
            f"{sources[1]!r}, but a model is trained on one. Make a question set whose train split has one of them."
        )
    beliefs = find_beliefs(questions, read_probes(inputs.probes), plan.threshold, inputs.questions, inputs.probes)
    facts = beliefs.row(0, named=True)
    beliefs = beliefs.select(*KEY, "belief", "confidence", "class")
    table = table.join(beliefs, on=KEY, how="left", maintain_order="left")
    if not table["confidence"].count():
        raise UserError(
            f"{', '.join(map(str, inputs.probes))}: none of the {table.height} train questions of {plan.domain} was probed. "
            """Ask them: --metadata '{"splits": ["train"]}'."""
        )
    return table, facts["model"], facts["scoring"]


def list_possible(table: pl.DataFrame, plan: Plan, contexts: bool) -> list[str]:
    """The names of all conditions that the inputs and the options allow."""
    third = list_wrong(table.filter(pl.col("class") == "incompatible")).list.len().sum()
    impossible = {"contextualized"} if not contexts else set()
    impossible |= {"random_wrong"} if not third else set()
    return [n for n in NAMES if n not in impossible and (plan.explanations == "none" or n in RIGHT)]


def check_plan(plan: Plan, conditions: Sequence[Condition], contexts: bool) -> None:
    """Raise a `UserError` where conditions and options do not fit together."""
    names = [condition.name for condition in conditions]
    if "contextualized" in names and not contexts:
        raise UserError("the condition contextualized needs the knowledge of each question: add --contexts FILE.jsonl.")
    if plan.explanations not in ("none", "gold"):
        raise UserError(f"--explanations {plan.explanations} is neither none nor gold.")
    if plan.explanations == "gold" and (wrong := [name for name in names if name not in RIGHT]):
        raise UserError(
            f"--explanations gold explains gold, but {wrong[0]} also answers with other choices. Build only "
            f"{', '.join(RIGHT)} with it, or leave it out."
        )
    if not 0 <= plan.general_share < math.inf:
        raise UserError(f"--general-share {plan.general_share:g} is not 0 or more. 1 is one general instruction a question.")


def add_texts(
    chosen: dict[str, pl.DataFrame], questions: pl.DataFrame, conditions: Sequence[Condition], inputs: Inputs, plan: Plan
) -> dict[str, pl.DataFrame]:
    """Add `reason` (what explains the response, or null) and `context` (what the contextualized prompt says, or null).

    Raises:
        UserError: a chosen question lacks the explanation or the context that is asked for.
    """
    explained = plan.explanations == "gold"
    reason = pl.col("explanation") if explained else pl.lit(None, dtype=pl.String)
    chosen = {kind: rows.with_columns(reason=reason, context=pl.lit(None, dtype=pl.String)) for kind, rows in chosen.items()}
    if explained:
        for rows in chosen.values():
            blank = pl.col("reason").fill_null("").str.strip_chars() == ""
            _check_none_lacks(rows, blank, f"{inputs.questions}: no explanation", "Write it, or leave out --explanations gold")
    if any(condition.name == "contextualized" for condition in conditions) and inputs.contexts:
        contexts = read_contexts(inputs.contexts, questions)
        rows = chosen["incompatible"].drop("context").join(contexts, on=KEY, how="left", maintain_order="left")
        _check_none_lacks(
            rows, pl.col("context").is_null(), f"{inputs.contexts}: no context", "Write it, or leave out contextualized"
        )
        chosen["incompatible"] = rows
    return chosen


def note_left_out(table: pl.DataFrame, conditions: Sequence[Condition]) -> list[str]:
    """A sentence for each kind of question that no condition could take."""
    notes = []
    if unasked := table["confidence"].null_count():
        notes.append(f"{unasked} of {table.height} train questions were not asked.")
    third = list_wrong(table.filter(pl.col("class") == "incompatible")).list.len()
    if any(condition.name == "random_wrong" for condition in conditions) and (none := int((third == 0).sum())):
        notes.append(f"{none} incompatible questions have no choice beside gold and the belief, and are left out.")
    return notes


def _check_none_lacks(rows: pl.DataFrame, lacks: pl.Expr, what: str, remedy: str) -> None:
    lacking = rows.filter(lacks)
    if lacking.height:
        first = lacking.sort(KEY).row(0, named=True)
        more = f" (and of {lacking.height - 1} more)" if lacking.height > 1 else ""
        raise UserError(f"{what} of question {first['source']}/{first['domain']} id {first['id']!r}{more}. {remedy}.")
