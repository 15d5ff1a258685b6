"""What is added to questions and answers: explanations after a response, and the context that comes before a question.

A question that lacks what a condition needs is left out of all conditions that share it, so that they keep the same questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from intervention.conditions import Pools, list_responses, name_kind
from intervention.texts.logs import read_contexts, read_explanations, read_moves
from intervention.texts.statements import find_contradictions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.scores import compute_wilson
from lm_eval_tasks.contracts.questions import name_question
from lm_eval_tasks.contracts.vocabulary import KEY, Condition

MODES = ("gold", "model", "none", "paper")
ROLES = {"gold": "answer", "belief": "belief"}  # what a response says -> the column that has its index
OWN = "own"  # the role of gold where the base model's own words follow it whatever the mode
# Who explains gold and who explains the belief, by mode; nobody explains a random wrong choice.
_AUTHORS = {
    "none": {"gold": None, "belief": None},
    "gold": {"gold": "gold", "belief": None},
    "paper": {"gold": "gold", "belief": "model"},
    "model": {"gold": "model", "belief": "model"},
}


@dataclass(frozen=True)
class Texts:
    """The logs of generations that a build reads, and what is to be done about gaps and flaws in them.

    Attributes:
        explanations: of the base model, for `model` and `paper`.
        contexts: the knowledge that questions need, for contextualized.
        context_probes: the base model asked after these contexts.
        allow_missing: leave out questions that lack a text, instead of refusing.
        drop_contradictions: leave out questions with an explanation that states another choice than it goes with.
        keep_moved: keep only questions whose context moves the belief to gold.
    """

    explanations: Sequence[Path] = ()
    contexts: Path | None = None
    context_probes: Sequence[Path] = ()
    allow_missing: bool = False
    drop_contradictions: bool = False
    keep_moved: bool = False


@dataclass(frozen=True)
class Asked:
    """What beliefs are of, and texts have to be of.

    Attributes:
        questions: the whole question set.
        folder: its folder, which an error names.
        model: the base model.
        threshold: a prediction is a belief where its confidence is greater.
        score: which log-likelihoods of choices confidences are of.
    """

    questions: pl.DataFrame
    folder: Path
    model: str
    threshold: float
    score: str


@dataclass
class Added:
    """The pools with their texts, who wrote these, and a sentence for each thing that was left out or found."""

    pools: dict[str, pl.DataFrame]  # as `conditions.Pools`
    notes: list[str] = field(default_factory=list)
    authors: dict[str, str] = field(default_factory=dict)  # `explanations`, `contexts` -> the model, or the file of its texts


def choose_mode(
    mode: str | None, matched: bool, texts: Texts, conditions: Sequence[Condition], pools: Pools
) -> tuple[str, list[str]]:
    """The mode of explanations, and a sentence where it is not what it would be if all texts were there.

    Where none is named it is `paper` (gold's, and the model's own of its beliefs), but `none` where conditions are matched, so
    that they differ in agreement only, and where nobody wrote what `paper` needs.

    Raises:
        UserError: an unknown mode, logs without a mode for matched conditions, or the model's explanations without a log.
    """
    own = [condition.name for condition in conditions if condition.own_words]
    if mode is not None and mode not in MODES:
        raise UserError(f"--explanations {mode} is none of {', '.join(MODES)}, and no log at that path.")
    if own and not texts.explanations:
        raise UserError(
            f"the condition {own[0]} needs what the base model says for gold: write what to ask (`python -m intervention "
            "requests explain --answers gold`), ask, and add --explanations LOG."
        )
    if own and mode == "model":
        raise UserError(
            f"--explanations model explains every response in the model's words, so that {own[0]} would be no condition of its "
            "own. Leave out one of them."
        )
    if own and mode is None:
        return "none", []  # so that its words are all that it differs in
    if mode is None and matched and texts.explanations:
        raise UserError(
            "--match makes conditions that differ in agreement only, so they have no explanations unless you say which: add "
            "--explanations model (or paper), or leave out the log."
        )
    if mode is None and matched:
        return "none", []
    believed = [kind for kind, column in list_responses(conditions) if column == "belief"]
    if mode is None:
        explained = any(pool["explanation"].fill_null("").str.strip_chars().ne("").any() for pool in pools.values())
        if believed and not texts.explanations:
            remedy = "ask for them (requests explain) and add --explanations LOG, or take --explanations gold"
            return "none", [f"No response is explained, because nobody explains the model's wrong beliefs: {remedy}."]
        return ("paper" if explained or believed else "none"), []
    if texts.explanations and mode in ("none", "gold") and not own:
        raise UserError(f"--explanations {mode} uses no log of explanations. Leave out the log, or name paper or model.")
    if (mode == "model" or (mode == "paper" and believed)) and not texts.explanations:
        raise UserError(
            f"--explanations {mode} needs the base model's explanations: write what to ask (`python -m intervention requests "
            "explain`), ask, and add --explanations LOG."
        )
    return mode, []


def add_texts(pools: Pools, conditions: Sequence[Condition], mode: str, texts: Texts, asked: Asked) -> Added:
    """Add `gold_reason`, `gold_by`, `gold_contradicts`, the same for `belief` and `own`, and `context` to each pool.

    Args:
        pools: the questions that each kind can take.
        conditions: what is built.
        mode: who explains (see `choose_mode`).
        texts: the logs.
        asked: what beliefs are of.

    Raises:
        UserError: a text is missing or of another question (see `texts.read_explanations`), or another model was asked after
            the contexts.
    """
    added = Added(dict(pools))
    answered = {(kind, column) for kind, column in list_responses(conditions)}
    explained, written = {column for _, column in answered}, None
    own = {condition.questions for condition in conditions if condition.own_words}
    by_model = any(_AUTHORS[mode][role] == "model" for role, column in ROLES.items() if column in explained)
    if texts.explanations and (own or by_model):
        written = read_explanations(texts.explanations, asked.questions, texts.allow_missing)
        added.authors["explanations"] = author = _name_author(written, texts.explanations[0])
        if author != asked.model and written["model"].count():
            added.notes.append(f"The model's explanations are by {author}, and the beliefs are of {asked.model}.")
    elif texts.explanations:
        names = ", ".join(log.name for log in texts.explanations)
        added.notes.append(f"The explanations of {names} are not used: no response is explained by the model.")
    if texts.drop_contradictions and not any(_AUTHORS[mode].values()):
        added.notes.append("--drop-contradictions drops nothing: no response is explained.")
    for kind in pools:
        for role, column in ROLES.items():
            author = _AUTHORS[mode][role] if (kind, column) in answered else None
            _explain(added, kind, role, author, written, texts, asked.folder)
        _explain(added, kind, OWN, "model" if kind in own else None, written, texts, asked.folder)
        added.pools[kind] = added.pools[kind].with_columns(context=pl.lit(None, dtype=pl.String))
    for kind in {condition.questions: None for condition in conditions if condition.with_context}:
        _add_contexts(added, kind, texts, asked)
    return added


def pick_reasons(table: pl.DataFrame, own_words: bool = False) -> pl.DataFrame:
    """Add `reason`, `explanation_from` and `contradicts` of the choice that each row answers with (`choice`).

    Args:
        table: the rows of a condition, with the columns that `add_texts` adds.
        own_words: whether the base model's own words follow gold.
    """
    says = {role: pl.col("choice") == pl.col(column) for role, column in ROLES.items()}
    gold = OWN if own_words else "gold"

    def pick(part: str) -> pl.Expr:
        return pl.when(says["gold"]).then(f"{gold}_{part}").when(says["belief"]).then(f"belief_{part}")

    return table.with_columns(reason=pick("reason"), explanation_from=pick("by"), contradicts=pick("contradicts"))


def _explain(
    added: Added, kind: str, role: str, author: str | None, written: pl.DataFrame | None, texts: Texts, folder: Path
) -> None:
    pool, column, name = added.pools[kind], ROLES.get(role, ROLES["gold"]), f"{role}_reason"
    if author is None:
        empty = {name: pl.String, f"{role}_by": pl.String, f"{role}_contradicts": pl.Boolean}
        added.pools[kind] = pool.with_columns(pl.lit(None, dtype=dtype).alias(part) for part, dtype in empty.items())
        return
    what = "explanation" if author == "gold" else f"explanation of {'the belief' if role == 'belief' else 'gold'}"
    if author == "gold":
        pool = pool.with_columns(pl.col("explanation").alias(name), finished=pl.lit(None, dtype=pl.Boolean))
    else:
        own = written.select(*KEY, pl.col("response").alias(column), pl.col("reason").alias(name), "finished")
        pool = pool.join(own, on=[*KEY, column], how="left", maintain_order="left")
    pool = pool.with_columns(pl.when(pl.col(name).str.strip_chars() != "").then(name), pl.lit(author).alias(f"{role}_by"))
    where = str(folder) if author == "gold" else _join(texts.explanations)
    pool = _keep_written(added, pool, kind, name, what, where, "build with --explanations none", texts.allow_missing)
    pool = pool.with_columns(find_contradictions(pool, name, column).alias(f"{role}_contradicts"))
    stated = pool[f"{role}_contradicts"].drop_nulls()
    if wrong := int(stated.sum()):
        end = (
            "these questions are left out"
            if texts.drop_contradictions
            else "column contradicts; --drop-contradictions drops them"
        )
        added.notes.append(
            f"{wrong} of the {len(stated)} texts that state a choice, {what} of {name_kind(kind)}, state another ({end})."
        )
        if texts.drop_contradictions:
            pool = pool.filter(~pl.col(f"{role}_contradicts").fill_null(False))
    added.pools[kind] = pool


def _add_contexts(added: Added, kind: str, texts: Texts, asked: Asked) -> None:
    written = read_contexts(texts.contexts, asked.questions, texts.allow_missing)
    added.authors["contexts"] = _name_author(written, texts.contexts)
    pool = added.pools[kind].drop("context").join(written.drop("model"), on=KEY, how="left", maintain_order="left")
    remedy = "leave out the condition with contexts"
    pool = _keep_written(added, pool, kind, "context", "context", str(texts.contexts), remedy, texts.allow_missing)
    if leaks := int(pool["leaks"].sum()):
        added.notes.append(f"{leaks} of {pool.height} contexts give the answer away; these questions are left out.")
    pool = pool.filter(~pl.col("leaks")).drop("leaks")
    if texts.context_probes:
        pool = _keep_moved(added, pool, kind, texts, asked)
    elif texts.keep_moved:
        raise UserError("--keep-moved needs the base model's answers after the contexts: add --context-probes LOG.")
    added.pools[kind] = pool


def _keep_moved(added: Added, pool: pl.DataFrame, kind: str, texts: Texts, asked: Asked) -> pl.DataFrame:
    moves = read_moves(texts.context_probes, asked.questions, asked.threshold, asked.score)
    if (model := moves["model"][0]) != asked.model:
        raise UserError(
            f"{_join(texts.context_probes)}: probes of {model!r}, but the beliefs are of {asked.model!r}. Name "
            "the log of the base model, asked after the contexts."
        )
    pool = pool.join(moves.select(*KEY, "moved"), on=KEY, how="left", maintain_order="left")
    told = pool["moved"].drop_nulls()
    share = ""
    if len(told):
        low, high = compute_wilson(told.mean(), len(told))
        share = f"; the context moves the belief to gold in {told.mean():.3f} [{low:.3f}, {high:.3f}] of them"
    end = " Only these questions are kept." if texts.keep_moved else ""
    added.notes.append(
        f"The base model was asked {len(told)} of {pool.height} {name_kind(kind)} after their context{share}.{end}"
    )
    return (pool.filter(pl.col("moved").fill_null(False)) if texts.keep_moved else pool).drop("moved")


def _keep_written(
    added: Added, pool: pl.DataFrame, kind: str, name: str, what: str, where: str, remedy: str, allow_missing: bool
) -> pl.DataFrame:
    """The rows that have a text; a `UserError` that names the first that has none, unless they may be left out.

    Says how many texts, by the column `finished`, end at the limit of tokens, and drops that column.
    """
    kept = pool.filter(pl.col(name).is_not_null())
    lacking = pool.height - kept.height
    if lacking and not allow_missing:
        first = pool.filter(pl.col(name).is_null()).sort(KEY).row(0, named=True)
        more = f" (and of {lacking - 1} more)" if lacking > 1 else ""
        raise UserError(
            f"{where}: no {what} of question {name_question(first)}{more}. Write it, or leave "
            f"such questions out with --allow-missing, or {remedy}."
        )
    if lacking and not kept.height:
        raise UserError(
            f"{where}: no set can be built, because none of the {lacking} {name_kind(kind)} has the {what}. Write it, or "
            f"{remedy}."
        )
    if lacking:
        added.notes.append(f"{kept.height} of {pool.height} {name_kind(kind)} have the {what}; the others are left out.")
    if cut := int((~kept["finished"].fill_null(True)).sum()):
        added.notes.append(f"{cut} of {kept.height} texts ({what}, {name_kind(kind)}) were cut at the limit of tokens.")
    return kept.drop("finished")


def _join(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))


def _name_author(written: pl.DataFrame, log: Path) -> str:
    """The model that wrote texts, or, where the log does not say, the log."""
    return next(iter(written["model"].drop_nulls()), str(log))
