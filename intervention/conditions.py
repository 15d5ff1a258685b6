"""Who is in which condition, and which choice answers: pure functions of questions, beliefs and a seed.

Everything random is the order of a hash of (seed, purpose, question): it depends on no library's generator and on no other
question, so a smaller size is a subset of a larger one, and mixes are nested.
"""

import hashlib
from collections.abc import Mapping, Sequence

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.names import find_repeated, name_unknown
from lm_eval_tasks.contracts.vocabulary import (
    CONDITIONS,
    KEY,
    PAPER_RATIOS,
    QUESTIONS,
    REFERENCE,
    Condition,
    make_mix,
    read_ratio,
)

Pools = Mapping[str, pl.DataFrame]  # which questions (a key of `vocabulary.QUESTIONS`) -> those questions
# The column that has the index of a response, by what the response says; a mix has some of two.
COLUMNS = {"gold": "answer", "belief": "belief", "other": "other", "shuffled": "shuffled"}


def parse_conditions(names: Sequence[str], ratios: Sequence[float] = ()) -> list[Condition]:
    """The conditions that names such as `harmonious`, `mix` and `mix-0.4` ask for, in the order of `vocabulary.CONDITIONS`.

    Args:
        names: names, each of them one or several joined by commas.
        ratios: the ratios of `mix`; the paper's where none is given, neither here nor in a name.

    Raises:
        UserError: an unknown name, one that is repeated, a ratio outside [0, 1], ratios without a mix.

    >>> [condition.config for condition in parse_conditions(["mix-0.4,harmonious"])]
    ['harmonious', 'mix-0.4']
    """
    asked, found = [name.strip() for part in names for name in part.split(",")], set(ratios)
    for option, given in (("--conditions", asked), ("--ratio", ratios)):
        if repeated := find_repeated(given):
            raise UserError(f"{option} names {repeated[0]} several times. Name it once.")
    if "mix" in asked and not ratios and (own := [name for name in asked if name.startswith("mix-")]):
        raise UserError(f"--conditions mix,{own[0]}: mix alone is all of the paper's ratios. Name it, or each ratio.")
    for position, name in enumerate(asked):
        try:
            ratio = read_ratio(name)
        except ValueError:
            raise UserError(f"--conditions {name}: {name[4:]!r} is not a number. Write mix-0.4.") from None
        if ratio is not None:
            found.add(ratio)
            asked[position] = "mix"
        elif name not in CONDITIONS:
            raise UserError(f"--conditions {name_unknown([name], CONDITIONS)[0]} is none of {', '.join(CONDITIONS)}.")
    if wrong := [ratio for ratio in found if not 0 <= ratio <= 1]:
        raise UserError(f"--ratio {wrong[0]:g} is not between 0 and 1. It is the share of rows that answer with the belief.")
    if found and "mix" not in asked:
        raise UserError("--ratio is of the condition mix, which is not among the conditions. Add mix, or leave out --ratio.")
    mixes = [make_mix(ratio) for ratio in sorted(found) or PAPER_RATIOS]
    return [c for name in CONDITIONS if name in asked for c in (mixes if name == "mix" else [CONDITIONS[name]])]


def list_responses(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    """Which columns answer which questions, as (questions, column): these are to have the same letters.

    Those of the questions that the reference has come first. Shuffled beliefs have the letters that the beliefs have.

    >>> list_responses(parse_conditions(["gold,incompatible,mix-0.4"]))
    [('wrong', 'answer'), ('wrong', 'belief'), ('all', 'answer')]
    """
    found = {(condition.questions, column) for condition in conditions for column in list_columns(condition)}
    kinds, columns = [REFERENCE.questions, *QUESTIONS], list(COLUMNS.values())
    return sorted(found, key=lambda pair: (kinds.index(pair[0]), columns.index(pair[1])))


def list_columns(condition: Condition) -> list[str]:
    """The columns whose letters a condition's responses have."""
    if condition.answers != "mix":
        return ["belief" if condition.answers == "shuffled" else COLUMNS[condition.answers]]
    believed = condition.ratio if condition.ratio is not None else 0.5
    return ["answer"] * (believed < 1) + ["belief"] * (believed > 0)


def number_rows(table: pl.DataFrame, seed: int, purpose: str, key: Sequence[str] = KEY) -> pl.Series:
    """An unsigned 64-bit number a row that only seed, purpose and the row's key decide."""
    start = hashlib.blake2b(f"{seed}\x1f{purpose}".encode(), digest_size=8)

    def hash_name(name: str) -> int:
        digest = start.copy()
        digest.update(name.encode())
        return int.from_bytes(digest.digest())

    names = table.select(pl.concat_str(key, separator="\x1f")).to_series()
    return pl.Series([hash_name(name) for name in names.to_list()], dtype=pl.UInt64)


def shuffle_rows(table: pl.DataFrame, seed: int, purpose: str, key: Sequence[str] = KEY) -> pl.DataFrame:
    """The rows in a random order that does not depend on the order in which they come."""
    return table.with_columns(_number=number_rows(table, seed, purpose, key)).sort("_number", *key).drop("_number")


def list_others(table: pl.DataFrame) -> pl.Series:
    """The indices of the choices that say neither what gold says nor what the belief says, a list a row.

    The text decides, because a choice may be repeated.
    """
    says = [pl.col("choices").list.get(pl.col(name)).alias(f"_{name}") for name in ("answer", "belief")]
    rows = table.select("choices", *says, others=pl.int_ranges(pl.col("choices").list.len(), dtype=pl.Int64))
    rows = rows.with_row_index("_row")
    others = (
        rows.explode("choices", "others")
        .filter(pl.col("choices") != pl.col("_answer"), pl.col("choices").ne_missing(pl.col("_belief")))
        .group_by("_row")
        .agg(pl.col("others").sort())
    )
    return rows.select("_row").join(others, on="_row", how="left", maintain_order="left")["others"].fill_null([])


def name_kind(kind: str) -> str:
    """How sentences name the questions of a key of `vocabulary.QUESTIONS`: "questions with a wrong belief"."""
    return "questions" if kind == "all" else f"questions {QUESTIONS[kind][2]}"


def take_kind(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The questions of a key of `vocabulary.QUESTIONS`, of a table with the column `class`."""
    return table if kind == "all" else table.filter(pl.col("class") == kind)


def find_pools(table: pl.DataFrame, conditions: Sequence[Condition]) -> dict[str, pl.DataFrame]:
    """The questions that each condition can take, by which questions it takes.

    Where a condition answers with another wrong choice, its questions have the column `others` (see `list_others`), and those
    without a third answer (such as those with two choices) are left out of every condition that shares them.

    Args:
        table: the train questions of a domain with the columns `belief` and `class`.
        conditions: the conditions that are asked for.
    """
    kinds = dict.fromkeys(condition.questions for condition in conditions)
    pools = {kind: take_kind(table, kind) for kind in kinds}
    for kind in {condition.questions for condition in conditions if condition.answers == "other"}:
        pool = pools[kind].with_columns(others=list_others(pools[kind]))
        pools[kind] = pool.filter(pl.col("others").list.len() > 0)
    return pools


def count_pools(pools: Pools) -> str:
    """How many questions there are of each kind, as messages say it: "120 with a right belief, 80 with a wrong belief"."""
    return ", ".join(f"{pool.height} {QUESTIONS[kind][2]}" for kind, pool in pools.items())


def choose_size(pools: Pools, size: int | None) -> int:
    """The size that all conditions get: the largest possible, or the one asked for.

    Raises:
        UserError: a pool is empty or smaller than the size that is asked for; says how many there are.
    """
    largest = min(pool.height for pool in pools.values())
    told = f"of the train questions there are {count_pools(pools)}"
    if not largest:
        raise UserError(f"no set can be built: {told}. Lower --threshold, take another --belief-rule, or probe more questions.")
    if size is not None and not 1 <= size <= largest:
        raise UserError(f"--size {size}: {told}, so a size from 1 to {largest} is possible.")
    return size or largest


def take_questions(pools: Pools, size: int, seed: int) -> dict[str, pl.DataFrame]:
    """`size` random questions of each pool, in random order."""
    return {kind: shuffle_rows(pool, seed, "questions").head(size) for kind, pool in pools.items()}


def add_random(table: pl.DataFrame, seed: int, ranks: pl.Series | None = None) -> pl.DataFrame:
    """Add what is random of responses: `rank`, by which a mix answers the first with the belief, and the choices `other` and
    `shuffled`.

    Args:
        table: the questions that are taken, with `order`; with `others` where a condition answers with one of these, and with
            `other` where that is matched.
        seed: decides both.
        ranks: where they are not to be at random.
    """
    if "others" in table.columns and "other" not in table.columns:
        numbers, several = number_rows(table, seed, "random_wrong"), table["others"].list.len().cast(pl.UInt64)
        table = table.with_columns(other=table["others"].list.get((numbers % several).cast(pl.Int64)))
    ranks = number_rows(table, seed, "mix").rank("ordinal") - 1 if ranks is None else ranks
    return table.with_columns(rank=ranks, shuffled=shuffle_beliefs(table, seed))


def shuffle_beliefs(table: pl.DataFrame, seed: int) -> pl.Series:
    """For each question the choice that stands where, in the prompt, the belief of another one stands.

    Each position is answered as often as it is believed, and which question it answers is random: questions with as many
    choices pass theirs on in a circle, and those that would get back their own belief exchange it. Where nearly all believe
    one position, some keep their own.

    Args:
        table: questions with `choices`, `belief` and `order` (by how much the choices are rotated).
        seed: decides the circle.

    >>> table = pl.DataFrame({"choices": [["soot", "salt"]] * 2, "belief": [0, 1], "order": [0, 0]})
    >>> table = table.with_columns(pl.lit("exam").alias(name) for name in KEY[:2]).with_columns(id=pl.Series(["1", "2"]))
    >>> shuffle_beliefs(table, seed=1).to_list()
    [1, 0]
    """
    n = pl.col("choices").list.len().cast(pl.Int64)
    rows = table.select(n.alias("n"), "order", shown=(pl.col("belief") - pl.col("order")) % n).with_row_index("_row")
    rows = rows.with_columns(_number=number_rows(table, seed, "shuffled")).sort("_number", "_row")
    passed = pl.col("shown").shift(-1).fill_null(pl.col("shown").first()).over("n")
    rows = rows.with_columns(passed=passed)
    parts = [part.with_columns(passed=_exchange(part["shown"], part["passed"])) for _, part in rows.group_by("n")]
    rows = pl.concat(parts).with_columns(shuffled=(pl.col("passed") + pl.col("order")) % pl.col("n"))
    return rows.sort("_row")["shuffled"]


def _exchange(own: pl.Series, passed: pl.Series) -> pl.Series:
    """`passed` with as few values that equal `own` as can be: each that does changes places with the next one that helps."""
    kept, values = own.to_list(), passed.to_list()
    for i in range(len(values)):
        if values[i] is None or values[i] != kept[i]:
            continue
        others = (k % len(values) for k in range(i + 1, i + len(values)))
        if (k := next((k for k in others if values[k] != kept[i] and values[i] != kept[k]), None)) is not None:
            values[i], values[k] = values[k], values[i]
    return pl.Series("passed", values, dtype=pl.Int64)


def answer_questions(table: pl.DataFrame, condition: Condition) -> pl.DataFrame:
    """Add `choice` (the index of the response), `condition` and `ratio` to the questions of a condition.

    A mix answers with the belief in exactly round(ratio * rows) rows, those whose `rank` comes first; so the rows of a greater
    ratio contain those of a smaller one.
    """
    believed = round((condition.ratio or 0) * table.height)
    mixed = pl.when(pl.col("rank") < believed).then("belief").otherwise("answer")
    choice = mixed if condition.answers == "mix" else pl.col(COLUMNS[condition.answers])
    return table.with_columns(
        choice=choice.cast(pl.Int64),
        condition=pl.lit(condition.name),
        ratio=pl.lit(condition.ratio, dtype=pl.Float64),
    )
