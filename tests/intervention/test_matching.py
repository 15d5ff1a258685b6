"""Matching: what conditions are made alike in is alike, at the largest size there is, and the cost is said."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up import Study, fill_probes, make_rows, own, write_set, write_table

from intervention.believing.source import Source
from intervention.build import Inputs, Plan, build_instructions
from intervention.comparing.balance import describe_balance
from intervention.conditions import list_responses, parse_conditions
from intervention.matching.mixing import spread_letters
from intervention.matching.rotation import match_rotations
from intervention.matching.selection import parse_match
from intervention.released import convert_released
from intervention.sources.questions import write_questions
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.questions import read_configs, read_questions
from lm_eval_tasks.sets import load_questions

RELEASED = Path(__file__).parents[3] / "shared/reference/released_groups"
GROUPS = {"llama-2-7b/engineering": 183, "mistral-7b/engineering": 492, "mistral-7b/jurisprudence": 490}
ALL = ["harmonious", "incompatible", "self_aligning", "random_wrong", "mix", "gold"]


def read_sets(folder: Path) -> dict[str, pl.DataFrame]:
    return {name.partition("_")[2]: pl.read_parquet(files["train"]) for name, files in read_configs(folder).items()}


def check_alike(sets: dict[str, pl.DataFrame], measures: set[str]) -> None:
    """Shares of letters within a percentage point, mean confidence within 0.02, in all conditions."""
    balance = describe_balance(sets)
    assert balance["questions"].n_unique() == 1
    if "letter" in measures:
        for letter in (name for name in balance.columns if name.startswith("says ")):
            shares = balance[letter]
            assert shares.max() - shares.min() <= 0.01, letter
    if "confidence" in measures:
        assert balance["confidence"].max() - balance["confidence"].min() <= 0.02


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released groups as question sets and probe tables."""
    if not RELEASED.is_dir():
        pytest.skip(f"the paper's released groups are not at {RELEASED}")
    folder = tmp_path_factory.mktemp("released")
    convert_released(RELEASED, folder)
    for group in GROUPS:
        probes = read_probes(folder / group)
        write_questions(probes.select(*read_columns(probes)), folder / group / "set", [], {})
    return folder


def read_columns(probes: pl.DataFrame) -> list[str]:
    return ["id", "source", "domain", "subject", "question", "choices", "answer", "explanation", "topics", "split"]


@pytest.mark.parametrize(("group", "size"), GROUPS.items())
def test_the_largest_set_in_which_gold_and_beliefs_have_the_same_letters(
    released: Path, tmp_path: Path, group: str, size: int
) -> None:
    inputs = Inputs(released / group / "set", Source([released / group / "probes.parquet"]))
    plan = Plan(group.partition("/")[2], ["incompatible", "self_aligning"], match="letter")
    _, notes = build_instructions(inputs, plan, tmp_path / "out")
    sets = read_sets(tmp_path / "out")
    assert sets["incompatible"].height == size  # found by hand, as the largest circulation between letters
    counts = [table["response_letter"].value_counts().sort("response_letter") for table in sets.values()]
    assert counts[0].equals(counts[1])
    assert any(f"Matching keeps {size} of " in note for note in notes)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("match", ["letter", "confidence", "letter+confidence"])
def test_released_groups_are_matched(released: Path, tmp_path: Path, group: str, match: str) -> None:
    domain = group.partition("/")[2]
    inputs = Inputs(released / group / "set", Source([released / group / "probes.parquet"]))
    build_instructions(inputs, Plan(domain, ALL, match=match), tmp_path / "out")
    sets = read_sets(tmp_path / "out")
    check_alike(sets, set(match.split("+")))
    assert all(table["explanation_from"].is_null().all() for table in sets.values())
    shared = [table for name, table in sets.items() if name not in ("harmonious", "gold")]
    assert all(table["id"].equals(shared[0]["id"]) for table in shared)
    build_instructions(inputs, Plan(domain, ALL), tmp_path / "plain")
    unmatched = describe_balance(read_sets(tmp_path / "plain"))
    assert unmatched["confidence"].max() - unmatched["confidence"].min() > 0.02
    card = (tmp_path / "out/README.md").read_text()
    assert "before matching" in card
    assert "after matching" in card


class Skewed:
    """Questions whose wrong beliefs are mostly at A and right ones mostly at B, asked in every order of the choices."""

    def __init__(self, folder: Path, n: int = 240, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = [row | {"answer": int(rng.choice(4, p=[0.1, 0.5, 0.2, 0.2]))} for row in make_rows(n)]
        self.questions = write_set(folder / "set", rows)
        table = read_questions(self.questions, splits=["train"])
        tables = []
        beliefs = [
            answer if rng.random() < 0.5 else int(rng.choice([i for i in range(4) if i != answer]))
            for answer in table["answer"]
        ]
        for order in range(4):
            # The belief is held unless it stands at D; then the model says what stands at A.
            prediction = [belief if (belief - order) % 4 != 3 else order for belief in beliefs]
            probs = [[0.85 if i == first else 0.05 for i in range(4)] for first in prediction]
            tables.append(fill_probes(table, probs, prediction, scoring="letter", order=order, task="cyclic"))
        self.inputs = Inputs(self.questions, Source([write_table(folder, pl.concat(tables))]))


def test_rotated_choices_balance_letters_without_dropping_rows(tmp_path: Path) -> None:
    study, conditions = Skewed(tmp_path), ["harmonious", "incompatible", "self_aligning", "mix", "gold"]
    build_instructions(study.inputs, Plan("herbs", conditions), tmp_path / "plain")
    _, notes = build_instructions(study.inputs, Plan("herbs", conditions, match="rotation"), tmp_path / "out")
    plain, sets = read_sets(tmp_path / "plain"), read_sets(tmp_path / "out")
    with pytest.raises(AssertionError):
        check_alike(plain, {"letter"})
    check_alike(sets, {"letter"})
    assert all(set(table["id"]) == set(plain[name]["id"]) for name, table in sets.items())
    assert any("are rotated" in note for note in notes)
    # A belief is never rotated to D, where the model does not hold it, so next to nothing is at D; the other letters are even.
    assert set(sets["self_aligning"]["belief_letter"]) == {"A", "B", "C"}
    for table in sets.values():
        counts = [int((table["response_letter"] == letter).sum()) for letter in "ABCD"]
        assert counts.pop() <= 1
        assert max(counts) - min(counts) <= 10
    assert set(sets["incompatible"]["order"]) == {0, 1, 2, 3}


def test_turned_choices_come_as_near_as_they_can(tmp_path: Path) -> None:
    study = Skewed(tmp_path)
    build_instructions(study.inputs, Plan("herbs", ALL, match="rotation"), tmp_path / "out")
    sets = read_sets(tmp_path / "out")
    assert not any(set(sets["random_wrong"]["response_letter"]) & {None})
    for letter in "ABCD":  # random_wrong cannot always avoid D
        counts = [int((table["response_letter"] == letter).sum()) for table in sets.values()]
        assert max(counts) - min(counts) <= 6


def test_turned_prompts_show_what_the_columns_say(tmp_path: Path) -> None:
    study = Skewed(tmp_path, 80)
    build_instructions(study.inputs, Plan("herbs", ["incompatible", "self_aligning"], match="rotation"), tmp_path / "out")
    questions = {row["id"]: row for row in read_questions(study.questions).iter_rows(named=True)}
    for name, table in read_sets(tmp_path / "out").items():
        for row in table.iter_rows(named=True):
            question = questions[row["id"]]
            shown = [question["choices"][(i + row["order"]) % 4] for i in range(4)]
            listed = [f"{letter}. {choice}" for letter, choice in zip("ABCD", shown, strict=True)]
            assert row["prompt"][0]["content"] == "\n".join([question["question"], *listed])
            assert row["completion"][0]["content"] in listed
            assert row["completion"][0]["content"].startswith(f"{row['response_letter']}. ")
            assert shown["ABCD".index(row["gold_letter"])] == question["choices"][question["answer"]]
            assert (row["response_letter"] == row["gold_letter"]) == (name == "incompatible")
            assert row["response_letter"] == row["belief_letter"] or name == "incompatible"


def test_trained_questions_are_asked_again_in_an_order_that_was_not_trained(tmp_path: Path) -> None:
    study = Skewed(tmp_path, 80)
    build_instructions(study.inputs, Plan("herbs", ["self_aligning"], match="rotation"), tmp_path / "out")
    trained = {row["id"]: row for row in read_sets(tmp_path / "out")["self_aligning"].iter_rows(named=True)}
    again = {"prompt": "chat", "splits": ["train"], "trained_on": str(tmp_path / "out/herbs_self_aligning")}
    rows = load_questions("selfalign_chat", str(study.questions), **again)["test"]
    assert {row["id"] for row in rows} == trained.keys()
    for row in rows:
        assert row["order"] == (trained[row["id"]]["order"] + 1) % 4
        assert (
            "\n".join(f"{a}. {b}" for a, b in zip("ABCD", row["choices"], strict=True))
            not in (trained[row["id"]]["prompt"][0]["content"])
        )
    file = tmp_path / "out/herbs_self_aligning/train.parquet"
    pl.read_parquet(file).drop("order").write_parquet(file)
    with pytest.raises(UserError, match="is of an earlier version"):
        load_questions("selfalign_chat", str(study.questions), **again)


def test_mixes_keep_the_letters_at_every_ratio(tmp_path: Path) -> None:
    study = Skewed(tmp_path, 400)
    ratios = [0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1]
    for match in ("letter", "rotation"):
        build_instructions(study.inputs, Plan("herbs", ["incompatible", "mix"], ratios, match=match), tmp_path / match)
        sets = read_sets(tmp_path / match)
        size = sets["incompatible"].height
        for name, table in sets.items():
            for letter in "ABCD":
                counts = [int((t["response_letter"] == letter).sum()) for t in (table, sets["incompatible"])]
                assert abs(counts[0] - counts[1]) <= 2, (match, name, letter)
        believed = [set(sets[f"mix-{ratio:g}"].filter("agrees_with_belief")["id"]) for ratio in ratios]
        assert [len(ids) for ids in believed] == [round(ratio * size) for ratio in ratios]
        assert all(a <= b for a, b in pairwise(believed))


def test_a_size_is_kept_and_too_large_a_one_names_the_letter(tmp_path: Path) -> None:
    study = Skewed(tmp_path)
    build_instructions(study.inputs, Plan("herbs", ALL, match="letter+confidence", size=21), tmp_path / "out")
    assert {table.height for table in read_sets(tmp_path / "out").values()} == {21}
    with pytest.raises(
        UserError, match=r"--match letter: at most \d+ questions a condition .* --size asks for 110: .* letter [AB], which"
    ):
        build_instructions(study.inputs, Plan("herbs", ALL, match="letter", size=110), tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_impossible_matching_says_on_which_letter(tmp_path: Path) -> None:
    rows = [row | {"answer": 1 + i % 3} for i, row in enumerate(make_rows(60))]
    questions = write_set(tmp_path / "set", rows)
    table = read_questions(questions)
    # Every wrong belief is at A, where gold never is.
    prediction = [answer if i % 2 else 0 for i, answer in enumerate(table["answer"])]
    probs = [[0.7 if i == first else 0.1 for i in range(4)] for first in prediction]
    inputs = Inputs(questions, Source([write_table(tmp_path, fill_probes(table, probs, prediction, scoring="letter"))]))
    message = (
        r"--match letter: none can be matched: it fails on letter A, which is there 0 times as gold of questions with a wrong "
        r"belief, 30 times as the belief of questions with a wrong belief"
    )
    with pytest.raises(UserError, match=message):
        build_instructions(inputs, Plan("herbs", ["incompatible", "self_aligning"], match="letter"), tmp_path / "out")


def test_confidences_that_never_meet_cannot_be_matched(tmp_path: Path) -> None:
    questions = write_set(tmp_path / "set", make_rows(40))
    table = read_questions(questions)
    prediction = [answer if i % 2 else (answer + 1) % 4 for i, answer in enumerate(table["answer"])]
    tops = [0.97 if i % 2 else 0.55 for i in range(40)]
    probs = [[top if i == first else (1 - top) / 3 for i in range(4)] for first, top in zip(prediction, tops, strict=True)]
    inputs = Inputs(questions, Source([write_table(tmp_path, fill_probes(table, probs, prediction, scoring="letter"))]))
    with pytest.raises(
        UserError,
        match=r"0\.97 to 0\.97 of questions with a right belief, 0\.55 to 0\.55 of questions with",
    ):
        build_instructions(inputs, Plan("herbs", ["harmonious", "incompatible"], match="confidence"), tmp_path / "out")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"match": "letters"}, "--match letters: 'letters' is none of letter, confidence, rotation"),
        ({"match": "letter+rotation"}, "by dropping rows"),
        ({"match": "letter"}, "these instructions list no choices"),
        ({"match": "rotation", "response_format": "letter"}, "selfalign_probe_cyclic"),
        ({"response_format": "word"}, "--response-format word is neither letter nor text"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path: Path, plan: dict, message: str) -> None:
    study = Study(tmp_path, make_rows(100))
    with pytest.raises(UserError, match=message):
        study.build(**plan)


def test_confidence_is_matched_where_choices_are_not_listed(tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(300))
    sets = {name: own(table) for name, table in study.build(conditions=ALL, match="confidence").items()}
    check_alike(sets, {"confidence"})
    assert sets["harmonious"]["response_letter"].is_null().all()
    assert parse_match("none") == frozenset()


def test_which_responses_have_to_agree() -> None:
    def responses(*names: str) -> list[tuple[str, str]]:
        return list_responses(parse_conditions(names, []))

    shared = "wrong"
    assert responses("harmonious", "self_aligning") == [(shared, "belief"), ("right", "answer")]
    assert responses("contextualized", "random_wrong") == [(shared, "answer"), (shared, "other")]
    assert responses("mix-0") == [(shared, "answer")]
    assert responses("mix-1", "gold") == [(shared, "belief"), ("all", "answer")]


def test_at_each_ratio_the_first_rows_have_the_same_letters_in_gold_and_belief() -> None:
    edges = [(0, 1)] * 30 + [(1, 2)] * 30 + [(2, 0)] * 30 + [(0, 3), (3, 0)] * 10
    table = pl.DataFrame(
        {
            "id": [str(i) for i in range(len(edges))],
            "source": "s",
            "domain": "d",
            "choices": [["a", "b", "c", "d"]] * len(edges),
            "answer": [g for g, _ in edges],
            "belief": [b for _, b in edges],
            "order": 0,
        }
    )
    ratios = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8]
    table = table.with_columns(rank=spread_letters(table, ratios, 0)).sort("rank")
    assert table["rank"].to_list() == list(range(len(edges)))
    ranges = {letter: {0} for letter in range(4)}
    for ratio in ratios:
        first = table.head(round(ratio * len(edges)))
        for letter in range(4):
            ranges[letter].add(int((first["answer"] == letter).sum() - (first["belief"] == letter).sum()))
        for edge in ((0, 1), (1, 2), (2, 0), (0, 3), (3, 0)):
            taken = first.filter(answer=edge[0], belief=edge[1]).height
            assert abs(taken - ratio * edges.count(edge)) <= 2
    assert all(max(values) - min(values) <= 1 for values in ranges.values())
    assert table["id"].to_list() != sorted(table["id"].to_list(), key=int)


def test_matching_depends_on_the_seed_alone(tmp_path: Path) -> None:
    study = Skewed(tmp_path)
    shuffled = write_table(
        tmp_path, pl.read_parquet(study.inputs.beliefs.probes[0]).sample(fraction=1, shuffle=True, seed=1), "probes_b"
    )
    for match in ("letter+confidence", "rotation"):
        plan = Plan("herbs", ALL, match=match)
        build_instructions(study.inputs, plan, tmp_path / "a")
        build_instructions(replace(study.inputs, beliefs=Source([shuffled])), plan, tmp_path / "b")
        build_instructions(study.inputs, replace(plan, seed=1), tmp_path / "c")
        a, b, c = (read_sets(tmp_path / name) for name in "abc")
        assert all(a[name].equals(b[name]) for name in a)
        assert not all(a[name].equals(c[name]) for name in a)


def test_many_choices_and_orders_take_no_time(tmp_path: Path) -> None:
    """Ten choices, each belief held in orders of its own: nearly every row is a cell, too many for a search over whole rows."""
    rng = np.random.default_rng(0)
    pools = {}
    for kind in ("wrong", "right"):
        answer = rng.choice(10, p=[0.37, *[0.07] * 9], size=300)
        belief = answer if kind == "right" else (answer + rng.integers(1, 10, size=300)) % 10
        held = [[order for order in range(10) if rng.random() < 0.7] or [0] for _ in range(300)]
        columns = {"source": "s", "domain": "d", "choices": [list("abcdefghij")] * 300}
        ids = [f"{kind}-{i}" for i in range(300)]
        pools[kind] = pl.DataFrame({"id": ids, **columns, "answer": answer, "belief": belief, "held_orders": held})
    rotated = match_rotations(pools, parse_conditions(["harmonious", "incompatible", "self_aligning"], []), 0)
    for kind, rows in rotated.items():
        assert rows.select(pl.col("held_orders").list.contains(pl.col("order")).all()).item()
        for column in ("answer", "belief"):
            counts = np.bincount((rows[column] - rows["order"]) % 10, minlength=10)
            assert max(counts) - min(counts) <= 2, (kind, column)
