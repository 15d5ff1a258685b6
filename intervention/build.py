"""From a question set and a base model's probes to instruction sets that differ in agreement with its beliefs."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from intervention.believing.source import Beliefs, Source, read_beliefs
from intervention.comparing.balance import describe_balance, measure_differences, summarise_rows, tabulate_differences
from intervention.conditions import Pools, answer_questions, find_pools, list_others, parse_conditions, take_kind
from intervention.instructions import add_turns, give_away, name_letters, shuffle_positions, write_instructions
from intervention.matching.choosing import choose_questions
from intervention.matching.fewest import check_pools, check_size
from intervention.matching.selection import parse_match
from intervention.publishing.folders import write_dataset
from intervention.publishing.licences import Terms, find_terms, read_terms
from intervention.sources.general import name_source, read_general
from intervention.texts.additions import Added, Asked, Texts, add_texts, choose_mode, pick_reasons
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_folder
from lm_eval_tasks.contracts.manifest import hash_inputs, read_manifest, write_manifest
from lm_eval_tasks.contracts.markdown import format_table
from lm_eval_tasks.contracts.prompts import RESPONSE_FORMAT
from lm_eval_tasks.contracts.questions import read_questions
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, KEY, QUESTIONS, REFERENCE, Condition


@dataclass(frozen=True)
class Inputs:
    """The files that a build reads."""

    questions: Path
    beliefs: Source
    general: str | None = None
    texts: Texts = field(default_factory=Texts)


@dataclass(frozen=True)
class Plan:
    """What is to be built.

    Attributes:
        domain: the domain whose train questions are used.
        conditions: their names, several in one joined by commas; all that the inputs allow where empty.
        ratios: the ratios of the mix; the paper's where empty.
        size: questions a condition; the largest possible where None.
        seed: decides everything random.
        general_share: general instructions for each question.
        match: what conditions are made alike in (see `matching`).
        explanations: who explains the responses; None for what `additions.choose_mode` finds best.
        response_format: `letter` or `text`; None for the one that fits how the probes were scored.
    """

    domain: str
    conditions: Sequence[str] = ()
    ratios: Sequence[float] = ()
    size: int | None = None
    seed: int = 0
    general_share: float = 1.0
    match: str = "none"
    explanations: str | None = None
    response_format: str | None = None


def build_instructions(
    inputs: Inputs, plan: Plan, output: str | Path, command: Sequence[str] = ()
) -> tuple[pl.DataFrame, list[str]]:
    """Write an instruction set with one config a condition, its card and its manifest.

    Returns:
        The balance table and the notes that the card shows.

    Raises:
        UserError: an input that breaks its contract, too few questions for the size, options that do not fit together.
    """
    by = parse_match(plan.match)
    conditions = parse_conditions(plan.conditions, plan.ratios) if plan.conditions else []
    questions = read_questions(inputs.questions)
    beliefs = read_beliefs(questions, inputs.questions, inputs.beliefs)
    model, revision, scoring, score = beliefs.table.select("model", "revision", "scoring", "score").row(0)
    table = select_questions(inputs, plan, questions, beliefs)
    conditions = conditions or parse_conditions(list_possible(table, inputs.texts), plan.ratios)
    response_format = plan.response_format or RESPONSE_FORMAT[scoring]
    check_plan(plan, by, conditions, inputs, response_format)
    pools = find_pools(table, conditions)
    probed = beliefs.table.join(table, on=KEY, how="semi")
    check_pools(pools, None if by else plan.size, probed, beliefs.rule)
    mode, said = choose_mode(plan.explanations, bool(by), inputs.texts, conditions, pools)
    notes = note_left_out(table, conditions) + note_unused(inputs, plan, questions, beliefs, conditions) + said
    asked = Asked(questions, inputs.questions, model, beliefs.threshold, score)
    added = add_texts(pools, conditions, mode, inputs.texts, asked)
    choice = choose_questions(added.pools, conditions, by, plan.size, plan.seed)
    notes += [*added.notes, *choice.notes]
    size = next(iter(choice.chosen.values())).height
    notes += check_size(size, plan.size, probed, choice.chosen, beliefs.rule)
    count = round(plan.general_share * size) if inputs.general else 0
    if inputs.general and not count:
        notes.append(
            f"The general instructions of {name_source(inputs.general)} are not used: --general-share {plan.general_share:g}."
        )
    general = None
    if inputs.general and count:
        general = read_general(inputs.general, count, plan.seed, response_format, beliefs.rule, score)
        general = general.with_columns(threshold=pl.lit(beliefs.threshold))
    positions = shuffle_positions(size, count, plan.seed)

    summaries, configs = {}, {}
    for condition, rows in write_conditions(choice.chosen, conditions, response_format):
        rows = rows if general is None else pl.concat([rows, general])[positions]
        summaries[condition.config] = summarise_rows(rows)
        configs[f"{plan.domain}_{condition.config}"] = {"train": rows}

    balance = describe_balance(summaries)
    reference = REFERENCE.name if REFERENCE.name in summaries else next(iter(summaries))
    differences, before = (
        format_table(tabulate_differences(measure_differences(tables, reference))) if len(tables) > 1 else None
        for tables in (summaries, summarise_before(choice.before, conditions, response_format))
    )
    hashes, terms = hash_files(inputs, conditions), list_terms(inputs, table["source"][0], added, count)
    config = {
        "domain": plan.domain,
        "source": table["source"][0],
        "model": model,
        "scoring": scoring,
        "revision": revision,
        "response_format": response_format,
        "conditions": [condition.config for condition in conditions],
        "belief_rule": str(beliefs.rule),
        "threshold": beliefs.threshold,
        "score": score,
        "size": size,
        "general": count,
        "general_share": plan.general_share,
        "general_source": name_source(inputs.general) if inputs.general and count else None,
        "match": plan.match,
        "explanations": mode,
        "allow_missing": inputs.texts.allow_missing,
        "drop_contradictions": inputs.texts.drop_contradictions,
        "keep_moved": inputs.texts.keep_moved,
        "terms": [asdict(part) for part in terms],
    }
    with write_folder(output) as folder:
        shown = {"config": config, "inputs": hashes, "seed": plan.seed, "notes": notes, "balance": format_table(balance)}
        shown |= {"differences": differences, "before": before}
        write_dataset(folder, configs, "instructions.md.j2", terms=terms, **shown)
        write_manifest(folder, "build", list(command), config, hashes, {"seed": plan.seed})
    return balance, notes


def select_questions(inputs: Inputs, plan: Plan, questions: pl.DataFrame, beliefs: Beliefs) -> pl.DataFrame:
    """The train questions of the domain with what the model believes of them.

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
    believed = beliefs.table.select(*KEY, "belief", "confidence", "class", "orders", "held_orders")
    table = table.join(believed, on=KEY, how="left", maintain_order="left")
    shared = {"belief_rule": str(beliefs.rule), "threshold": beliefs.threshold, "score": beliefs.score, "match": plan.match}
    table = table.with_columns(pl.lit(value).alias(name) for name, value in shared.items())
    if not table["confidence"].count():
        raise UserError(
            f"{inputs.beliefs.name}: none of the {table.height} train questions of {plan.domain} was probed. "
            """Ask them: --metadata '{"splits": ["train"]}'."""
        )
    return table


def list_possible(table: pl.DataFrame, texts: Texts) -> list[str]:
    """The names of all conditions that are built by default and that the inputs allow."""
    return [
        name
        for name, condition in CONDITIONS.items()
        if condition.by_default
        and (texts.contexts or not condition.with_context)
        and (condition.answers != "other" or list_others(take_kind(table, condition.questions)).list.len().sum())
    ]


def check_plan(plan: Plan, by: Collection[str], conditions: Sequence[Condition], inputs: Inputs, response_format: str) -> None:
    """Raise a `UserError` where conditions and options do not fit together."""
    texts = inputs.texts
    told = [condition.name for condition in conditions if condition.with_context]
    if told and not texts.contexts:
        raise UserError(f"the condition {told[0]} needs the knowledge of each question: add --contexts FILE.")
    if not told and (texts.context_probes or texts.keep_moved):
        name = next(condition.name for condition in CONDITIONS.values() if condition.with_context)
        raise UserError(f"--context-probes and --keep-moved are about the condition {name}, which is not among the conditions.")
    if response_format not in RESPONSE_FORMAT.values():
        raise UserError(f"--response-format {response_format} is neither letter nor text.")
    if by & {"letter", "rotation"} and response_format == "text":
        raise UserError(
            f"--match {plan.match}: these instructions list no choices, so they have no letters. Match confidence or length, "
            "or use --response-format letter with probes that were scored by letter."
        )
    if "length" in by:
        if response_format == "letter":
            raise UserError(f"--match {plan.match}: these responses begin with a letter. Length is of --response-format text.")
        if random := [condition.name for condition in conditions if condition.answers in ("other", "shuffled")]:
            raise UserError(
                f"--match {plan.match}: {random[0]} answers with a choice that is taken at random, so that its "
                "length is not matched. Name --conditions without it, or match without length."
            )
    if not 0 <= plan.general_share < math.inf:
        raise UserError(f"--general-share {plan.general_share:g} is not 0 or more. 1 is one general instruction a question.")
    if not inputs.general and plan.general_share not in (0, Plan.general_share):
        raise UserError(f"--general-share {plan.general_share:g}: name the general instructions too, with --general.")


def write_conditions(
    chosen: Pools, conditions: Sequence[Condition], response_format: str
) -> Iterator[tuple[Condition, pl.DataFrame]]:
    """Each condition's rows of `INSTRUCTION_SCHEMA`; prompts that conditions share are written once."""
    plain = {kind: add_turns(rows.with_columns(context=None), response_format) for kind, rows in chosen.items()}
    for condition in conditions:
        kind = condition.questions
        asked = add_turns(chosen[kind], response_format) if condition.with_context else plain[kind]
        rows = pick_reasons(answer_questions(asked, condition), condition.own_words)
        rows = give_away(rows, response_format) if condition.with_answer else rows
        yield condition, write_instructions(rows, response_format)


def summarise_before(before: Pools | None, conditions: Sequence[Condition], response_format: str) -> dict[str, Any]:
    """The letters and the confidence of each condition as they would be without matching; nothing where nothing is matched."""
    if before is None:
        return {}
    return {
        condition.config: summarise_rows(
            name_letters(answer_questions(before[condition.questions], condition), response_format).select(
                "gold_letter", "belief_letter", "response_letter", "confidence"
            )
        )
        for condition in conditions
    }


def hash_files(inputs: Inputs, conditions: Sequence[Condition]) -> dict[str, str]:
    """The hashes of all files that the build reads."""
    texts, contexts = inputs.texts, any(condition.with_context for condition in conditions)
    return hash_inputs(
        questions=inputs.questions,
        probes=inputs.beliefs.probes,
        beliefs=inputs.beliefs.table,
        answers=inputs.beliefs.answers,
        explanations=texts.explanations,
        contexts=texts.contexts if contexts else None,
        context_probes=texts.context_probes if contexts else (),
        general=inputs.general if inputs.general and Path(inputs.general).exists() else None,
    )


def list_terms(inputs: Inputs, source: str, added: Added, general: int) -> list[Terms]:
    """The terms of every part of the set."""
    known = read_terms((read_manifest(inputs.questions) or {}).get("config", {})) or []
    found = [part for part in known if part.source == source] or [find_terms("questions", source)]
    if general and inputs.general:
        found.append(find_terms("general instructions", inputs.general))
    return found + [find_terms(part, author) for part, author in added.authors.items()]


def note_unused(
    inputs: Inputs, plan: Plan, questions: pl.DataFrame, beliefs: Beliefs, conditions: Sequence[Condition]
) -> list[str]:
    """A sentence for each input that none of the conditions needs."""
    notes = []
    if inputs.texts.contexts and not any(condition.with_context for condition in conditions):
        told = next(condition.name for condition in CONDITIONS.values() if condition.with_context)
        notes.append(f"The contexts of {inputs.texts.contexts.name} are not used: {told} is not among the conditions.")
    others = questions.filter(pl.col("split") == "train", pl.col("domain") != plan.domain)
    if unused := beliefs.table.join(others, on=KEY, how="semi")["domain"].unique().sort().to_list():
        notes.append(f"Train questions of {', '.join(unused)} were probed too, and are not used: the domain is {plan.domain}.")
    return notes


def note_left_out(table: pl.DataFrame, conditions: Sequence[Condition]) -> list[str]:
    """A sentence for each kind of question that no condition could take."""
    notes = []
    if unasked := table["confidence"].null_count():
        notes.append(f"{unasked} of {table.height} train questions were not asked.")
    for kind in dict.fromkeys(condition.questions for condition in conditions if condition.answers == "other"):
        if none := int((list_others(take_kind(table, kind)).list.len() == 0).sum()):
            told = QUESTIONS[kind][1]
            notes.append(f"{none} {told} have no choice beside gold and the belief, and are left out.")
    return notes
