"""Each thing that the audit finds, in questions written for it and in the paper's data, and what a cleaned copy drops."""

import gzip
import json
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import run_command
from made_up import write_jsonl, write_set
from scipy.stats import binomtest, chisquare

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.cleaning import (
    CONTRADICTS,
    DIFFERENT,
    DUPLICATE,
    HELD_OUT,
    NEARLY_HELD_OUT,
    REPEATED,
    SHOTS,
    SHOWN,
    clean_questions,
    describe_shown,
    write_clean,
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
from intervention.sources.published import read_published
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import read_questions

REFERENCE = (Path(__file__).parents[2] / "../shared/reference").resolve()
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the paper's data is not at {REFERENCE}")


def make(id: str, question: str, choices: str = "sage ivy elder nettle", answer: int = 0, **more: object) -> dict:  # noqa: A002
    row = {"id": id, "source": "made_up", "domain": "herbs", "split": "train", "question": question}
    return row | {"choices": choices.split(), "answer": answer} | more


# Nothing is wrong with these.
CLEAN = [
    make("c1", "Which of these heals a sore throat when it is drunk as a tea?", explanation="Option A is correct."),
    make("c2", "What climbs the walls of old houses and stays green in winter?", answer=1, split="dev"),
    make("c3", "Whose berries are cooked into a dark syrup at the end of summer?", answer=2, split="test"),
    make("c4", "Leaves of what burn the skin of those who walk through it barefoot?", answer=3, explanation="They sting."),
]
LONG = "From the bark of which tree, growing beside rivers, was a remedy for fever and headache made long ago?"


def mark(*rows: dict, tmp_path: Path, **options: float) -> pl.DataFrame:
    return audit_questions(read_sets([write_set(tmp_path / "set", [*CLEAN, *rows])]), **options)


def count(marked: pl.DataFrame, finding: str) -> list[tuple]:
    found = list_findings(marked).filter(finding=finding, domain="herbs")
    return found.filter(pl.col("n") > 0).select("split", "n", "of", "example").rows()


def drop(marked: pl.DataFrame) -> list[tuple]:
    return clean_questions(marked)[1].select("id", "dropped", "why", "like").rows()


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


@pytest.mark.parametrize("split", ["dev", "test"])
def test_train_questions_that_are_held_out_are_found_and_go(tmp_path: Path, split: str) -> None:
    marked = mark(make("o1", "What heals?"), make("o2", "what heals", split=split, answer=1), tmp_path=tmp_path)
    assert count(marked, f"train questions that are in {split}") == [("all", 1, 3, "made_up/herbs/o1")]
    assert drop(marked) == [("o1", "question", HELD_OUT, "made_up/herbs/o2")]
    other = mark(make("o1", "What heals?", split="dev"), make("o2", "What heals?", split="test"), tmp_path=tmp_path)
    assert count(other, "dev questions that are in test") == [("all", 1, 2, "made_up/herbs/o1")]
    assert drop(other) == []


@pytest.mark.parametrize(("spare", "gone"), [(0, 0), (1, 1), (9, 2)])
def test_dev_questions_that_are_asked_leave_dev_as_far_as_enough_are_left(tmp_path: Path, spare: int, gone: int) -> None:
    """The test question stays, and so does what is asked under the same text with other choices."""
    own = [make(f"v{i}", f"What is the {i}th to heal?", split="dev") for i in range(SHOTS + spare - 3)]  # CLEAN has one more
    asked = [make("a1", "What heals?", split="dev"), make("a2", "What stings?", split="dev")]
    test = [make("t1", "what heals", answer=1, split="test"), make("t2", "What stings?", "nettle sage ivy oak", split="test")]
    test += [make("t3", "What stings?", "ivy nettle sage elder", split="test")]
    rows = [*own[:2], *asked, *own[2:], *test, make("o1", "What heals?")]
    marked = mark(*rows, tmp_path=tmp_path)
    left, dropped = clean_questions(marked)
    found = dropped.filter(why=SHOWN).select("id", "split", "like").rows()
    assert found == [("a1", "dev", "made_up/herbs/t1"), ("a2", "dev", "made_up/herbs/t3")][:gone]
    assert dropped.filter(why=HELD_OUT).select("id", "like").rows() == [("o1", "made_up/herbs/t1")]
    names = [row["id"] for row in [CLEAN[1], *rows] if row["split"] == "dev"]
    assert left.filter(split="dev")["id"].to_list() == [name for name in names if name not in [row[0] for row in found]]
    assert left.filter(split="test").height == 4
    assert left.filter(split="dev").height >= SHOTS
    told = [
        f"{gone} dev question(s) asked in test too left dev: made_up/herbs/a1{', made_up/herbs/a2' * (gone > 1)}.",
        f"{2 - gone} dev question(s) asked in test too stay, because fewer than {SHOTS} dev questions of their domain would be "
        f"left: {'made_up/herbs/a1, ' * (gone < 1)}made_up/herbs/a2.",
    ]
    assert describe_shown(marked) == [line for line, n in zip(told, (gone, 2 - gone)) if n]


def test_train_questions_nearly_held_out_go_where_the_answer_is_the_same(tmp_path: Path) -> None:
    near = LONG.replace("long ago", "once")
    finding = "train questions nearly in test or dev, with the same answer"
    same = mark(make("n1", LONG), make("n2", near, "ivy oak sage elm", 2, split="test"), tmp_path=tmp_path)
    assert count(same, finding) == [("train", 1, 3, "made_up/herbs/n1")]
    assert drop(same) == [("n1", "question", NEARLY_HELD_OUT, "made_up/herbs/n2")]
    other = mark(make("n1", LONG), make("n2", near, answer=1, split="test"), tmp_path=tmp_path)
    assert count(other, finding) == []
    assert drop(other) == []


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


def test_explanations_of_another_choice_go_and_their_questions_stay(tmp_path: Path) -> None:
    rows = [
        make("x1", "Which one?", explanation="The answer is B. So it is."),
        make("x2", "Which two?", explanation="The answer is ivy."),
        make("x3", "Which three?", explanation="Option B is wrong."),
        make("x4", "Which four?", explanation="The answer is B.", split="test"),
    ]
    marked = mark(*rows, tmp_path=tmp_path)
    other = "made_up/herbs/x1"
    assert count(marked, "explanations of another choice") == [("train", 2, 3, other), ("test", 1, 1, "made_up/herbs/x4")]
    assert count(marked, "explanations of another letter")[0] == ("train", 1, 2, other)
    left, _ = clean_questions(marked)
    assert drop(marked) == [(name, "explanation", CONTRADICTS, None) for name in ("x1", "x2")]
    told = dict(left.select("id", "explanation").iter_rows())
    assert (told["x1"], told["x2"], told["x3"], told["x4"]) == (None, None, "Option B is wrong.", "The answer is B.")


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


def test_several_sets_are_audited_together_and_one_id_in_two_is_an_error_of_the_copy(tmp_path: Path) -> None:
    train = write_set(tmp_path / "train", [make("a", "What heals?"), make("b", "What stings?")])
    test = write_set(tmp_path / "test", [make("t", "What heals?", split="test")])
    marked = audit_questions(read_sets([train, test]))
    assert count(marked, "train questions that are in test") == [("all", 1, 2, "made_up/herbs/a")]
    write_clean(marked, [train, test], tmp_path / "out", 0.8, 0)
    left = read_questions(tmp_path / "out").select("id", "split").rows()
    assert sorted(left) == [("b", "train"), ("t", "test")]
    both = [train, write_set(tmp_path / "more", [make("b", "What else stings?")])]
    with pytest.raises(UserError, match="id 'b' occurs more than once"):
        write_clean(audit_questions(read_sets(both)), both, tmp_path / "never", 0.8, 0)
    bad = write_set(tmp_path / "bad", [make("a", "What?", "ivy ivy sage elm")])
    with pytest.raises(UserError, match="no question is left"):
        write_clean(audit_questions(read_sets([bad])), [bad], tmp_path / "never", 0.8, 0)
    with pytest.raises(UserError, match="no question set is named"):
        read_sets([])
    with pytest.raises(UserError, match="--similarity 0 is not above 0"):
        audit_questions(read_sets([train]), similarity=0)
    assert not (tmp_path / "never").exists()


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


def test_the_command_prints_writes_json_and_a_copy_that_is_clean(tmp_path: Path) -> None:
    rows = [*CLEAN, make("r1", "Which | one?", "sage ivy sage oak"), make("x1", "Which two?", explanation="The answer is B.")]
    folder = write_set(tmp_path / "set", rows)
    words = (sys.executable, "-m", "intervention", "audit", folder)
    done = run_command(*words, "--json", tmp_path / "a.json", "--fix", tmp_path / "clean")
    assert done.returncode == 0, done.stderr
    assert "repeated choices" in done.stdout
    assert "33.33%" not in done.stdout.splitlines()[0]
    report = json.loads((tmp_path / "a.json").read_text())
    repeated = [row for row in report["findings"] if row["finding"] == "repeated choices" and row["split"] == "train"]
    assert [(row["n"], row["of"], row["example"]) for row in repeated] == [(1, 4, "made_up/herbs/r1")]
    assert {(row["finding"], row["id"]) for row in report["questions"]} >= {("repeated choices", "r1")}
    lines = [json.loads(line) for line in (tmp_path / "clean" / "dropped.jsonl").read_text().splitlines()]
    assert [(line["id"], line["dropped"], line["why"]) for line in lines] == [
        ("r1", "question", REPEATED),
        ("x1", "explanation", CONTRADICTS),
    ]
    manifest = json.loads((tmp_path / "clean" / "manifest.json").read_text())
    assert (manifest["stage"], manifest["config"]["terms"][0]["source"]) == ("questions", "made_up")
    again = audit_questions(read_sets([tmp_path / "clean"]))
    assert list_findings(again)["n"].sum() == 0
    run_command(*words, "--json", tmp_path / "b.json", "--fix", tmp_path / "clean2")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for name in ("herbs/train.parquet", "dropped.jsonl", "README.md"):
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "clean2" / name).read_bytes()
    wrong = run_command(sys.executable, "-m", "intervention", "audit", tmp_path / "nowhere")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "is not a data set folder" in wrong.stderr


def read_lines(name: str) -> list[dict]:
    with gzip.open(REFERENCE / name, "rt") as stream:
        return [json.loads(line) for line in stream]


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


def audit_bank(name: str) -> pl.DataFrame:
    table, _ = read_published(name, str(REFERENCE / "banks" / name))
    return audit_questions(table.with_columns(set=pl.lit(name)))


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stems", "same_choices", "contradictory", "dropped"),
    [
        # Of MMLU's 38 texts with different answers two are of questions with the same choices, of which one contradicts itself.
        ("mmlu", 38, 2, 1, {REPEATED: 3, DUPLICATE: 2, HELD_OUT: 29, NEARLY_HELD_OUT: 8, SHOWN: 5}),
        ("cmmlu", 69, 5, 5, {}),
        ("ceval", 5, 1, 1, {}),
    ],
)
def test_real_banks_have_few_contradictory_questions_and_lose_none_for_a_stem(
    name: str, stems: int, same_choices: int, contradictory: int, dropped: dict[str, int]
) -> None:
    marked = audit_bank(name)
    texts = marked.group_by("domain", "text").agg(pl.col("says").n_unique(), pl.col("repeats").any())
    several = texts.filter(pl.col("says") > 1)
    assert (several.height, int(several["repeats"].sum())) == (stems, same_choices)
    found = dict(list_totals(list_findings(marked)).filter(split="all").select("finding", "n").iter_rows())
    assert found["repeated questions with different answers"] == contradictory
    gone = clean_questions(marked)[1]
    assert dict(gone.group_by("why").len().iter_rows()) == dropped
    stays = marked.filter(~pl.col("repeats"), ~pl.col("nearly_held_out"), ~pl.col("repeated"))
    assert gone.join(stays, on=["source", "domain", "id"], how="semi").is_empty()
    if name == "mmlu":
        history = list_findings(marked).filter(domain="history", split="all")
        counts = dict(history.select("finding", "n").iter_rows())
        assert (counts["shared passages"], counts["nearly repeated questions"]) == (633, 26)


@needs_reference
def test_every_known_flaw_of_the_papers_engineering_questions_is_found(tmp_path: Path) -> None:
    """In the paper's split 14 train rows repeat a choice, and 7 texts are asked twice, 3 of them with the same choices."""
    rows, raw = [], read_lines("xiezhi_raw/engineering.jsonl.gz")
    for part in read_lines("xiezhi_raw/engineering_split_ids.jsonl.gz"):
        for number in part["ids"]:
            choices = raw[number]["options"].split("\n")
            row = make(str(number), raw[number]["question"], split=part["split"], answer=choices.index(raw[number]["answer"]))
            rows.append(row | {"choices": choices})
    folder = tmp_path / "set"
    write_jsonl(tmp_path / "set.jsonl", rows)
    write_set(folder, rows)
    marked = audit_questions(read_sets([folder]))
    found = {(row["finding"], row["split"]): row["n"] for row in list_findings(marked).iter_rows(named=True)}
    assert (found["repeated questions", "all"], found["shared stems", "all"]) == (3, 5)  # one text is both
    assert found["repeated questions with different answers", "all"] == 0
    assert found["train questions nearly in test or dev, with the same answer", "train"] == 1
    assert (found["repeated choices", "train"], found["repeated choices", "test"]) == (14, 2)
    left, dropped = clean_questions(marked)
    counts = dict(dropped.group_by("why").len().iter_rows())
    assert counts == {NEARLY_HELD_OUT: 1, DUPLICATE: 3, REPEATED: 14}
    assert left.filter(split="test").height == 250
    assert (
        list_findings(audit_questions(left)).filter(split="train")["n"].sum()
        == list_findings(marked).filter(finding="answers in the question", split="train")["n"].sum()
        - dropped.join(marked.filter("given_away"), on="id", how="semi").height
    )
