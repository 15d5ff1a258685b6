"""The one door to beliefs: from a base model's probes, or from the table that the command `beliefs` wrote of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from intervention.believing.asked import find_questions
from intervention.believing.beliefs import BELIEF_SCHEMA, PROBE_COLUMNS, compute_beliefs
from intervention.believing.letters import Prior
from intervention.believing.sampled import add_sampled, apply_whole_rule, bear_out, split_rule
from intervention.believing.tables import read_table
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_file, write_parquet
from lm_eval_tasks.contracts.logs.results import find_revision
from lm_eval_tasks.contracts.logs.samples import find_logs, read_probes
from lm_eval_tasks.contracts.questions import check_rows
from lm_eval_tasks.contracts.rules import Rule, make_threshold, mark_beliefs, read_rule


@dataclass(frozen=True)
class Source:
    """Where beliefs come from.

    Attributes:
        probes: sample logs and probe tables of one base model, files or folders.
        table: the file that `beliefs` wrote, in place of probes.
        threshold: a prediction is a belief where its confidence is greater; where None the paper's 0.5, or the table's own.
        rule: which predictions are beliefs, in place of a threshold.
        score: by which of `vocabulary.SCORES` texts are; where None the default of their scoring, or the table's own, and with
            sampled answers the sum: the probability that they are sampled with.
        answers: the table of sampled answers that `answers` wrote: a prediction is then a belief only where more than half of
            them say the same.
    """

    probes: Sequence[Path] = ()
    table: Path | None = None
    threshold: float | None = None
    rule: Rule | None = None
    score: str | None = None
    answers: Path | None = None

    @property
    def asked(self) -> Rule | None:
        """The rule that was asked for, if one was.

        Raises:
            UserError: two were, or a threshold that is none.
        """
        if self.threshold is None:
            return self.rule
        rule = make_threshold(self.threshold)
        if self.rule not in (None, rule):
            raise UserError(f"--threshold {self.threshold:g} is no level of --belief-rule {self.rule}. Leave one of them out.")
        return rule

    @property
    def name(self) -> str:
        """What an error calls it."""
        return str(self.table) if self.table else ", ".join(map(str, self.probes))


@dataclass(frozen=True)
class Beliefs:
    """What one base model believes of the questions that it was asked.

    Attributes:
        table: `BELIEF_SCHEMA`, a row a question, in the question set's order.
        unasked: how many questions of the set were not asked.
        priors: the letter priors by number of choices, where probes tell them.
    """

    table: pl.DataFrame
    unasked: int
    priors: dict[int, Prior] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        """That of all beliefs."""
        return read_rule(self.table["belief_rule"][0])

    @property
    def threshold(self) -> float:
        """That of all beliefs."""
        return self.table["threshold"][0]

    @property
    def score(self) -> str:
        """That of all beliefs."""
        return self.table["score"][0]


def read_beliefs(questions: pl.DataFrame, folder: str | Path, source: Source, seed: int = 0) -> Beliefs:
    """Read what a base model believes.

    Args:
        questions: the question set that was asked, as `read_questions` gives it.
        folder: what an error calls it.
        source: probes, or a belief table.
        seed: decides which questions letter priors are estimated on, where beliefs are made of probes.

    Raises:
        UserError: neither probes nor a table or both, a table that is none or of another rule or score, or what
            `beliefs.compute_beliefs` finds wrong.
    """
    if bool(source.probes) == bool(source.table):
        raise UserError("name the base model's probes (--probes LOG) or the table that `beliefs` wrote (--beliefs FILE).")
    own, answered = split_rule(source.asked or Rule())
    priors: dict[int, Prior] = {}
    if source.table:
        table = _read_table(questions, folder, source)
    elif answered and not source.answers:
        raise UserError(
            f"--belief-rule {source.asked} is of sampled answers: name the table that `answers` wrote of them (--answers, of "
            "`beliefs` and `build`)."
        )
    else:
        probes = read_probes(source.probes, PROBE_COLUMNS, questions, source.score or ("sum" if source.answers else None))
        revision = find_revision([log for path in source.probes for log in find_logs(path)])
        table, priors = compute_beliefs(questions, probes, own, folder, source.probes, seed, revision)
    if source.answers:
        table = add_sampled(table, questions, source.answers, source.name)
        table = bear_out(table, split_rule(read_rule(table["belief_rule"][0]))[0])
        table = table.select(pl.col(name).cast(kind) for name, kind in BELIEF_SCHEMA.items())
    return Beliefs(table, questions.height - table.height, priors)


def write_beliefs(table: pl.DataFrame, file: str | Path) -> None:
    """Write a belief table as parquet."""
    with write_file(file) as scratch:
        write_parquet(table, scratch)


def _read_table(questions: pl.DataFrame, folder: str | Path, source: Source) -> pl.DataFrame:
    file, rule, score = source.table, source.asked, source.score
    again = "Write it again with `python -m intervention beliefs`."
    # A version that had the sum alone, and one without sampled answers, wrote no such columns.
    usual = {"score": pl.lit("sum"), "sampled": pl.lit(None, pl.Float64)}
    table = read_table(file, BELIEF_SCHEMA, "--beliefs", "a belief table", again, usual)
    for name in ("model", "scoring", "score", "belief_rule", "threshold"):
        if table[name].n_unique() > 1:
            raise UserError(f"--beliefs {file} holds several values of {name!r}, where a table is of one. {again}")
    own_rule = read_rule(table["belief_rule"][0])
    if rule not in (None, own_rule) and not (source.answers and split_rule(rule)[0] == split_rule(own_rule)[0]):
        option = f"--threshold {rule.level:g}" if rule.name == "threshold" else f"--belief-rule {rule}"
        raise UserError(
            f"{option}: the beliefs of {file} are of {str(own_rule).replace(':', ' ')}. Leave out {option.split()[0]}, or "
            "write the table again with the other one."
        )
    if score not in (None, own_score := table["score"][0]):
        raise UserError(
            f"--score {score}: the beliefs of {file} are of the score {own_score}. Leave out --score, or write the table again "
            "with the other one."
        )
    # Of a part of a table the most confident are others, so that only what is a belief can be checked, and not which are.
    believed = pl.col("belief").is_not_null()
    ranked = split_rule(own_rule)[0].name == "quantile"
    own = mark_beliefs(table, believed, own_rule) if ranked else apply_whole_rule(table, own_rule)
    strange = pl.col("belief").ne_missing(own["belief"]) | pl.col("class").ne_missing(own["class"])
    check_rows(table, strange, "belief", "does not fit prediction, confidence and rule; write the table again", file)
    position = find_questions(questions, table, folder, file, "beliefs")
    return table[position.argsort(kind="stable")]
