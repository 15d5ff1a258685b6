"""TriviaQA, PopQA, SQuAD and SciQ as question sets, from the Hub or a folder of the same layout.

Their answers are texts, of which TriviaQA and PopQA list the aliases. SciQ has choices, too, and is a multiple-choice set
unless a free-form one is asked for.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import polars as pl

from intervention.conditions import shuffle_rows
from intervention.sources.free_form import merge_all, read_json_list
from intervention.sources.origin import Origin, drop_rows, find_all_terms
from intervention.sources.splits import DEFAULT, Splits, split_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import find_kind
from lm_eval_tasks.contracts.published import explain_errors, read_rows
from lm_eval_tasks.contracts.questions import check_rows, check_unique, read_header
from lm_eval_tasks.contracts.vocabulary import SPLITS

DEMONSTRATIONS = 10  # train questions that become dev questions where a bank has none
SEED = 0  # of their choice
NEEDS_CHOICES = r"(?i)\b(?:which|what|who) (?:one )?of (?:the following|these|those)\b|\bof the following\b"
DISTRACTORS = ("distractor1", "distractor2", "distractor3")


@dataclass(frozen=True)
class Bank:
    """A bank whose layout is published."""

    name: str
    path: str  # its id on the Hub
    config: str | None  # the one that is read where there are several
    splits: Mapping[str, str]  # the set's split -> the bank's
    domain: str
    columns: tuple[str, ...]
    shape: Callable[
        [pl.DataFrame, str], pl.DataFrame
    ]  # rows of a split of the bank -> the contract's columns but for shared ones
    note: str


def _shape_triviaqa(rows: pl.DataFrame, _: str) -> pl.DataFrame:
    answer = pl.col("answer").struct
    aliases = answer.field("aliases").cast(pl.List(pl.String)).fill_null([])
    known = answer.field("value") != "<unk>"  # as its test split has it
    answers = pl.when(known).then(pl.concat_list(answer.field("value").cast(pl.String), aliases))
    return rows.select("question", id="question_id", answers=answers)


def _shape_popqa(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    rows = rows.with_columns(pl.col("id").cast(pl.String))
    lists = [None if text is None else read_json_list(text) for text in rows["possible_answers"]]
    rows = rows.with_columns(_answers=pl.Series(lists, dtype=pl.List(pl.String)))
    check_rows(rows, pl.col("_answers").is_null(), "possible_answers", "is no JSON list of texts; mend it", where)
    return rows.select("question", "id", subject="prop", answers=pl.concat_list("obj", "_answers"))


def _shape_squad(rows: pl.DataFrame, _: str) -> pl.DataFrame:
    texts = pl.col("answers").struct.field("text").cast(pl.List(pl.String))
    return rows.select("question", "id", "context", subject=pl.col("title").str.replace_all("_", " "), answers=texts)


def _shape_sciq(rows: pl.DataFrame, _: str) -> pl.DataFrame:
    support = pl.col("support").str.strip_chars()
    told = pl.when(support != "").then(support)
    return rows.select("question", *DISTRACTORS, id="_number", explanation=told, answers=pl.concat_list("correct_answer"))


BANKS = {
    bank.name: bank
    for bank in (
        Bank(
            *("triviaqa", "mandarjoshi/trivia_qa", "rc.nocontext", {"train": "train", "test": "validation"}, "trivia"),
            ("question", "question_id", "answer"),
            _shape_triviaqa,
            "The test questions are TriviaQA's validation split, because its test split has no answers.",
        ),
        Bank(
            *("popqa", "akariasai/PopQA", None, {"test": "test"}, "entities"),
            ("id", "question", "obj", "possible_answers", "prop"),
            _shape_popqa,
            "A question's subject is PopQA's relation (prop), and its first answer the object's name.",
        ),
        Bank(
            *("squad", "rajpurkar/squad", None, {"train": "train", "test": "validation"}, "wikipedia"),
            ("id", "title", "context", "question", "answers"),
            _shape_squad,
            "The test questions are SQuAD's validation split, because its test split is not public. They were asked about a "
            "paragraph; without it, some cannot be answered by anyone.",
        ),
        Bank(
            *("sciq", "allenai/sciq", None, {"train": "train", "dev": "validation", "test": "test"}, "science"),
            ("question", "correct_answer", *DISTRACTORS, "support"),
            _shape_sciq,
            "The dev questions are SciQ's validation split; an explanation is the paragraph that supports the answer.",
        ),
    )
}


def read_bank(
    name: str,
    path: str | None = None,
    *,
    config: str | None = None,
    splits: Splits | None = None,
    seed: int = 0,
    strict: bool = False,
    open_book: bool = False,
    free_form: bool = True,
) -> tuple[pl.DataFrame, Origin]:
    """Read a bank: the columns of its kind of questions and `split`, and their origin.

    Args:
        name: a key of `BANKS`.
        path: a Hub id, or a folder of the same layout; where None, the bank's own on the Hub.
        config: which config of it; where None, `rc.nocontext` of TriviaQA, and the default of others.
        splits: into what questions are divided where they are of one split alone; `DEFAULT` where None.
        seed: decides which question comes into which split then.
        strict: no row is left out; the first that cannot be asked is an error.
        open_book: of SQuAD, a question stands after the paragraph that answers it.
        free_form: of SciQ, whether choices are left out.

    Raises:
        UserError: it cannot be read, has none of the bank's splits, or no question; `splits` are named where it
            has several.
    """
    bank = BANKS[name]
    path, config = path or bank.path, config or bank.config
    there = list_splits(path, config)
    parts = {split: theirs for split, theirs in bank.splits.items() if theirs in there}
    if not parts:
        raise UserError(f"{path} has no split {' or '.join(bank.splits.values())}; it has {', '.join(there)}.")
    tables = []
    for split, theirs in parts.items():
        rows = read_rows(path, find_config(path, config), theirs, bank.columns)
        rows = rows.with_columns(_number=pl.format("{}/{}", pl.lit(theirs), pl.int_range(pl.len())))
        tables.append(bank.shape(rows, f"{path}, {theirs}").with_columns(split=pl.lit(split)))
    rows, dropped = leave_out(pl.concat(tables), path, strict, without_choices=name == "sciq" and free_form)
    if open_book:
        rows = rows.with_columns(pl.format("{}\n\n{}", pl.col("context").str.strip_chars(), "question").alias("question"))
    notes = [bank.note]
    if name == "sciq" and not free_form:
        rows = add_choices(rows)
    else:
        rows, merged = merge_all(rows)
        notes += [f"Left out: {note}." for note in merged]
    table = complete_columns(rows, bank, path)
    table, told, seeds = divide(table, splits, seed)
    resolved = {"name": name, "config": config, "splits": dict(splits or DEFAULT) if "splits" in seeds else dict(parts)}
    resolved |= {"open_book": open_book} if name == "squad" else {}
    return table, Origin(find_all_terms(table), [*notes, *told], dropped, (name,), resolved, seeds)


def list_splits(path: str, config: str | None) -> list[str]:
    """The splits of a data set on the Hub, or in a folder."""
    with explain_errors(f"{path}, config {config or 'default'!r}"):
        return datasets.get_dataset_split_names(path, find_config(path, config))


def find_config(path: str, config: str | None) -> str | None:
    """The config to read; None in a folder that does not name it, whose files are then all of one."""
    if config is None or not Path(path).is_dir():
        return config
    card = Path(path) / "README.md"
    configs = (read_header(card).get("configs") if card.is_file() else None) or ()
    return config if any(entry.get("config_name") == config for entry in configs) else None


def leave_out(rows: pl.DataFrame, path: str, strict: bool, without_choices: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows that can be asked, and how many are left out, by reason.

    Raises:
        UserError: none is left, or one would be left out and `strict` forbids it.
    """
    text, choices = pl.col("question").fill_null("").str.strip_chars(), [name for name in DISTRACTORS if name in rows.columns]
    blank = pl.col("answers").list.eval(pl.element().fill_null("").str.strip_chars() == "").list.all().fill_null(True)
    lacking = [pl.col(name).fill_null("").str.strip_chars() == "" for name in choices if not without_choices]
    reasons = {"a text or the answer is missing": (text == "") | blank | pl.any_horizontal(pl.lit(False), *lacking)}
    if without_choices:
        reasons["it cannot be asked without its choices"] = pl.col("question").str.contains(NEEDS_CHOICES)
    kept, dropped = drop_rows(rows, reasons)
    if strict and dropped:
        first = rows.join(kept, on="id", how="anti", maintain_order="left")["id"][0]
        reason, count = next(iter(dropped.items()))
        raise UserError(f"{path}: {count} rows cannot be asked ({reason}); the first is {first!r}. Leave out --strict.")
    once = kept.unique(["split", "id"], keep="first", maintain_order=True)  # TriviaQA has a row for each document
    if kept.height > once.height:
        dropped["another row has its id"] = kept.height - once.height
    if not once.height:
        raise UserError(f"{path} has no question that can be asked.")
    return once, dropped


def add_choices(rows: pl.DataFrame) -> pl.DataFrame:
    """`choices` in an order that depends on a hash of each, and `answer`, of rows with an answer and distractors."""
    choices, answers = [], []
    for key, (gold, *_), *others in rows.select("id", "answers", *DISTRACTORS).iter_rows():
        order = sorted((gold, *others), key=lambda text: hashlib.sha256(f"sciq {key} {text}".encode()).digest())
        choices.append(order)
        answers.append(order.index(gold))
    return rows.drop("answers").with_columns(
        choices=pl.Series(choices, dtype=pl.List(pl.String)), answer=pl.Series(answers, dtype=pl.Int64)
    )


def complete_columns(rows: pl.DataFrame, bank: Bank, path: str) -> pl.DataFrame:
    """The columns of the contract and `split`, checked; what a bank does not have is null."""
    schema = find_kind(rows.columns).schema
    rows = rows.with_columns(source=pl.lit(bank.name), domain=pl.lit(bank.domain), topics=pl.lit([], pl.List(pl.String)))
    rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in schema if name not in rows.columns)
    table = find_kind(rows.columns).check(rows, path).with_columns(rows["split"])
    check_unique(table, path)
    return table


def divide(table: pl.DataFrame, splits: Splits | None, seed: int) -> tuple[pl.DataFrame, list[str], dict[str, int]]:
    """The questions with dev questions among them; what is to be said, and the seeds of what was random.

    Raises:
        UserError: the questions are of several splits, and are to be divided otherwise.
    """
    there = [split for split in SPLITS if split in set(table["split"])]
    if len(there) == 1:
        found, note = split_questions(table, splits or DEFAULT, seed, adapt=not splits)
        table = table.with_columns(found).filter(pl.col("split").is_not_null())
        return table, [note + ("" if splits else " --splits says otherwise.")], {"splits": seed}
    if splits:
        raise UserError(f"--splits divides questions of one split, but these are of {' and '.join(there)}. Leave it out.")
    if "dev" in there or "train" not in there:
        return table, [], {}
    train = table.filter(pl.col("split") == "train")
    dev = shuffle_rows(train, SEED, "dev questions").head(min(DEMONSTRATIONS, train.height // 2))
    is_dev = (pl.col("split") == "train") & pl.col("id").is_in(dev["id"].to_list())
    table = table.with_columns(split=pl.when(is_dev).then(pl.lit("dev")).otherwise("split"))
    return table, [f"{dev.height} train questions, chosen at random, are the dev questions."], {"dev questions": SEED}
