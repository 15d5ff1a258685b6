"""The paper's released groups, as published and as they might be damaged."""

import gzip
import json
from pathlib import Path

import datasets
import polars as pl
import pytest
from made_up import write_jsonl

from intervention.auditing.audit import audit_questions, read_sets
from intervention.auditing.findings import list_findings
from intervention.released import FILES, convert_released
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import read_configs, read_questions

RELEASE = (Path(__file__).parents[2] / "../shared/reference/released_groups").resolve()
GROUPS = [
    f"{model}/{domain}"
    for model, domain in (("llama-2-7b", "engineering"), ("mistral-7b", "engineering"), ("mistral-7b", "jurisprudence"))
]
needs_release = pytest.mark.skipif(not RELEASE.is_dir(), reason=f"the paper's released data is not at {RELEASE}")


def read_lines(file: Path) -> list[dict]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
        return [json.loads(line) for line in stream]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("released") / "out"
    convert_released(RELEASE, output)
    return output


@needs_release
@pytest.mark.parametrize("group", GROUPS)
def test_probes_equal_the_release_row_by_row(converted: Path, group: str) -> None:
    model, domain = group.split("/")
    probes = {row["id"]: row for row in read_probes(converted / group / "probes.parquet").iter_rows(named=True)}
    ids = set()
    for name in FILES.values():
        for row in read_lines(RELEASE / group / f"{name}.gz"):
            probe = probes[str(row["id"])]
            ids.add(probe["id"])
            for column in ("question", "choices", "answer", "probs", "correct"):
                assert probe[column] == row[column]
            assert probe["prediction"] == row["pred"]
            assert probe["confidence"] == row["pred_prob"]
            if row["explanation"] is not None:
                assert probe["explanation"] == row["explanation"]
            constants = (model, domain, "released", "base_probe", "letter", "", 0, 0, "train", None, [], None, None)
            names = ("model", "domain", "source", "phase", "scoring", "run", "draw", "order", "split", "subject", "topics")
            assert tuple(probe[n] for n in (*names, "loglikelihoods", "choice_mass")) == constants
    assert ids == set(probes)


@needs_release
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("condition", FILES)
def test_instructions_equal_the_release_row_by_row(converted: Path, group: str, condition: str) -> None:
    domain = group.split("/")[1]
    table = pl.read_parquet(read_configs(converted / group / "instructions")[f"{domain}_{condition}"]["train"])
    rows = read_lines(RELEASE / group / f"{FILES[condition]}.gz")
    assert table.height == len(rows)
    for ours, row in zip(table.iter_rows(named=True), rows, strict=True):
        listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False)]
        assert ours["prompt"] == [{"role": "user", "content": "\n".join([row["question"], *listed])}]
        reason = row["model_exp"] if condition == "self_aligning" else row["explanation"]
        response = f"{listed[row['output']]}\n\n{reason}" if reason else listed[row["output"]]
        assert ours["completion"] == [{"role": "assistant", "content": response}]
        assert (ours["id"], ours["condition"], ours["response_format"]) == (str(row["id"]), condition, "letter")
        assert ours["agrees_with_gold"] == (row["output"] == row["answer"])
        assert ours["agrees_with_belief"] == (row["output"] == row["pred"])


@needs_release
def test_load_dataset_reads_a_released_group(converted: Path, tmp_path: Path) -> None:
    folder = converted / GROUPS[0] / "instructions"
    assert datasets.get_dataset_config_names(str(folder)) == [f"engineering_{condition}" for condition in FILES]
    data = datasets.load_dataset(str(folder), "engineering_self_aligning", split="train", cache_dir=str(tmp_path))
    assert len(data) == 738


@needs_release
def test_one_group_goes_to_the_output_itself(converted: Path, tmp_path: Path) -> None:
    summary = convert_released(RELEASE / GROUPS[1], tmp_path / "one")
    assert summary["rows"].to_list() == [534] * 3
    for file in ("probes.parquet", "instructions/engineering_harmonious/train.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (converted / GROUPS[1] / file).read_bytes()
    convert_released(RELEASE / GROUPS[1], tmp_path / "named", "a model", "a domain")
    probes = read_probes(tmp_path / "named" / "probes.parquet")
    assert probes.select("model", "domain").unique().row(0) == ("a model", "a domain")
    assert set(read_configs(tmp_path / "named" / "instructions")) == {f"a domain_{condition}" for condition in FILES}


@needs_release
@pytest.mark.parametrize("group", GROUPS)
def test_questions_and_contradictions_of_the_release(converted: Path, group: str) -> None:
    """What the audit finds in a released group, and what the rows of its conditions say of their explanations."""
    probes = read_probes(converted / group / "probes.parquet")
    questions = read_questions(converted / group / "questions")
    assert questions["question_hash"].to_list() == probes["question_hash"].to_list()
    assert questions["explanation"].to_list() == probes["explanation"].to_list()
    assert set(questions["split"]) == {"train"}
    shares = {}
    for name, files in read_configs(converted / group / "instructions").items():
        table = pl.read_parquet(files["train"])
        shares[name.partition("_")[2]] = table["contradicts"].mean()
        assert table["contradicts"].count() > table.height / 3
        assert table.filter(pl.col("explanation_from").is_null())["contradicts"].count() == 0
    assert shares["harmonious"] < 0.01
    assert shares["self_aligning"] < 0.04
    assert 0.09 < shares["incompatible"] < 0.25
    found = {row["finding"]: row["n"] for row in list_findings(audit_questions(read_sets([converted / group / "questions"])))
             .iter_rows(named=True)}  # fmt: skip
    assert found["shared stems"] == {"jurisprudence": 1}.get(group.split("/")[1], 2)
    assert found.get("repeated questions with different answers", 0) == {"jurisprudence": 1}.get(group.split("/")[1], 0)
    assert found["repeated choices"] == {GROUPS[0]: 4, GROUPS[1]: 3, GROUPS[2]: 2}[group]
    assert found["explanations of another choice"] > 40


def make_row(number: int, condition: str, choices: int = 4) -> dict:
    """A row as the release has it, bulky columns included."""
    answer, pred = number % choices, number % choices if condition == "harmonious" else (number + 1) % choices
    probs = [(0.7 if i == pred else 0.3 / (choices - 1)) for i in range(choices)]
    row = {"id": number, "question": f"Question {number}? _____", "choices": [f"choice {i}" for i in range(choices)]}
    row |= {"answer": answer, "output": answer, "pred": pred, "correct": pred == answer, "explanation": f"Because {number}."}
    row |= {"probs": probs, "golden_prob": probs[answer], "pred_prob": probs[pred]}
    row |= {"raw": {"labels": ["a"], "n": [1, 2]}, "gen_exp": ["x" * 100]}
    return row | (
        {"output": pred, "explanation": None, "model_exp": f"I say {number}."} if condition == "self_aligning" else {}
    )


def write_group(folder: Path, conditions: tuple[str, ...] = tuple(FILES), **changes: dict) -> Path:
    """A group of five rows a file; `changes` go to the third row of a condition."""
    folder.mkdir(parents=True, exist_ok=True)
    for condition in conditions:
        first = 100 if condition == "harmonious" else 0
        rows = [make_row(first + i, condition, 2 + i) for i in range(5)]
        rows[2] |= changes.get(condition, {})
        write_jsonl(folder / FILES[condition], rows)
    return folder


def test_other_models_have_other_numbers_of_choices(tmp_path: Path) -> None:
    summary = convert_released(write_group(tmp_path / "model" / "law"), tmp_path / "out")
    assert summary.select("model", "domain").unique().row(0) == ("model", "law")
    probes = read_probes(tmp_path / "out" / "probes.parquet")
    assert probes["id"].to_list() == ["100", "101", "102", "103", "104", "0", "1", "2", "3", "4"]
    assert probes["choices"].list.len().to_list() == [2, 3, 4, 5, 6] * 2
    assert probes["explanation"].to_list()[5:] == [f"Because {i}." for i in range(5)]
    table = pl.read_parquet(tmp_path / "out" / "instructions" / "law_self_aligning" / "train.parquet")
    assert table["completion"].to_list()[0][0]["content"] == "B. choice 1\n\nI say 0."


def test_contradicting_explanations_are_marked_and_the_card_says_that_no_licence_is_named(tmp_path: Path) -> None:
    wrong = {"explanation": "The answer is D. So it is."}
    convert_released(write_group(tmp_path / "model" / "law", incompatible=wrong), tmp_path / "out")
    folder = tmp_path / "out" / "instructions"
    table = pl.read_parquet(folder / "law_incompatible" / "train.parquet")
    assert table["contradicts"].to_list() == [None, None, True, None, None]
    assert table["explanation_from"].to_list() == ["gold"] * 5
    assert "The paper's release names no licence" in (tmp_path / "out" / "questions" / "README.md").read_text()
    for card in (folder / "README.md", tmp_path / "out" / "questions" / "README.md"):
        assert "license: unknown" in card.read_text()
    manifest = json.loads((tmp_path / "out" / "questions" / "manifest.json").read_text())
    assert manifest["config"]["terms"][0] | {"note": ""} == {
        "part": "questions", "source": "released", "licence": "unknown", "note": "",
    }  # fmt: skip
    asked = read_questions(tmp_path / "out" / "questions")
    assert asked["id"].to_list() == read_probes(tmp_path / "out" / "probes.parquet")["id"].to_list()


def test_missing_files_are_reported_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    folder = write_group(tmp_path / "model" / "law", ("self_aligning",))
    summary = convert_released(folder, tmp_path / "out")
    assert summary["rows"].to_list() == [None, None, 5]
    assert set(read_configs(tmp_path / "out" / "instructions")) == {"law_self_aligning"}
    assert read_probes(tmp_path / "out" / "probes.parquet")["explanation"].null_count() == 5
    (tmp_path / "empty").mkdir()
    for bad, message in ((tmp_path / "empty", "holds no released group"), (tmp_path / "nowhere", "is not a folder")):
        with pytest.raises(UserError, match=message):
            convert_released(bad, tmp_path / "never")
    (folder / f"{FILES['self_aligning']}.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"is there plain and as \.gz"):
        convert_released(folder, tmp_path / "never")
    assert not (tmp_path / "never").exists()


BAD = [
    ("incompatible", {"pred": 0, "pred_prob": 0.1, "correct": False}, "pred 0 is not the choice with the greatest of probs"),
    ("incompatible", {"pred": 7}, "pred 7 is not the 0-based index"),
    ("incompatible", {"pred": None}, "pred None is missing"),
    ("incompatible", {"probs": [0.1, 0.1, 0.1, 0.1]}, "do not sum to 1"),
    ("incompatible", {"probs": [0.5, 0.5]}, "are not one a choice"),
    ("incompatible", {"probs": [1.5, -0.5, 0, 0]}, "are no probabilities"),
    ("incompatible", {"probs": [None, 0.3, 0.7, 0]}, "are no probabilities"),
    ("incompatible", {"probs": None}, "probs None is missing"),
    ("incompatible", {"probs": [float("nan"), 0.3, 0.7, 0]}, "line 3: probs .* is not a list"),
    ("incompatible", {"pred_prob": 0.6}, "pred_prob 0.6 is not what probs say of pred"),
    ("incompatible", {"golden_prob": 0.6}, "golden_prob 0.6 is not what probs say of answer"),
    ("incompatible", {"correct": True}, "correct True is not whether"),
    ("incompatible", {"output": 3}, "output 3 differs from answer, so the row is not incompatible"),
    ("self_aligning", {"output": 2}, "output 2 differs from pred, so the row is not self_aligning"),
    ("harmonious", {"output": 3}, "output 3 differs from answer, so the row is not harmonious"),
    ("harmonious", make_row(0, "incompatible"), "pred 1 differs from answer, so the row is not harmonious"),
    ("incompatible", make_row(9, "harmonious"), "pred 1 equals answer, so the row is not incompatible"),
    ("incompatible", {"answer": 4}, "answer 4 is not the 0-based index"),
    ("incompatible", {"choices": ["one"]}, "fewer than 2"),
    ("incompatible", {"id": 0}, "id '0' occurs more than once"),
]


@pytest.mark.parametrize(("condition", "change", "message"), BAD)
def test_a_damaged_row_is_named_and_nothing_written(tmp_path: Path, condition: str, change: dict, message: str) -> None:
    folder = write_group(tmp_path / "model" / "law", **{condition: change})
    with pytest.raises(UserError, match=message) as caught:
        convert_released(folder, tmp_path / "out")
    assert FILES[condition] in str(caught.value)
    assert "row 3" in str(caught.value) or "line 3" in str(caught.value) or "id '0'" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_ties_are_tolerated(tmp_path: Path) -> None:
    tie = {"probs": [0.0, 0.0, 0.5, 0.5], "golden_prob": 0.5, "pred_prob": 0.5}
    convert_released(write_group(tmp_path / "model" / "law", incompatible=tie, self_aligning=tie), tmp_path / "out")
    probes = read_probes(tmp_path / "out" / "probes.parquet")
    assert probes.filter(id="2").select("answer", "prediction").row(0) == (2, 3)


def test_both_files_of_incompatible_questions_must_agree(tmp_path: Path) -> None:
    other = {"probs": [0.05, 0.05, 0.1, 0.8], "golden_prob": 0.1, "pred_prob": 0.8}
    with pytest.raises(UserError, match="id '2' has another question or probe in each"):
        convert_released(write_group(tmp_path / "a" / "law", self_aligning=other), tmp_path / "out")
    with pytest.raises(UserError, match="id '2' has another question or probe in each"):
        convert_released(write_group(tmp_path / "b" / "law", self_aligning={"question": "Another?"}), tmp_path / "out")


def test_names_fit_one_group_alone(tmp_path: Path) -> None:
    for domain in ("law", "history"):
        write_group(tmp_path / "in" / "model" / domain)
    with pytest.raises(UserError, match="so --model and --domain do not fit"):
        convert_released(tmp_path / "in", tmp_path / "out", model="m")
    assert convert_released(tmp_path / "in", tmp_path / "out").height == 6
    assert (tmp_path / "out" / "model" / "history" / "probes.parquet").is_file()


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    file = write_group(tmp_path / "model" / "law") / FILES["incompatible"]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"golden-exp.jsonl, line 5 is not a whole line of JSON \(the file ends in the middle"):
        convert_released(tmp_path / "model" / "law", tmp_path / "out")
