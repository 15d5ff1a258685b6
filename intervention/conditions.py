"""Who is in which condition, and which choice answers: pure functions of questions, beliefs and a seed.

Everything random is the order of a hash of (seed, purpose, question): it depends on no library's generator and on no other
question, so a smaller size is a subset of a larger one, and mixes are nested.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.vocabulary import KEY

NAMES = ("harmonious", "incompatible", "self_aligning", "contextualized", "random_wrong", "mix", "gold")
PAPER_RATIOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
# The conditions whose response is gold in every row.
RIGHT = ("harmonious", "incompatible", "contextualized", "gold")


@dataclass(frozen=True)
class Condition:
    """One condition; `ratio` is the share of rows that answer with the belief, of a mix only."""

    name: str
    ratio: float | None = None

    @property
    def label(self) -> str:
        """What stands in the name of a config: `mix-0.4`."""
        return self.name if self.ratio is None else f"{self.name}-{self.ratio:g}"

    @property
    def shared(self) -> bool:
        """Whether it has the incompatible questions that all but harmonious and gold share."""
        return self.name not in ("harmonious", "gold")


def parse_conditions(names: Sequence[str], ratios: Sequence[float]) -> list[Condition]:
    """The conditions that names such as `harmonious`, `mix` and `mix-0.4` ask for, in the order of `NAMES`.

    Args:
        names: names, each of them one or several joined by commas.
        ratios: the ratios of `mix`; the paper's where none is given, neither here nor in a name.

    Raises:
        UserError: an unknown name, a ratio outside [0, 1], ratios without a mix.
    """
    asked, found = [name.strip() for part in names for name in part.split(",")], set(ratios)
    for place, name in enumerate(asked):
        if name.startswith("mix-"):
            try:
                found.add(float(name.removeprefix("mix-")))
            except ValueError:
                raise UserError(f"--conditions {name}: {name[4:]!r} is not a number. Write mix-0.4.") from None
            asked[place] = "mix"
        elif name not in NAMES:
            raise UserError(f"--conditions {name} is none of {', '.join(NAMES)}.")
    if wrong := [ratio for ratio in found if not 0 <= ratio <= 1]:
        raise UserError(f"--ratio {wrong[0]:g} is not between 0 and 1. It is the share of rows that answer with the belief.")
    if found and "mix" not in asked:
        raise UserError("--ratio is of the condition mix, which is not among the conditions. Add mix, or leave out --ratio.")
    mixes = [Condition("mix", ratio) for ratio in sorted(found) or PAPER_RATIOS]
    return [c for name in NAMES if name in asked for c in (mixes if name == "mix" else [Condition(name)])]


def draw_numbers(table: pl.DataFrame, seed: int, purpose: str, key: Sequence[str] = KEY) -> pl.Series:
    """An unsigned 64-bit number a row that only seed, purpose and the row's key decide."""
    start = hashlib.blake2b(f"{seed}\x1f{purpose}".encode(), digest_size=8)

    def draw(name: str) -> int:
        digest = start.copy()
        digest.update(name.encode())
        return int.from_bytes(digest.digest())

    names = table.select(pl.concat_str(key, separator="\x1f")).to_series()
    return pl.Series([draw(name) for name in names.to_list()], dtype=pl.UInt64)


def shuffle_rows(table: pl.DataFrame, seed: int, purpose: str, key: Sequence[str] = KEY) -> pl.DataFrame:
    """The rows in a random order that does not depend on the order in which they come."""
    return table.with_columns(_number=draw_numbers(table, seed, purpose, key)).sort("_number", *key).drop("_number")


def list_wrong(table: pl.DataFrame) -> pl.Series:
    """The indices of the choices that say neither what gold says nor what the belief says, a list a row.

    The text decides, because a choice may be repeated.
    """
    says = [pl.col("choices").list.get(pl.col(name)).alias(f"_{name}") for name in ("answer", "belief")]
    rows = table.select("choices", *says, wrong=pl.int_ranges(pl.col("choices").list.len(), dtype=pl.Int64)).with_row_index(
        "_row"
    )
    wrong = (
        rows.explode("choices", "wrong")
        .filter(pl.col("choices") != pl.col("_answer"), pl.col("choices") != pl.col("_belief"))
        .group_by("_row")
        .agg(pl.col("wrong").sort())
    )
    return rows.select("_row").join(wrong, on="_row", how="left", maintain_order="left")["wrong"].fill_null([])


def find_kind(condition: Condition) -> str:
    """Which kind of questions a condition has: `harmonious`, `gold`, or `incompatible` for all others."""
    return "incompatible" if condition.shared else condition.name


def find_pools(table: pl.DataFrame, conditions: Sequence[Condition]) -> dict[str, pl.DataFrame]:
    """The questions that each kind of condition can take.

    Where random_wrong is asked for, the incompatible questions have the column `wrongs` (see `list_wrong`), and those without a
    third answer (such as those with two choices) are left out of every condition that shares them.

    Args:
        table: the train questions of a domain with the columns `belief` and `class`.
        conditions: the conditions that are asked for.
    """
    kinds = dict.fromkeys(map(find_kind, conditions))
    pools = {kind: table if kind == "gold" else table.filter(pl.col("class") == kind) for kind in kinds}
    if any(condition.name == "random_wrong" for condition in conditions):
        wrong = pools["incompatible"].with_columns(wrongs=list_wrong(pools["incompatible"]))
        pools["incompatible"] = wrong.filter(pl.col("wrongs").list.len() > 0)
    return pools


def choose_size(pools: Mapping[str, pl.DataFrame], size: int | None) -> int:
    """The size that all conditions get: the largest possible, or the one asked for.

    Raises:
        UserError: a pool is empty or smaller than the size that is asked for; says how many there are.
    """
    largest = min(pool.height for pool in pools.values())
    counts = ", ".join(f"{pool.height} {kind}" for kind, pool in pools.items())
    if not largest:
        raise UserError(f"no set can be built: the train questions give {counts}. Lower --threshold, or probe more questions.")
    if size is not None and not 1 <= size <= largest:
        raise UserError(f"--size {size}: the train questions give {counts}, so a size from 1 to {largest} is possible.")
    return size or largest


def take_questions(pools: Mapping[str, pl.DataFrame], size: int, seed: int) -> dict[str, pl.DataFrame]:
    """`size` random questions of each pool, in random order."""
    return {kind: shuffle_rows(pool, seed, "questions").head(size) for kind, pool in pools.items()}


def draw_answers(table: pl.DataFrame, seed: int, places: pl.Series | None = None) -> pl.DataFrame:
    """Add what a condition answers at random: `place`, of which a mix answers the first with the belief, and random_wrong's
    `wrong`, unless it was matched.

    Args:
        table: the incompatible questions that are taken; with `wrongs` where random_wrong is built.
        seed: decides both.
        places: where they are not to be at random.
    """
    if "wrongs" in table.columns and "wrong" not in table.columns:
        numbers, several = draw_numbers(table, seed, "random_wrong"), table["wrongs"].list.len().cast(pl.UInt64)
        table = table.with_columns(wrong=table["wrongs"].list.get((numbers % several).cast(pl.Int64)))
    return table.with_columns(place=draw_numbers(table, seed, "mix").rank("ordinal") - 1 if places is None else places)


def answer_questions(table: pl.DataFrame, condition: Condition) -> pl.DataFrame:
    """Add `choice` (the index of the response), `condition` and `ratio` to the questions of a condition.

    A mix answers with the belief in exactly round(ratio * rows) rows, those whose `place` comes first; so the rows of a
    greater ratio contain those of a smaller one.
    """
    believed = round((condition.ratio or 0) * table.height)
    match condition.name:
        case "self_aligning":
            choice = pl.col("belief")
        case "random_wrong":
            choice = pl.col("wrong")
        case "mix":
            choice = pl.when(pl.col("place") < believed).then("belief").otherwise("answer")
        case _:
            choice = pl.col("answer")
    return table.with_columns(
        choice=choice.cast(pl.Int64),
        condition=pl.lit(condition.name),
        ratio=pl.lit(condition.ratio, dtype=pl.Float64),
    )
