"""Whether answers that are written differently say the same: each entails the other, as a model says that the user names.

After Kuhn et al. (2023, arXiv 2302.09664, section 3.2): two answers to a question have one meaning where each follows from the
other, and an answer joins the first group whose first member it has one meaning with. A pair is a multiple-choice question, so
that any model that lm-eval runs can judge it; a pair whose question nobody asked is taken for different.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from intervention.believing.answers import GROUP_KEY, count_groups
from intervention.believing.asked import check_one_model
from lm_eval_tasks.contracts.answers import normalise_answer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions
from lm_eval_tasks.contracts.vocabulary import KEY, THRESHOLD

CHOICES = ["Yes", "No"]
COMPARED = 8  # groups of a question, the largest; smaller ones stay as they are
SCORE = "sum"  # an answer's probability is that of its whole text
_ASKED = (
    "{}\nOne answer: {}\nAnother answer: {}\nIf the first answer is right, does the second say the same, and so is right too?"
)


def pair_groups(answers: pl.DataFrame, questions: pl.DataFrame, folder: str | Path, logs: Sequence[str | Path]) -> pl.DataFrame:
    """Pairs of groups of answers, in both directions: of each question the `COMPARED` largest, and gold.

    Args:
        answers, questions, folder, logs: as `answers.group_answers` takes them.

    Returns:
        The columns of a multiple-choice question, whose answer nobody knows (it says 0), then `_question`, and `GROUP_KEY`'s
        other columns of the first group and, ending in `_right`, of the second. A group that gave no answer is in no pair.

    Raises:
        UserError: as `answers.group_answers`.
    """
    groups = count_groups(answers, questions, folder, logs).filter(pl.col("gold") | (pl.col("text") != ""))
    groups = groups.group_by("_question", maintain_order=True).head(COMPARED).select(*GROUP_KEY, "text")
    numbered = questions.with_row_index("_question").with_columns(pl.col("_question").cast(pl.Int64))
    first = pl.col("answers").list.first()
    golds = numbered.join(groups.filter("gold"), on="_question", how="anti").join(groups, on="_question", how="semi")
    golds = golds.select("_question", gold=pl.lit(True), group=first.map_elements(normalise_answer, pl.String), text=first)
    groups = pl.concat([groups, golds]).with_columns(_place=pl.int_range(pl.len()).over("_question"))
    pairs = groups.join(groups, on="_question", suffix="_right", maintain_order="left_right")
    pairs = pairs.filter(pl.col("_place") != pl.col("_place_right")).join(numbered, on="_question", maintain_order="left")
    return _phrase(
        pairs.with_columns(id=pl.format("{}/{}/{}", "id", "_place", "_place_right"), answer=pl.lit(0)), "text", "text_right"
    ).select(*QUESTION_SCHEMA, "split", *GROUP_KEY, "gold_right", "group_right")


def make_entailments(pairs: pl.DataFrame, dev: pl.DataFrame) -> pl.DataFrame:
    """Multiple-choice questions, with `split`: whether one answer follows from another.

    Args:
        pairs: as `pair_groups` gives them; they are the `test` questions.
        dev: demonstrations, as `free_form.read_free_form` gives them. Of every other one an accepted answer follows from
            another one, or from itself put otherwise; of the rest, that to another question does not.

    Raises:
        UserError: no pair; a demonstration whose domain has no other one with another answer.
    """
    if not pairs.height:
        raise UserError("No question got two answers that are written differently, so there is nothing to ask.")
    shown = []
    for number, row in enumerate(dev.iter_rows(named=True)):
        first, second = row["answers"][0], row["answers"][1] if len(row["answers"]) > 1 else f"It is {row['answers'][0]}."
        if number % 2:
            others = [text[0] for domain, text in dev.select("domain", "answers").iter_rows() if domain == row["domain"]]
            others = others[number:] + others[:number]
            second = next((text for text in others if normalise_answer(text) != normalise_answer(first)), None)
            if second is None:
                raise UserError(
                    f"The dev questions of {row['domain']} have one answer, {first!r}, so no pair of them shows what differs. "
                    "Add a dev question."
                )
        shown.append(row | {"first": first, "second": second, "answer": number % 2})
    table = _phrase(pl.DataFrame(shown, infer_schema_length=None), "first", "second").select(*QUESTION_SCHEMA, "split")
    return pl.concat([pairs.with_columns(split=pl.lit("test")).select(*QUESTION_SCHEMA, "split"), table])


def _phrase(table: pl.DataFrame, first: str, second: str) -> pl.DataFrame:
    table = table.with_columns(
        question=pl.format(_ASKED, "question", first, second), choices=pl.lit(CHOICES), explanation=pl.lit(None, pl.String)
    )
    return table.with_columns(pl.col(name).cast(kind) for name, kind in QUESTION_SCHEMA.items())


def read_entailments(paths: Sequence[Path], pairs: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """`pairs` with `entails`, the probability of yes (null of a pair that was not asked), and the model that says so.

    Args:
        paths: logs of selfalign_probe_cloze, or of selfalign_probe, on the questions of `requests entail`, or folders of them.
        pairs: as `pair_groups` gives them.

    Raises:
        UserError: probes of other answers, of several models, or one pair twice.
    """
    where = ", ".join(map(str, paths))
    probes = read_probes(paths, score=SCORE)
    check_one_model(probes, where)
    own = pairs.select(*KEY, _own=hash_questions(pairs))
    found = probes.join(own, on=KEY, how="left", maintain_order="left")
    other = found.filter(
        pl.col("_own").ne_missing(pl.col("question_hash")) | pl.struct(KEY).is_duplicated() | (pl.col("split") != "test")
    )
    if other.height:
        raise UserError(
            f"--entailments {where}: {other.height} of {found.height} are of other answers than these, or twice there; the "
            f"first is {other['id'][0]}. Ask these answers (requests entail)."
        )
    said = probes.select(*KEY, entails=pl.col("probs").list.first())
    return pairs.join(said, on=KEY, how="left", maintain_order="left"), probes["model"][0]


def join_entailed(pairs: pl.DataFrame) -> pl.DataFrame:
    """Which groups are one: a row a group that joins another, with `same_gold` and `same_group` of the one it joins.

    Each group, gold first and then by size, joins the first group before it that stands for others or for itself, where each
    entails the other with more than half of the probability.

    Args:
        pairs: as `read_entailments` gives them.

    >>> pairs = [("rome", "in rome", 0.9), ("in rome", "rome", 0.8), ("rome", "italy", 0.9), ("italy", "rome", 0.1)]
    >>> table = pl.DataFrame(pairs, ["group", "group_right", "entails"], orient="row")
    >>> join_entailed(table.with_columns(_question=0, gold=False, gold_right=False)).rows()
    [(0, False, 'in rome', False, 'rome')]
    """
    other = {"gold_right": "gold", "group_right": "group"}
    order = pairs.unique(GROUP_KEY, keep="first", maintain_order=True).sort("_question", ~pl.col("gold"), maintain_order=True)
    yes = pairs.filter(pl.col("entails") > THRESHOLD)
    entailed = set(yes.select("_question", "gold", "group", *other).iter_rows())
    joined, heads = [], {}
    for question, *group in order.select(GROUP_KEY).iter_rows():
        first = heads.setdefault(question, [])
        for head in first:
            if (question, *head, *group) in entailed and (question, *group, *head) in entailed:
                joined.append((question, *group, *head))
                break
        else:
            first.append(group)
    kinds = {"_question": pl.Int64, "gold": pl.Boolean, "group": pl.String}
    return pl.DataFrame(joined, kinds | {"same_gold": pl.Boolean, "same_group": pl.String}, orient="row")


def describe_entailed(pairs: pl.DataFrame, same: pl.DataFrame) -> str:
    """How many pairs were asked and hold, and how many groups join another, in a sentence."""
    asked = pairs.filter(pl.col("entails").is_not_null())
    yes = (asked["entails"] > THRESHOLD).sum()
    return (
        f"{asked.height} of {pairs.height} entailments were asked, {yes} hold; where both directions do, groups are one: "
        f"{same.height} joined another, in {same['_question'].n_unique()} questions"
    )
