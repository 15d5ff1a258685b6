"""Each thing that the audit finds, in questions written for it."""

from pathlib import Path

import polars as pl
import pytest
from audits import CLEAN, LONG, count, drop, make, mark
from made_up import write_set
from scipy.stats import binomtest, chisquare

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.cleaning import (
    DIFFERENT,
    DUPLICATE,
    NEARLY_HELD_OUT,
    REPEATED,
    clean_questions,
)
from intervention.auditing.duplicates import find_near_pairs
from intervention.auditing.findings import (
    balance_letters,
    describe_findings,
    describe_letters,
    list_findings,
    list_flaws,
    list_totals,
)
from intervention.sources.normalising import normalise_choices, normalise_texts


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    marked = mark(tmp_path=tmp_path)
    assert list_findings(marked)["n"].sum() == 0
    assert list_flaws(marked).is_empty()
    left, dropped = clean_questions(marked)
    assert (left.height, dropped.height) == (4, 0)


def test_repeated_questions_are_found_whatever_their_case_spaces_punctuation_and_order(tmp_path: Path) -> None:
    order = "nettle ELDER sage ivy."
    twins = [make("d1", "What heals? _____"), make("d2", "  WHAT heals ", order, 2), make("d3", "Ｗhat  heals…")]
    marked = mark(*twins, tmp_path=tmp_path)
    assert count(marked, "repeated questions") == [("all", 1, 5, "made_up/herbs/d1")]
    assert count(marked, "repeated questions with different answers") == count(marked, "shared stems") == []
    like = "made_up/herbs/d1"
    assert drop(marked) == [("d2", "question", DUPLICATE, like), ("d3", "question", DUPLICATE, like)]


def test_repeated_questions_with_different_answers_all_go(tmp_path: Path) -> None:
    marked = mark(make("d1", "What heals?"), make("d2", "What heals?", answer=1), make("d3", "What heals?"), tmp_path=tmp_path)
    assert count(marked, "repeated questions with different answers") == [("all", 1, 1, "made_up/herbs/d1")]
    assert drop(marked) == [(name, "question", DIFFERENT, None) for name in ("d1", "d2", "d3")]


def test_answers_are_compared_by_text_not_by_letter(tmp_path: Path) -> None:
    marked = mark(make("d1", "What heals?"), make("d2", "What heals?", "ivy Sage. elder nettle", 1), tmp_path=tmp_path)
    assert count(marked, "repeated questions") == [("all", 1, 5, "made_up/herbs/d1")]
    assert count(marked, "repeated questions with different answers") == []
    one = mark(make("e1", "How cold is it?", "-20 20 0 1"), make("e2", "How cold is it?", "20 -20 0 1"), tmp_path=tmp_path)
    assert len(count(one, "repeated questions with different answers")) == 1


@pytest.mark.parametrize("answer", [0, 1])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_shared_stem_is_no_repeated_question_and_is_no_reason_to_drop_one(tmp_path: Path, split: str, answer: int) -> None:
    stem = "Which of the following is true?"
    rows = [make("s1", stem), make("s2", stem, "sage oak elm yew", answer, split=split), make("s3", stem, "rue fir box ash")]
    marked = mark(*rows, tmp_path=tmp_path)
    assert count(marked, "shared stems") == [("all", 1, 5, "made_up/herbs/s1")]
    for finding in ("repeated questions", "repeated questions with different answers", f"train questions that are in {split}"):
        assert count(marked, finding) == []
    told = split != "train" and answer == 0  # then the train question gives the answer away
    assert drop(marked) == ([("s1", "question", NEARLY_HELD_OUT, "made_up/herbs/s2")] if told else [])


PASSAGE = "When the river rose in the third year, the millers of the valley moved their wheels. They never came back. "


def test_a_shared_passage_is_no_near_duplicate_and_nothing_is_dropped_for_it(tmp_path: Path) -> None:
    long = (
        PASSAGE
        + "So wrote the clerk, who saw the water take the bridge and both its towers in a single night of wind and rain. "
    )
    rows = [make("p1", long + "Who wrote it?"), make("p2", long + "What did the water take?", "sage oak elm yew", split="test")]
    marked = mark(*rows, tmp_path=tmp_path)
    assert count(marked, "shared passages") == [("all", 2, 6, "made_up/herbs/p1")]
    assert count(marked, "nearly repeated questions") == []
    assert drop(marked) == []
    other = [make("p1", long + "Who wrote it?", "a b c d"), make("p2", long + "Who wrote this?", "b a c d", 1, split="test")]
    assert drop(mark(*other, tmp_path=tmp_path)) == [("p1", "question", NEARLY_HELD_OUT, "made_up/herbs/p2")]
    edited = [make("n1", long + "Who wrote it?"), make("n2", long.replace("third", "fourth") + "Who wrote it?")]
    marked = mark(*edited, tmp_path=tmp_path)
    assert count(marked, "nearly repeated questions") == [("all", 2, 6, "made_up/herbs/n1")]
    assert count(marked, "shared passages") == []


def test_near_duplicates_are_found_and_only_reported(tmp_path: Path) -> None:
    marked = mark(make("n1", LONG), make("n2", LONG.replace("long ago", "once")), tmp_path=tmp_path)
    assert count(marked, "nearly repeated questions") == [("all", 2, 6, "made_up/herbs/n1")]
    assert count(marked, "repeated questions") == []
    assert drop(marked) == []
    assert count(mark(make("n1", LONG), make("n2", LONG.replace("long ago", "once")), tmp_path=tmp_path, similarity=0.99),
                 "nearly repeated questions") == []  # fmt: skip


def test_repeated_choices_go(tmp_path: Path) -> None:
    marked = mark(make("r1", "Which?", "sage ivy Sage. oak"), make("r2", "What?", "sage ivy IVY oak"), tmp_path=tmp_path)
    assert count(marked, "repeated choices") == [("train", 2, 4, "made_up/herbs/r1")]
    assert count(marked, "right choices that are repeated") == [("train", 1, 4, "made_up/herbs/r1")]
    assert drop(marked) == [(name, "question", REPEATED, None) for name in ("r1", "r2")]


@pytest.mark.parametrize(
    ("question", "given"),
    [
        ("Is tea of sage drunk?", True),
        ("Is sage or ivy drunk?", False),
        ("Is sagebrush drunk?", False),
        ("Is ivy drunk?", False),
    ],
)
def test_answers_in_the_question_are_found_and_only_reported(tmp_path: Path, question: str, given: bool) -> None:
    marked = mark(make("g1", question), tmp_path=tmp_path)
    assert bool(count(marked, "answers in the question")) == given
    assert drop(marked) == []


def test_chinese_answers_in_the_question(tmp_path: Path) -> None:
    marked = mark(make("g1", "太湖石产自何处？", "太湖 洞庭 洪泽 鄱阳"), tmp_path=tmp_path)
    assert count(marked, "answers in the question") == [("train", 1, 3, "made_up/herbs/g1")]


def test_domains_are_apart_and_questions_of_several_are_reported(tmp_path: Path) -> None:
    rows = [make("s1", "What heals?"), make("s1", "What heals?", answer=1, domain="roots")]
    marked = mark(*rows, tmp_path=tmp_path)
    assert count(marked, "repeated questions") == []
    assert count(marked, "questions of several domains") == [("all", 1, 5, "made_up/herbs/s1")]
    assert drop(marked) == []


def test_shares_have_wilson_intervals_and_letters_are_tested(tmp_path: Path) -> None:
    marked = mark(make("r1", "Which?", "sage ivy Sage oak"), tmp_path=tmp_path)
    row = list_findings(marked).filter(finding="repeated choices", split="train").row(0, named=True)
    interval = binomtest(1, 3).proportion_ci(method="wilson")
    assert (row["n"], row["of"], row["share"]) == (1, 3, 1 / 3)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    letters = balance_letters(marked.filter(split="train")).row(0, named=True)
    assert [letters[f"gold {letter}"] for letter in "ABCD"] == pytest.approx([2 / 3, 0, 0, 1 / 3])
    assert letters["p"] == pytest.approx(chisquare([2, 0, 0, 1]).pvalue)
    mixed = pl.DataFrame({"domain": "d", "split": "train", "choices": [["a", "b"], ["a", "b", "c", "d"]], "answer": [0, 3]})
    test = chisquare([1, 0, 0, 1], [0.75, 0.75, 0.25, 0.25])
    assert balance_letters(mixed)["chi_squared"][0] == pytest.approx(test.statistic)


def test_texts_are_compared_without_what_does_not_matter() -> None:
    texts = pl.DataFrame({"t": ["Ａ  b_c?", "a b c", "…", "x<y + 1", "x y 1"]})
    assert texts.select(normalise_texts(pl.col("t")))["t"].to_list() == ["a b c", "a b c", "...", "x<y + 1", "x y 1"]
    choices = pl.DataFrame({"t": ["-20", "20", " Sage. ", "sage", "…"]})
    assert choices.select(normalise_choices(pl.col("t")))["t"].to_list() == ["-20", "20", "sage", "sage", "..."]


def test_near_pairs_equal_those_that_are_counted_one_by_one() -> None:
    sentence = "the bark of a tree that grows beside all rivers was at once boiled in water into tea for those who had fever"
    words = sentence.split()
    texts = [" ".join([*words[:i], f"wo{i}", *words[i + 1 :]]) for i in range(len(words))] + ["short", "shor", "另一个问题"]
    sets = [{text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in texts]
    n = range(len(texts))
    want = {(i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i in n for j in n if i < j}
    found = find_near_pairs(pl.Series(texts), 0.8)
    assert {(i, j): s for i, j, s in found.iter_rows()} == pytest.approx({k: v for k, v in want.items() if v >= 0.8})
    assert found.height > 20
    assert found.equals(find_near_pairs(pl.Series(texts), 0.8))
    assert find_near_pairs(pl.Series(["alone"])).is_empty()


def test_totals_come_first_and_what_was_not_found_is_a_line(tmp_path: Path) -> None:
    domains = [f"d{i:02}" for i in range(40)]
    rows = [row | {"domain": domain} for domain in domains for row in CLEAN]
    rows += [make("r1", "Which?", "sage ivy Sage. oak", domain=name) for name in ("d07", "d31")]
    marked = audit_questions(read_sets([write_set(tmp_path / "set", rows)]))
    findings = list_findings(marked)
    totals = list_totals(findings).filter(pl.col("n") > 0)
    assert totals.select("finding", "domain", "split", "n", "of").rows() == [
        ("questions of several domains", "all", "all", 162, 162),
        ("repeated choices", "all", "train", 2, 82),
        ("right choices that are repeated", "all", "train", 2, 82),
    ]
    text = describe_findings(findings.filter(pl.col("finding") != "questions of several domains"))
    lines = text.splitlines()
    assert lines[2].split("|")[1:6] == [" repeated choices                ", " all    ", " train ", " 2 ", " 82 "]
    assert "Not found: repeated questions; shared stems; shared passages; nearly repeated questions; train " in text
    assert [line.split("|")[2].strip() for line in lines[lines.index("By domain:") + 3 :]] == ["d07", "d31", "d07", "d31"]
    assert len(lines) < 15
    letters = balance_letters(marked)
    shown = describe_letters(marked, letters).splitlines()
    assert [line.split("|")[1].strip() for line in shown[2:5]] == ["all"] * 3
    assert (
        shown[-1] == "The letters of gold are not equally frequent in 0 of 120 splits of domains (p < 0.05 after Bonferroni)."
    )
