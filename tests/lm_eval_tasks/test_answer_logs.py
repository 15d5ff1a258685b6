"""The reader of answers to free-form questions finds what is wrong with a log, and says where and what to do."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from free_form import make_free_form

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import FREE_FORM_SCHEMA, hash_free_form
from lm_eval_tasks.contracts.logs.answers import ANSWER_SCHEMA, TASKS, read_answers
from lm_eval_tasks.contracts.logs.samples import find_logs, read_probes

DATE = "2026-11-28T08-00-00.000000"


def make_samples(n: int = 6, task: str = "selfalign_answer", count: int = 4, **change: object) -> list[dict]:
    """Lines of a sample log, as far as the reader looks at them."""
    greedy = "greedy" in task
    docs = [
        {"domain": "herbs", "topics": [], "explanation": None, "subject": None, "split": "test"} | row
        for row in make_free_form(n)
    ]
    table = pl.DataFrame(docs, dict(FREE_FORM_SCHEMA) | {"split": pl.String})
    run = {"model": "m", "run": "", "phase": "base_probe", "draw": 0, "task": task, "bos": False, "greedy": greedy}
    run |= {"temperature": 0.0 if greedy else 0.7}
    return [
        {"doc_id": i, "resps": [], "exact_match": 1.0}
        | {"doc": doc | run | {"question_hash": own, "samples": [f"a {i}"] * (1 if greedy else count)} | change}
        for i, (doc, own) in enumerate(zip(table.to_dicts(), hash_free_form(table), strict=True))
    ]


def write_log(folder: Path, samples: list[dict], task: str = "selfalign_answer", name: str = "model") -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    file = folder / name / f"samples_{task}_{DATE}.jsonl"
    file.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return file


def test_logs_of_all_tasks_and_draws_are_one_table(tmp_path: Path) -> None:
    for draw in (0, 1):
        for task in TASKS:
            write_log(tmp_path, make_samples(task=task, draw=draw), task, f"draw{draw}")
    table = read_answers(tmp_path)
    assert table.schema == ANSWER_SCHEMA
    assert table.height == 2 * len(TASKS) * 6
    assert read_answers([tmp_path / "draw0", tmp_path / "draw1"]).equals(table)
    file = tmp_path / f"draw0/samples_{TASKS[0]}_{DATE}.jsonl"
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_answers(packed).equals(read_answers(file))


def break_line(number: int, **change: object) -> list[dict]:
    """A log of which one line is another."""
    lines = make_samples()
    lines[number]["doc"] |= change
    return lines


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (make_samples(temperature=0.0), r"row 1 \(id 'q-0'\): temperature 0.0 gives one answer again and again"),
        (break_line(3, samples=["a"] * 3), r"row 4 \(id 'q-3'\): samples .* fewer than the 4 of.*missing"),
        (break_line(3, samples=[]), r"row 4 .* is empty"),
        (break_line(3, samples=None), r"row 4 .*samples None is missing"),
        (break_line(3, samples=["a", None, "b", "c"]), "row 4 .* lack a text"),
        (break_line(2, question="Another?"), r"row 3 .*is not the hash of this question's text"),
        (break_line(2, answers=[]), r"row 3 .*answers .* is empty"),
        (break_line(2, task="selfalign_explain"), "line 3: a sample of the task 'selfalign_explain'"),
        (break_line(2, task="selfalign_answer_chat"), "mixed tasks: line 1 is .* selfalign_answer, line 3"),
        (break_line(2, temperature=1.0), "selfalign_answer was asked with two temperatures, 0.7 and 1"),
        (break_line(2, greedy=True), r"row 3 .*greedy True does not fit the task"),
        (make_samples(task="selfalign_answer_greedy", temperature=0.7), "row 1 .*temperature 0.7 or several texts"),
        (make_samples()[1:], "doc_id 0 is missing, so the log has a gap"),
        ([*make_samples(), make_samples()[2]], "line 7: a duplicate: doc_id 2 is also in line 3"),
        ([], "holds no samples"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_log_is_named(tmp_path: Path, samples: list[dict], told: str) -> None:
    file = write_log(tmp_path, samples)
    with pytest.raises(UserError, match=told) as raised:
        read_answers(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_log_that_is_cut_is_named_with_its_line(tmp_path: Path) -> None:
    file = write_log(tmp_path, make_samples())
    file.write_text(file.read_text()[:-30])
    with pytest.raises(UserError, match=r"line 6 is not a whole line of JSON \(the file ends in the middle of it\)"):
        read_answers(file)
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(json.dumps(s).encode() + b"\n" for s in make_samples(200)))[:-40])
    with pytest.raises(UserError, match="cut or damaged"):
        read_answers(packed)
    file = write_log(tmp_path, break_line(1, samples="one text"))
    with pytest.raises(UserError, match="line 2 is not a sample of selfalign_answer"):
        read_answers(file)


def test_the_last_lines_that_are_missing_are_found_by_lm_evals_result_file(tmp_path: Path) -> None:
    file = write_log(tmp_path, make_samples()[:4])
    (file.parent / f"results_{DATE}.json").write_text(json.dumps({"n-samples": {"selfalign_answer": {"effective": 6}}}))
    with pytest.raises(UserError, match=r"holds 4 samples, but results_.* counts 6"):
        read_answers(file)


def test_two_settings_of_one_task_and_two_logs_of_one_draw_are_named(tmp_path: Path) -> None:
    write_log(tmp_path, make_samples(), name="a")
    write_log(tmp_path, make_samples(draw=1, count=8), name="b")
    with pytest.raises(UserError, match=r"a/samples.* and .*b/samples.*two numbers of samples, 4 and 8"):
        read_answers(tmp_path)
    write_log(tmp_path, make_samples(), name="b")
    with pytest.raises(UserError, match=r"a/samples.* and .*b/samples.*made_up/herbs id 'q-0' was asked twice .* in draw 0"):
        read_answers(tmp_path)
    write_log(tmp_path, make_samples(model="other", count=8), name="b")  # another model may be asked otherwise
    assert read_answers(tmp_path)["model"].n_unique() == 2


def test_answers_are_no_probes_and_probes_no_answers(tmp_path: Path) -> None:
    file = write_log(tmp_path, make_samples())
    with pytest.raises(UserError, match="texts that selfalign_answer asked for, and no probes"):
        read_probes(file)
    with pytest.raises(UserError, match="holds no sample log"):
        find_logs(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="holds no sample log of selfalign_answer"):
        read_answers(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_answers(tmp_path / "nowhere")
