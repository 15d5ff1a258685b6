"""Which choice a text states as the answer: every form that real explanations use, and what must not count."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from scipy.stats import binomtest

from intervention.texts.statements import find_contradictions, find_leaks, find_letters, find_statements

RELEASE = (Path(__file__).parents[2] / "../shared/reference/released_groups").resolve()
needs_release = pytest.mark.skipif(not RELEASE.is_dir(), reason=f"the paper's released data is not at {RELEASE}")
CHOICES = ["Lake Poyang", "Religious theology", "-20", "Taihu"]
FIGURES = ["20", "+80", "-20", "E. coli"]
LONG = ["All", "All of the above", "A network that sends only outward", "太湖"]


def state(text: str | None, choices: list[str] = CHOICES) -> int | None:
    return find_statements(pl.DataFrame({"choices": [choices], "text": [text]}), "text")["states"][0]


@pytest.mark.parametrize(
    "text",
    [
        "The answer is B",
        "The answer is B.",
        "The correct answer is actually B. Because of this.",
        "THE ANSWER: B. It is so.".replace("THE ANSWER", "ANSWER"),
        "Ans. B.",
        "Ans. b. Religious thought (Ref Harrison 19/e p1784)",
        "Ans: B(Ref: Harper 30/c)",
        "Ans B. Something",
        "Ans : B Religious theology",
        "Ans. B i.e. religion",
        "Ans is 'b' i.e., religion",
        "Ans-B-Religious theology",
        "Answer- B.",
        "Answer- B (Religious theology)It is so.",
        "(B)",
        "B",
        "B) because it is so",
        "B. Religious theology. It is so.",
        "It is old. Therefore, option B is correct.",
        "Therefore, option B.",
        "Hence option B is the most appropriate answer.",
        'Option B, "Religious theology," is the correct answer because it is.',
        "Option B (theology) is the best choice, since it is.",
        "This makes option B, Religious theology, the correct answer.",
        "It is old, making option B the correct choice.",
        "So B is correct.",
        "(B) is correct.",
        "The correct option is (B).",
        "The best choice would be 'B'.",
        'The answer to "Which is it, and why?" is B.',
        'The answer to the multi-choice question is "B. Theology"',
        "The correct statement is B, because it is.",
        "The answer is not A, but rather B.",
        "The answer is not A. The correct answer is **B**.",
        "The answer cannot be Taihu, so the correct answer is B.",
        "Option A is incorrect. Option C is wrong. The answer must be B.",
        "The text corresponds to option B.",
        "The answer is “B”.",
        "The answer is ‘B’.",
        "The answer is the one that is B.",
        "因此B正确。",
        'The answer is "Religious theology" because it is.',
        "The answer is religious theology, not Taihu.",
        "The answer is the Religious Theology.",
        "The answer should be  Religious\ttheology.",
        '"Religious theology" is the correct answer.',
        "It follows that religious theology is correct, since it is old.",
        'The answer "Religious theology" is correct because it is.',
        "答案是B",
        "答案：Ｂ。",
        "正确答案为B。",
        "本题选B。",
        "故选择B项",
        "A、C、D项错误，B项正确。",
        "因此B选项是正确的。",
        "正确的是B",
    ],
)
def test_each_form_states_the_second_choice(text: str) -> None:
    assert state(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "A dog is a mammal. A cat is one too.",
        "The answer is a matter of taste.",
        "The answer is A matter of taste.",
        "The answer is not B.",
        "The correct answer is not Taihu.",
        "Option B is incorrect.",
        "Therefore, option B is incorrect, and so is D.",
        "Options A and B are wrong.",
        "The given answer, Taihu, is incorrect.",
        "Hepatitis B is the right diagnosis, and vitamin C is best.",
        "The answer is E.",
        "The answer is J. Smith's.",
        "The answer is B-movies.",
        "The answer is A/D conversion.",
        "I think so. I was there.",
        "B. subtilis is a bacterium.",
        "A. Poyang: a lake.\nB. Theology: a doctrine.\nC. A number.",
        "Taihu is a lake.",
        "The answer is Taihua.",
        "选项B错误。",
        "选B错误。",
        "(A) Poyang: a lake.\n(B) Theology: a doctrine.",
        "选项B说的是神学。",
        "答案不是B。",
        "\x02B. \x1e\x02B.",
    ],
)
def test_what_states_nothing(text: str | None) -> None:
    assert state(text) is None


def test_texts_count_whole_and_the_longest() -> None:
    assert state("The answer is -20.", FIGURES) == 2
    assert state("Ans. -20", FIGURES) == 2
    assert state("The answer is 20.", FIGURES) == 0
    assert state("The answer is 20.5.", FIGURES) is None
    assert state("The answer is 20%.", FIGURES) is None
    assert state("The answer is 2000.", FIGURES) is None
    assert state("The answer is E. coli.", FIGURES) == 3
    assert state("The answer is E. coli.", [*FIGURES, "something else"]) == 3
    assert state("The answer is all of the above.", LONG) == 1
    assert state("All of the above is correct.", LONG) == 1
    assert state('The answer is "A network that sends only outward" because it is.', LONG) == 2
    assert state("答案是太湖。", LONG) == 3
    assert state("答案是太湖流域。", LONG) is None
    assert state("The answer is A) Taihu.") == 0, "where letter and text differ, the letter counts"


def test_a_text_that_is_nothing_but_a_choice_states_it() -> None:
    assert state("Taihu.") == 3
    assert state('"taihu"') == 3
    assert state("The number of Taihu.") is None
    assert state("Taihu is a lake.") is None
    assert state("All of the above", LONG) == 1
    assert state("-20", FIGURES) == 2
    table = pl.DataFrame({"choices": [CHOICES] * 2, "text": ["Taihu", "Lake Poyang."], "answer": [3, 3]})
    assert find_statements(table, "text")["lettered"].to_list() == [False, False]
    assert find_leaks(table, "text", "answer").to_list() == [True, False]
    assert find_contradictions(table, "text", "answer").to_list() == [False, True]


def test_letters_of_choices_are_found_whichever_they_are() -> None:
    texts = ["Option B is old.", "One of them (D) is.", "Option E is none.", "Vitamin D.", None]
    table = pl.DataFrame({"choices": [CHOICES] * 5, "text": texts})
    assert find_letters(table, "text").to_list() == [True, True, False, False, False]


def test_the_first_statement_counts_and_letters_are_told_from_texts() -> None:
    assert state("The answer is C. On the other hand, the answer is B.") == 2
    assert state("Ans. C and B") == 2
    assert state("Taihu is the correct answer, so the answer is not A but B.") == 3
    texts = ["The answer is B.", "The answer is Taihu.", "None.", "Option D is correct."]
    table = pl.DataFrame({"choices": [CHOICES] * 4, "text": texts})
    assert find_statements(table, "text").rows() == [(1, True), (3, False), (None, None), (3, True)]


def test_a_choice_that_is_a_letter_is_that_letter_and_questions_differ_in_width() -> None:
    assert state("The answer is C.", ["B", "A", "D", "C"]) == 2
    table = pl.DataFrame({"choices": [["yes", "no"], ["yes", "no", "maybe"]], "text": ["The answer is C.", "Ans. C."]})
    assert find_statements(table, "text")["states"].to_list() == [None, 2]
    assert find_statements(table.clear(), "text").schema == {"states": pl.Int64, "lettered": pl.Boolean}


def test_contradictions() -> None:
    texts = ["The answer is A.", "The answer is B.", "Nothing.", None, "The answer is Taihu.", "The answer is D."]
    table = pl.DataFrame({"choices": [CHOICES] * 5 + [["a", "twice", "b", "twice"]], "text": texts, "choice": [1] * 6})
    assert find_contradictions(table, "text", "choice").to_list() == [True, False, None, None, True, False]
    assert find_contradictions(table.with_columns(choice=pl.lit(3)), "text", "choice").to_list()[4:] == [False, False]


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Taihu is a lake, and D is a letter.", False),
        ("The answer is Taihu.", True),
        ("The answer is D.", True),
        ("The answer is A.", False),
        ("Option D speaks of a lake.", True),
        ("Options A, B and D are lakes.", True),
        ("Options A, B and C are lakes.", False),
        ("One of them (D) is a lake.", True),
        ("A lake:\nD. It is wide.", True),
        ("选项D是湖。", True),
        ("Vitamin D is needed. Grade D too.", False),
        (None, False),
    ],
)
def test_a_context_leaks_the_letter_of_the_answer_or_that_it_is_the_answer(text: str | None, leaks: bool) -> None:
    table = pl.DataFrame({"choices": [CHOICES], "text": [text], "answer": [3]}, schema_overrides={"text": pl.String})
    assert find_leaks(table, "text", "answer").to_list() == [leaks]


def test_many_rows_take_little_time_a_row_and_are_read_alike() -> None:
    texts = ["The answer is B. " + "And so on. " * 40, "Nothing to see.", None]
    table = pl.DataFrame({"choices": [CHOICES] * 3, "text": texts, "choice": [0] * 3})
    many = pl.concat([table] * 40_000)  # more than are cut at a time
    assert find_contradictions(many, "text", "choice").sum() == 40_000


def read_group(group: str, name: str, column: str) -> pl.DataFrame:
    with gzip.open(RELEASE / group / f"{name}.jsonl.gz") as stream:
        table = pl.read_ndjson(stream.read(), infer_schema_length=None)
    return table.with_columns(find_contradictions(table, column, "output")).hstack(find_statements(table, column))


@needs_release
@pytest.mark.parametrize("group", ["llama-2-7b/engineering", "mistral-7b/engineering", "mistral-7b/jurisprudence"])
def test_released_explanations_contradict_gold_where_the_model_is_wrong(group: str) -> None:
    """Of explanations that state a letter, about 20% of incompatible and hardly any of harmonious state another than gold."""
    wrong = read_group(group, "inconsistent-golden-exp", "explanation").filter("lettered")
    right = read_group(group, "consistent-correct-exp-sample", "explanation").filter("lettered")
    assert wrong.height > 90
    assert 0.15 < wrong["contradicts"].mean() < 0.32
    assert right["contradicts"].mean() <= 0.03
    low = binomtest(int(wrong["contradicts"].sum()), wrong.height).proportion_ci(method="wilson").low
    high = binomtest(int(right["contradicts"].sum()), right.height).proportion_ci(method="wilson").high
    assert low > high


# Read by hand: whether the released explanation says that another choice than `output` is right.
HAND = {
    "llama-2-7b/engineering inconsistent-golden-exp": {4470: True, 2828: True, 4905: True, 699: True, 2295: True, 2350: True}
    | {4317: True, 2188: True, 1817: True, 746: True, 98: False, 1576: False, 539: False, 184: False, 4201: False, 3800: False}
    | {
        1292: False,
        77: False,
        4515: False,
        1148: False,
        2614: False,
        3586: False,
        3611: None,
        1111: False,
        4224: False,
        940: None,
    },
    "mistral-7b/jurisprudence consistent-correct-exp-sample": {6312: True, 6128: True, 1254: False, 2600: False, 6364: False}
    | {5302: False, 871: False, 2696: None, 6905: None, 5972: None, 6524: None},
}


@needs_release
@pytest.mark.parametrize("name", HAND)
def test_explanations_that_were_read_by_hand(name: str) -> None:
    group, file = name.split()
    table = read_group(group, file, "explanation").filter(pl.col("id").is_in([*HAND[name]]))
    found = dict(table.select("id", "contradicts").iter_rows())
    assert {key: value for key, value in HAND[name].items() if key in found} == found
    assert len(found) >= 10
