"""Public reports on what is asked (see tests/README.md): files, texts of templates, demonstrations, limits, processes."""

import json
from collections import Counter
from itertools import chain

import polars as pl
import pytest
from conftest import BASE
from lm_eval.evaluator_utils import get_sample_size
from miniatures import build_requests, build_task, make_questions, write_questions
from transformers import AutoTokenizer

from intervention.__main__ import app
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import LETTERS
from lm_eval_tasks.contracts.questions import read_questions

# Texts that readers of tables take for a missing value, a number, a truth or a date.
WORDS = ["None", "NA", "null", "NaN", "n/a", "-", "007", "1e5", "3.0", "TRUE", "1,000", "0.10", "2020-01-01", "12:30", " oat"]


def list_rows():
    """Questions whose choices and ids are such texts, gold at the first."""
    return [
        {"id": f"0{i:02}", "question": word, "a": word, "b": "moor", "c": WORDS[i - 1], "answer": 0}
        for i, word in enumerate(WORDS)
    ]


def convert(kind, file, *words):
    """The question set that `python -m intervention questions` makes of a file."""
    output = file.with_suffix(".set")
    given = ["--set", "source=mine", "--set", "domain=herbs", "--split", "test", "--answers", "index", *words]
    app(["questions", kind, str(file), "--output", str(output), *given], standalone_mode=False)
    return read_questions(output)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_choice_that_looks_like_no_text_is_the_text_that_stands_there(kind, tmp_path):
    file, rows = tmp_path / f"mine.{kind}", list_rows()
    if kind == "csv":
        pl.DataFrame(rows).write_csv(file)
    elif kind == "parquet":
        pl.DataFrame(rows).write_parquet(file)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = convert(kind, file, "--column", "choices=a,b,c")
    assert table["id"].to_list() == [f"0{i:02}" for i in range(len(WORDS))]
    assert table["question"].to_list() == WORDS
    assert table["choices"].to_list() == [[row["a"], row["b"], row["c"]] for row in rows]


def test_a_text_alone_among_numbers_does_not_change_with_the_row_that_is_read_first(tmp_path):
    """Lines of JSON have no type for a column: that of the first line is no more than its own."""
    rows = [{"id": str(i), "question": "Which?", "choices": [word, "moor"], "answer": 0} for i, word in enumerate(WORDS)]
    tables = []
    for name, lines in (("forwards", rows), ("backwards", rows[::-1])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in lines))
        tables.append(convert("jsonl", file).sort("id"))
    assert tables[0].equals(tables[1])
    assert set(tables[0]["choices"].list.first()) == set(WORDS)


# --- texts that are a program, a column or a number to a template


@pytest.mark.parametrize("task", ["selfalign_probe", "selfalign_probe_cloze", "selfalign_probe_paper", "selfalign_chat_cloze"])
def test_texts_that_templates_would_take_for_theirs_are_asked_as_they_are(task, tmp_path):
    nasty = "Which is {{ 7 * 7 }} of {% if moor %} and {# fen #}?"
    choices = [["{{ answer }}", "{% raw %}", "question", "3"], ["id", "answer", "2", "0"]]
    rows = {split: make_questions(n, 4, split) for split, n in (("dev", 5), ("test", 2))}
    for i, row in enumerate(rows["dev"] + rows["test"]):
        row |= {"question": f"{nasty} {i}", "choices": choices[i % 2], "answer": 2 + i % 2}
    questions = write_questions(tmp_path / "questions", {"herbs": rows})
    settings = {"add_bos_token": True} if task.endswith("paper") else {}
    asked = [item.args for item in build_requests(build_task(task, questions, **settings)) if nasty in item.args[0]]
    assert len(asked) == 8
    demonstrations = [] if "chat" in task else rows["dev"]
    for prompt, _ in asked:
        assert prompt.count(nasty) == 1 + len(demonstrations)
        assert all(f"{row['choices'][row['answer']]}\n\n" in prompt for row in demonstrations)
    if task.endswith("cloze"):
        assert [scored for _, scored in asked] == [f" {choice}" for row in rows["test"] for choice in row["choices"]]


# --- the token that is shown and the token that is scored


@pytest.mark.parametrize("task", ["selfalign_probe", "selfalign_chat"])
@pytest.mark.parametrize("family", ["miniature", "sentencepiece"])
def test_the_letter_that_is_scored_is_the_token_that_demonstrations_answer_with(task, family, tmp_path, sentencepiece):
    tokenizer = AutoTokenizer.from_pretrained(BASE if family == "miniature" else sentencepiece)
    dev = [row | {"answer": i % 4} for i, row in enumerate(make_questions(5, 4, "dev"))]
    questions = write_questions(tmp_path / "questions", {"herbs": {"dev": dev, "test": make_questions(1, 4, "test")}})
    requests = build_requests(build_task(task, questions))
    prompt = requests[0].args[0]
    start = len(tokenizer(prompt)["input_ids"])
    scored = [tokenizer("".join(item.args))["input_ids"][start:] for item in requests]
    assert [len(ids) for ids in scored] == [1] * 4
    if task.endswith("probe"):
        head = prompt
        for row in reversed(dev):
            head = head[: head.rindex(f"Answer: {LETTERS[row['answer']]}. ") + len("Answer:")]
            ids = tokenizer(prompt)["input_ids"]
            assert ids[len(tokenizer(head)["input_ids"])] == scored[row["answer"]][0]


# --- subjects and draws


def make_bank(folder):
    """Two sources and two domains whose dev questions stand in one file each, mixed; ids alone tell them apart."""
    configs = {}
    for domain in ("herbs", "annals"):
        dev = [row | {"source": source} for source in ("one", "two") for row in make_questions(8, 4, f"{source}-{domain}-dev")]
        test = [
            row | {"source": source} for source in ("one", "two") for row in make_questions(6, 3, f"{source}-{domain}-test")
        ]
        configs[domain] = {"dev": dev[::2] + dev[1::2], "test": test[1::2] + test[::2]}
    return write_questions(folder / "bank", configs)


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_no_demonstration_is_of_another_subject_and_none_hangs_on_what_else_is_asked(tmp_path, draw):
    bank = make_bank(tmp_path)
    prompts = {}
    for domain, run in (
        ([], {}),
        ("herbs", {}),
        (["annals", "herbs"], {}),
        ([], {"limit": 5}),
        ([], {"rank": 1, "world_size": 3}),
    ):
        for item in build_requests(build_task("selfalign_probe", bank, draw=draw, domain=domain), **run):
            assert prompts.setdefault(item.doc["id"], item.args[0]) == item.args[0]
    assert len(prompts) == 24
    for name, prompt in prompts.items():
        source, domain = name.split("-")[:2]
        assert prompt.count("What does") == 6
        assert prompt.count(f"What does {source}-{domain}-dev ") == 5
        assert prompt.startswith(f"The following are multiple choice questions about {domain}.")


def test_a_draw_is_the_same_in_every_process_and_on_every_machine(tmp_path):
    """An order by `hash` would be another one in each process."""
    bank, shown = make_bank(tmp_path), []
    for draw in (0, 1, 2):
        task = build_task("selfalign_probe", bank, draw=draw)
        shown.append([row["id"].removeprefix("one-herbs-dev-") for row in task.samplers["one", "herbs"].df[:5]])
    assert shown == [["0", "2", "4", "6", "1"], ["4", "1", "2", "7", "0"], ["0", "5", "1", "4", "2"]]


# --- how many are asked, and by whom


@pytest.mark.parametrize("task", ["selfalign_probe", "selfalign_probe_cyclic"])
def test_a_limit_that_is_a_share_is_one_of_each_task(tmp_path, task):
    sizes = {"herbs": 40, "annals": 12}
    rows = {name: {"dev": make_questions(5, 4, f"dev {name}"), "test": make_questions(n, 4, name)} for name, n in sizes.items()}
    questions = write_questions(tmp_path / "questions", rows)
    for domain, n in sizes.items():
        built = build_task(task, questions, domain=domain)
        limit = get_sample_size(built, 0.25)
        asked = Counter(doc["id"] for _, doc in built.doc_iterator(limit=limit))
        assert asked == {f"{domain}-{i}": 4 if built.cyclic else 1 for i in range(n // 4)}


@pytest.mark.parametrize("name", ["selfalign_probe", "selfalign_probe_cyclic", "selfalign_chat"])
def test_each_question_is_asked_by_one_process(tmp_path, name):
    task = build_task(name, make_bank(tmp_path))

    def list_asked(**run):
        return [(item.doc["id"], item.doc["order"], item.args) for item in build_requests(task, **run)]

    whole = sorted(list_asked())
    for processes in (2, 5, 24):
        parts = [list_asked(rank=rank, world_size=processes) for rank in range(processes)]
        assert sorted(chain.from_iterable(parts)) == whole
        assert all(len({key for key, *_ in part}) <= -(-24 // processes) for part in parts)


def test_a_process_without_a_question_is_said_before_the_run(tmp_path):
    with pytest.raises(UserError, match="no question is left for process 25 of 25"):
        build_requests(build_task("selfalign_probe", make_bank(tmp_path)), rank=24, world_size=25)
