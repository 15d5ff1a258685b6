import gzip
import json
import math

import polars as pl
import pytest

from lm_eval_tasks.manifest import UserError
from lm_eval_tasks.probes import read_probe
from lm_eval_tasks.questions import QUESTION_SCHEMA, hash_questions
from lm_eval_tasks.samples import PROBE_SCHEMA, read_probes, write_probes

CHOICES = ["one", "two", "three", "four"]
LOGLIKELIHOODS = [-3.0, -0.5, -2.0, -4.0]


def make_doc(number=1, order=0, **changes):
    """What a task logs of one question whose gold is "two", shown turned by `order`."""
    question = {"id": str(number), "source": "s", "domain": "d", "subject": None, "question": f"Which is {number}?"}
    question |= {"choices": CHOICES, "answer": 1, "explanation": None, "topics": []}
    turn = lambda values: [values[(i + order) % 4] for i in range(4)]  # noqa: E731
    shown = question | {"choices": turn(CHOICES), "answer": (1 - order) % 4}
    rest = {"split": "test", "model": "m", "run": "", "phase": "base_probe", "scoring": "letter", "draw": 0, "order": order}
    rest |= {"question_hash": hash_questions(pl.DataFrame([question], schema=QUESTION_SCHEMA))[0], "task": "t"}
    return shown | read_probe(turn(LOGLIKELIHOODS), shown["answer"]) | rest | changes


def write_log(folder, *docs, name="samples_t_1.jsonl", end="\n"):
    lines = [
        json.dumps({"doc_id": i, "doc": doc, "arguments": {"gen_args_0": {"arg_0": "x"}}, "acc": 1.0})
        for i, doc in enumerate(docs)
    ]
    file = folder / name
    file.write_text("\n".join(lines) + end)
    return file


def test_a_probe_is_the_softmax_over_the_choices():
    probe = read_probe(LOGLIKELIHOODS, 1)
    weights = [math.exp(value) for value in LOGLIKELIHOODS]
    assert probe["probs"] == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-15)
    assert probe["choice_mass"] == pytest.approx(sum(weights))
    assert (probe["prediction"], probe["correct"]) == (1, True)
    assert read_probe([-1000.0, -1001.0], 1)["probs"][0] == pytest.approx(1 / (1 + math.exp(-1)))
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            read_probe([bad, 0.0], 0)


def test_logs_tables_files_and_folders_read_alike(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2))
    table = read_probes(log)
    assert table.schema == PROBE_SCHEMA
    assert table.height == 2
    assert read_probes(tmp_path).equals(table)
    write_probes(table, tmp_path / "elsewhere" / "probes.parquet")
    assert read_probes(tmp_path / "elsewhere").equals(table)
    packed = tmp_path / "packed" / "samples_t.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert read_probes(packed).equals(table)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_turned_question_is_turned_back(tmp_path, order):
    table = read_probes(write_log(tmp_path, make_doc(order=order)))
    row = table.row(0, named=True)
    assert row["choices"] == CHOICES
    assert (row["answer"], row["prediction"], row["correct"], row["order"]) == (1, 1, True, order)
    assert row["loglikelihoods"] == LOGLIKELIHOODS
    assert row["probs"] == pytest.approx(read_probe(LOGLIKELIHOODS, 1)["probs"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": [0.5, 0.5, 0.1, 0.1]}, "row 2.*do not sum to 1"),
        ({"probs": [0.5, 0.5]}, "row 2.*not one a choice"),
        ({"probs": [1.5, -0.5, 0.0, 0.0]}, "row 2.*missing, NaN or negative"),
        ({"probs": [0.5, 0.5, None, 0.0]}, "row 2.*missing, NaN or negative"),
        ({"probs": None}, "row 2.*probs None is missing"),
        ({"prediction": 9}, "row 2.*prediction 9 is not the index"),
        ({"prediction": 0}, "row 2.*prediction 0 is not the most probable"),
        ({"confidence": 0.2}, "row 2.*confidence 0.2 is not the largest"),
        ({"correct": False}, "row 2.*correct False does not fit"),
        ({"phase": "later"}, "phase 'later' is none of"),
        ({"question": "Which is it?"}, "row 2.*is not the hash"),
        ({"answer": 2, "correct": False}, "row 2.*is not the hash"),
        ({"answer": 7}, "row 2.*answer 7 is not"),
        ({"question_hash": None}, "line 2.*no sample of a selfalign"),
        ({"id": "1", "question": "Which is 1?", "question_hash": make_doc(1)["question_hash"]}, "more than once"),
        ({"probs": [0.5, math.nan, 0.5, 0.0]}, "line 2: probs is NaN"),
        ({"loglikelihoods": [-1.0, -math.inf, -1.0, -1.0]}, "line 2: loglikelihoods is -Infinity"),
    ],
)
def test_the_first_wrong_sample_is_named(tmp_path, change, message):
    write_log(tmp_path, make_doc(1), make_doc(2) | change)
    with pytest.raises(UserError, match=message) as error:
        read_probes(tmp_path)
    assert "samples_t_1.jsonl" in str(error.value) or str(tmp_path) in str(error.value)


def test_a_log_cut_in_the_middle_of_a_line_is_named(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2))
    log.write_text(log.read_text()[:-40])
    with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line 2 is not a whole line of JSON \(the file ends"):
        read_probes(tmp_path)
    packed = tmp_path / "samples_u.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}")[:-6])
    with pytest.raises(UserError, match="cut or damaged"):
        read_probes(packed)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_probes(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no sample log"):
        read_probes(tmp_path)
    (tmp_path / "samples_t.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no samples"):
        read_probes(tmp_path)
    (tmp_path / "probes.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="not a parquet file"):
        read_probes(tmp_path / "probes.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "probes.parquet")
    with pytest.raises(UserError, match="no column 'id'"):
        read_probes(tmp_path / "probes.parquet")


def test_two_logs_of_the_same_questions_are_named(tmp_path):
    write_log(tmp_path, make_doc(1))
    write_log(tmp_path, make_doc(1), name="samples_t_2.jsonl")
    with pytest.raises(UserError, match="asked s/d id '1' more than once in phase base_probe"):
        read_probes(tmp_path)
    write_log(tmp_path, make_doc(1, order=1), name="samples_t_2.jsonl")
    assert read_probes(tmp_path).height == 2
