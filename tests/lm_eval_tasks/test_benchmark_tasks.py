"""MMLU, CMMLU and C-Eval from local folders in the Hub's layout."""

import json
from collections import Counter

import datasets
import polars as pl
import pytest
from conftest import BASE
from pack import build, write_layout, write_prompt
from test_paper_prompts import write_paper_prompt

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import hash_questions, rotate_choices
from lm_eval_tasks.contracts.subjects import CEVAL_NAME, CMMLU_NAME, MMLU_CATEGORY, MMLU_DOMAIN, MMLU_SUBCATEGORY
from lm_eval_tasks.running.harness import run_harness

SUBJECTS = ("abstract_algebra", "virology", "electrical_engineering", "high_school_us_history", "professional_law")


def make_mmlu(n, name):
    rows = [
        {"question": f"{name} of {subject} {i}?", "subject": subject}
        | {"choices": [f"{word} {i}" for word in ("p", "q", "r", "s")], "answer": (i * 7 + len(subject)) % 4}
        for subject in SUBJECTS
        for i in range(n)
    ]
    return pl.DataFrame(rows)


def make_chinese(n, upper, split):
    rows = []
    for i in range(n):
        row = {
            "question": f"问题{split}{i}",
            "A": f"甲{i}",
            "B": f"乙{i}",
            "C": f"丙{i}",
            "D": f"丁{i}",
            "answer": "BDCA"[i % 4],
        }
        rows.append({name.capitalize() if upper and len(name) > 1 else name: value for name, value in row.items()})
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small folders in the layout of cais/mmlu, haonan-li/cmmlu and ceval/ceval-exam."""
    root = tmp_path_factory.mktemp("hub")
    mmlu = {"test": make_mmlu(12, "Test"), "validation": make_mmlu(2, "Validation"), "dev": make_mmlu(5, "Dev")}
    write_layout(root / "mmlu", {"all": mmlu})
    cmmlu = {split: make_chinese(n, True, split) for split, n in (("test", 8), ("dev", 5))}
    write_layout(root / "cmmlu", dict.fromkeys(("agronomy", "virology"), cmmlu))
    ceval = {split: make_chinese(n, False, split) for split, n in (("test", 3), ("val", 7), ("dev", 5))}
    ceval = {split: table.with_columns(id=pl.int_range(pl.len()), explanation=pl.lit("")) for split, table in ceval.items()}
    write_layout(root / "ceval", dict.fromkeys(("law", "accountant"), ceval))
    return root


def test_the_subject_tables_have_the_benchmarks_subjects():
    assert (len(MMLU_DOMAIN), len(CMMLU_NAME), len(CEVAL_NAME)) == (57, 67, 52)
    domains = Counter(MMLU_DOMAIN.values())
    assert {name: domains[name] for name in ("medicine", "history", "engineering", "jurisprudence")} == {
        "medicine": 8, "history": 4, "engineering": 1, "jurisprudence": 15
    }  # fmt: skip
    assert sum(domains.values()) == 57
    assert Counter(MMLU_CATEGORY.values()) == {
        "STEM": 18, "humanities": 13, "social sciences": 12, "other (business, health, misc.)": 14
    }  # fmt: skip
    assert MMLU_DOMAIN["virology"] == "medicine"
    assert (MMLU_DOMAIN["world_religions"], MMLU_SUBCATEGORY["world_religions"]) == ("philosophy", "philosophy")
    assert (MMLU_DOMAIN["sociology"], MMLU_CATEGORY["sociology"]) == ("jurisprudence", "social sciences")
    assert (CMMLU_NAME["sports_science"], CEVAL_NAME["sports_science"]) == ("体育学", "体育学")
    assert len(set(CEVAL_NAME.values())) == 52


def test_mmlu_is_asked_once_with_subject_category_and_the_papers_domain(folders, tmp_path):
    metadata = json.dumps({"mmlu": str(folders / "mmlu"), "order": 1})
    words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "32"]
    words += ["--tasks", "selfalign_mmlu_probe", "--metadata", metadata, "--log_samples", "--output_path", str(tmp_path)]
    run_harness(words)
    docs = pl.DataFrame([json.loads(line)["doc"] for line in next(tmp_path.rglob("samples_*")).open()])
    own = rotate_choices(docs, -pl.col("order")).with_columns(answer=(pl.col("answer") + 1) % 4)
    test = make_mmlu(12, "Test")
    for name in ("question", "choices", "answer", "subject"):
        assert own[name].to_list() == test[name].to_list()
    assert docs["id"].to_list() == [f"{subject}/{i}" for subject in SUBJECTS for i in range(12)]
    assert hash_questions(own).to_list() == docs["question_hash"].to_list()
    found = docs.group_by("subject", maintain_order=True).agg(pl.col("domain", "category").unique())
    assert found["domain"].to_list() == [["math"], ["medicine"], ["engineering"], ["history"], ["jurisprudence"]]
    assert found["category"].to_list()[1:3] == [["other (business, health, misc.)"], ["STEM"]]
    assert (set(docs["source"]), set(docs["phase"]), set(docs["split"])) == ({"mmlu"}, {"base_probe"}, {"test"})


def test_mmlu_prompts_are_the_papers_and_a_plain_one(folders):
    mmlu = str(folders / "mmlu")
    paper, plain = build("selfalign_mmlu_probe_paper", mmlu=mmlu), build("selfalign_mmlu_probe", mmlu=mmlu)
    assert (paper.config.metadata["paper"], paper.config.metadata["bos"]) == (True, False)
    for doc in paper.dataset["test"]:
        dev = make_mmlu(5, "Dev").filter(subject=doc["subject"]).to_dicts()
        topic = "".join(f" {word}" for word in doc["subject"].split("_"))
        assert write_prompt(paper, doc) == write_paper_prompt(topic, dev, doc)
    doc = plain.dataset["test"][13]
    prompt = write_prompt(plain, doc)
    assert prompt.startswith(
        "The following are multiple choice questions about virology.\n\nDev of virology 0?\nA. p 0\nB. q 0"
    )
    assert "\nAnswer: A. p 0\n\nDev of virology 1?" in prompt
    assert prompt.endswith("Test of virology 1?\nA. p 1\nB. q 1\nC. r 1\nD. s 1\nAnswer:")
    assert plain.choices_of(doc) == [" A", " B", " C", " D"]


@pytest.mark.parametrize(
    ("name", "subject", "chinese", "split"), [("cmmlu", "agronomy", "农学", "test"), ("ceval", "law", "法学", "val")]
)
def test_the_chinese_benchmarks_are_asked_with_the_papers_prompt(folders, name, subject, chinese, split):
    task = build(f"selfalign_{name}_probe", **{name: str(folders / name)}, domain=subject)
    docs = list(task.dataset["test"])
    assert [doc["id"] for doc in docs] == [f"{subject}/{i}" for i in range(8 if name == "cmmlu" else 7)]
    assert [doc["answer"] for doc in docs[:4]] == [1, 3, 2, 0]
    assert {(doc["source"], doc["domain"], doc["subject"], doc["split"]) for doc in docs} == {(name, subject, subject, split)}
    blocks = [f"问题dev{i}\nA. 甲{i}\nB. 乙{i}\nC. 丙{i}\nD. 丁{i}\n答案：" for i in range(5)]
    golds = ["B. 乙0", "D. 丁1", "C. 丙2", "A. 甲3", "B. 乙4"]
    expected = f"以下是中国关于{chinese}的单项选择题，请选出其中的正确答案。\n\n"
    expected += "".join(f"{block}{gold}\n\n" for block, gold in zip(blocks, golds, strict=True))
    assert write_prompt(task, docs[2]) == f"{expected}问题{split}2\nA. 甲2\nB. 乙2\nC. 丙2\nD. 丁2\n答案："
    assert task.choices_of(docs[2]) == ["A", "B", "C", "D"]
    chat = build(f"selfalign_{name}_chat", **{name: str(folders / name)}, domain=[subject])
    assert chat.doc_to_text(docs[2]) == f"问题{split}2\nA. 甲2\nB. 乙2\nC. 丙2\nD. 丁2"
    assert chat.choices_of(docs[2]) == [" A", " B", " C", " D"]


def test_all_three_are_asked_in_the_chat_prompt(folders, tmp_path):
    tasks = [f"selfalign_{name}_chat" for name in ("mmlu", "cmmlu", "ceval")]
    for task, domain in zip(tasks, ("medicine", "agronomy", "law"), strict=True):
        metadata = {name: str(folders / name) for name in ("mmlu", "cmmlu", "ceval")} | {"domain": domain}
        words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--apply_chat_template"]
        words += ["--tasks", task, "--metadata", json.dumps(metadata), "--log_samples", "--output_path", str(tmp_path)]
        run_harness([*words, "--limit", "2"])
    samples = [json.loads(line) for file in tmp_path.rglob("samples_*") for line in file.open()]
    assert Counter(sample["doc"]["task"] for sample in samples) == dict.fromkeys(tasks, 2)
    assert all(sample["arguments"]["gen_args_0"]["arg_0"].endswith(" ASSISTANT:") for sample in samples)
    assert {sample["doc"]["phase"] for sample in samples} == {"base_chat"}


def test_a_data_set_that_the_hub_keeps_as_a_script_is_read_as_the_hub_converted_it(folders, monkeypatch):
    load, asked = datasets.load_dataset, []

    def refuse_scripts(path, *args, revision=None, **kwargs):
        asked.append((path, revision))
        if revision is None:
            raise RuntimeError("Dataset scripts are no longer supported, but found cmmlu.py")
        return load(str(folders / "cmmlu"), *args, **kwargs)

    monkeypatch.setattr(datasets, "load_dataset", refuse_scripts)
    task = build("selfalign_cmmlu_probe", domain="virology")
    assert len(task.dataset["test"]) == 8
    assert asked[:2] == [("haonan-li/cmmlu", None), ("haonan-li/cmmlu", "refs/convert/parquet")]


@pytest.mark.parametrize(
    ("task", "metadata", "message"),
    [
        ("selfalign_mmlu_probe", {"domain": "herbs"}, "selfalign_mmlu_probe has no domain 'herbs'; it has biology, business"),
        ("selfalign_mmlu_probe", {"domain": "psychology"}, "has no domain 'psychology'"),
        ("selfalign_mmlu_probe", {"domain": "physics"}, "has no questions of the domains that are asked"),
        (
            "selfalign_mmlu_probe",
            {"mmlu": "cmmlu"},
            r"cmmlu, config 'all', split 'test' cannot be read: BuilderConfig 'all' not found",
        ),
        ("selfalign_ceval_chat", {"domain": "physician"}, "ceval, config 'physician', split 'val' cannot be read"),
        ("selfalign_cmmlu_chat", {"domain": "law"}, "selfalign_cmmlu_chat has no domain 'law'"),
        ("selfalign_ceval_probe", {"ceval": "cmmlu", "domain": "virology"}, "has no domain 'virology'"),
        (
            "selfalign_cmmlu_probe",
            {"cmmlu": "nowhere", "domain": "virology"},
            "nowhere, config 'virology', split 'test' cannot be read",
        ),
    ],
)
def test_what_is_not_in_a_benchmark_is_said_in_one_line(folders, monkeypatch, task, metadata, message):
    monkeypatch.chdir(folders)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    defaults = {name: name for name in ("mmlu", "cmmlu", "ceval")}
    with pytest.raises(UserError, match=message) as error:
        build(task, **(defaults | metadata))
    assert "\n" not in str(error.value)


def test_rows_of_a_benchmark_that_are_no_questions_are_left_out_and_counted(tmp_path, caplog):
    test = make_mmlu(3, "Test").with_columns(answer=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("answer"))
    test = test.with_columns(
        choices=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit(["a", " ", "c", "d"])).otherwise("choices")
    )
    folder = write_layout(tmp_path / "mmlu", {"all": {"test": test, "dev": make_mmlu(5, "Dev")}})
    task = build("selfalign_mmlu_probe", mmlu=str(folder))
    ids = [doc["id"] for doc in task.dataset["test"]]
    assert len(ids) == 13
    assert not {"abstract_algebra/1", "virology/1"} & set(ids)
    assert (
        "mmlu: 2 of 15 test questions lack a text or an answer and are left out; the first is abstract_algebra/1" in caplog.text
    )
    strange = write_layout(tmp_path / "strange", {"all": {"test": test.with_columns(subject=pl.lit("alchemy")), "dev": test}})
    with pytest.raises(UserError, match="'alchemy' is no subject of MMLU"):
        build("selfalign_mmlu_probe", mmlu=str(strange))
