"""Which questions a task asks, in which order of choices, after which demonstrations and contexts."""

import json
import random

import polars as pl
import pytest
from conftest import BASE
from pack import build, make_questions, write_prompt, write_questions

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.manifest import write_manifest
from lm_eval_tasks.contracts.questions import read_questions, rotate_choices
from lm_eval_tasks.running.harness import run_harness

WORDS = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "16"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two domains; questions of 4, 5 and 10 choices in the first."""
    test = [*make_questions(4, 4, "four"), *make_questions(4, 5, "five"), *make_questions(4, 10, "ten")]
    history = {"dev": make_questions(8, 4, "dev"), "test": test, "train": make_questions(3, 4, "train")}
    law = {"dev": make_questions(8, 4, "case"), "test": make_questions(5, 4, "suit")}
    return write_questions(tmp_path_factory.mktemp("made") / "questions", {"history": history, "law": law})


def ask(output, task, metadata, *options):
    run_harness(
        [*WORDS, "--tasks", task, "--metadata", json.dumps(metadata), "--output_path", str(output), "--log_samples", *options]
    )
    return [json.loads(line) for line in next(output.rglob("samples_*")).open()]


@pytest.mark.parametrize("kind", ["probe", "chat"])
def test_questions_of_four_five_and_ten_choices_are_asked_in_one_task(made, tmp_path, kind):
    options = ["--apply_chat_template"] if kind == "chat" else []
    samples = ask(tmp_path, f"selfalign_history_{kind}", {"questions": str(made)}, *options)
    table = read_probes(tmp_path)
    assert table["probs"].list.len().to_list() == [4] * 4 + [5] * 4 + [10] * 4
    for sample in samples:
        scored = [request["arg_1"] for request in sample["arguments"].values()]
        assert scored == [f" {letter}" for letter in "ABCDEFGHIJ"[: len(sample["doc"]["choices"])]]


def test_a_cyclic_task_asks_every_question_in_every_order(made):
    task = build("selfalign_history_probe_cyclic", questions=str(made))
    docs = pl.DataFrame(list(task.dataset["test"]))
    assert docs["order"].to_list() == [*range(4)] * 4 + [*range(5)] * 4 + [*range(10)] * 4
    own = rotate_choices(docs, -pl.col("order"))
    plain = read_questions(made, ["history"], ["test"])
    assert own.select("id", "choices").unique(maintain_order=True).equals(plain.select("id", "choices"))
    for doc in docs.iter_rows(named=True):
        gold = plain.filter(id=doc["id"]).row(0, named=True)
        assert doc["choices"][doc["answer"]] == gold["choices"][gold["answer"]]
        assert doc["question_hash"] == gold["question_hash"]
    ends = [len(list(task.doc_iterator(limit=limit))) for limit in (1, 4, 5, 17, 21, 75, 76, 500)]
    assert ends == [4, 4, 8, 21, 21, 76, 76, 76]
    assert len(list(build("selfalign_history_probe", questions=str(made)).doc_iterator(limit=5))) == 5


def test_a_draw_is_a_seeded_shuffle_of_the_demonstrations_and_shots_their_number(made):
    prompts = {}
    for draw in (0, 1, 2):
        task = build("selfalign_probe", questions=str(made), draw=draw, shots=3)
        docs = {doc["domain"]: doc for doc in task.dataset["test"]}
        prompts[draw] = {domain: write_prompt(task, doc) for domain, doc in docs.items()}
        again = build("selfalign_probe", questions=str(made), draw=draw, shots=3)
        assert write_prompt(again, docs["law"]) == prompts[draw]["law"]
        assert set(task.dataset["test"]["draw"]) == {draw}
        assert task.find_group(docs["law"]) == ("made_up", "law")
        assert task.samplers.keys() == {("made_up", "history"), ("made_up", "law")}
    assert len({prompt["law"] for prompt in prompts.values()}) == 3
    assert prompts[0]["law"].count("\nAnswer:") == 4
    shown = [f"What does case {i} bring?" in prompts[0]["law"] for i in range(8)]
    assert shown == [True] * 3 + [False] * 5
    assert "case" not in prompts[1]["history"]
    bare = build("selfalign_probe", questions=str(made), shots=0)
    assert write_prompt(bare, docs["law"]).count("Answer:") == 1
    assert len(bare.dataset["dev"]) == 0


def test_contexts_stand_before_the_asked_question_and_not_before_demonstrations(questions, world, tmp_path, caplog):
    lines = [json.loads(line) for line in (world / "contexts.jsonl").open()]
    contexts = {(line["source"], line["domain"], line["id"]): line["context"] for line in random.Random(0).sample(lines, 30)}
    file = tmp_path / "contexts.jsonl"
    rows = [dict(zip(("source", "domain", "id"), key, strict=True)) | {"context": text} for key, text in contexts.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metadata = {"questions": str(questions), "domain": "herbs", "contexts": str(file)}
    samples = ask(tmp_path / "out", "selfalign_miniworld_probe_context", metadata | {"splits": ["train", "test"]})
    assert {(s["doc"]["source"], s["doc"]["domain"], s["doc"]["id"]) for s in samples} == contexts.keys()
    assert "3090 of 3120 questions have no context and are not asked" in caplog.text
    for sample in samples:
        doc, prompt = sample["doc"], sample["arguments"]["gen_args_0"]["arg_0"]
        context = contexts[doc["source"], doc["domain"], doc["id"]]
        *demonstrations, last = prompt.rsplit("\n\n", 2)[0].split("\n\n"), prompt.rsplit("\n\n", 2)[1:]
        assert last == [context, f"{doc['question']}\nAnswer:"]
        assert len(demonstrations[0]) == 1 + 5
        assert not any(text in prompt.removesuffix("\n\n".join(last)) for text in contexts.values())
    table = read_probes(tmp_path / "out")
    assert set(table["phase"]) == {"base_context"}
    assert set(
        build("selfalign_miniworld_probe_context", **metadata, splits=["train"], phase="tuned_context").dataset["test"]["phase"]
    ) == {"tuned_context"}
    letters = build("selfalign_probe_context", **metadata, splits=["train"])
    doc = letters.dataset["test"][0]
    listing = "".join(f"\n{a}. {b}" for a, b in zip("ABCD", doc["choices"], strict=True))
    assert write_prompt(letters, doc).endswith(f"\n\n{doc['context']}\n\n{doc['question']}{listing}\nAnswer:")
    with pytest.raises(UserError, match=r"none of the 1460 questions \(splits test\) has a context in .* Name the splits"):
        build("selfalign_miniworld_probe_context", **metadata)
    file.write_text(json.dumps(rows[0] | {"question_hash": "0" * 16}) + "\n")
    with pytest.raises(
        UserError, match=f"the context of {rows[0]['source']}/herbs id '{rows[0]['id']}' was written for another"
    ):
        build("selfalign_miniworld_probe_context", **metadata, splits=["train"])


@pytest.mark.parametrize(
    ("task", "metadata", "message"),
    [
        ("selfalign_history_probe", {"domain": "law"}, "selfalign_history_probe has the domain 'history', not 'law'"),
        ("selfalign_medicine_probe", {}, "has no domain 'medicine'; it has history, law"),
        ("selfalign_history_probe_cyclic", {"order": 1}, "it asks every order of the choices. Leave `order` out"),
        ("selfalign_probe", {"order": "cyclic"}, "only its cyclic variant asks every order of the choices. Leave `order` out"),
        ("selfalign_probe", {"order": 1.5}, "order 1.5 is neither a whole number nor 'cyclic'"),
        ("selfalign_probe", {"shots": -1}, "selfalign_probe: shots -1 is not a whole number from 0 on"),
        ("selfalign_probe", {"draw": "3"}, "selfalign_probe: draw '3' is not a whole number from 0 on"),
        ("selfalign_probe_context", {}, "selfalign_probe_context: no contexts. Name a log of selfalign_context"),
        ("selfalign_probe_context", {"contexts": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
        ("selfalign_probe", {"questions": None}, "selfalign_probe: no question set"),
    ],
)
def test_what_a_task_cannot_do_is_said(made, task, metadata, message):
    with pytest.raises(UserError) as error:
        build(task, **({"questions": str(made)} | metadata))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_domain_of_a_task_may_be_named_again(made):
    assert len(build("selfalign_history_chat", questions=str(made), domain=["history"]).dataset["test"]) == 12


def test_prompts_are_not_kept_under_the_tasks_name(made, tmp_path):
    with pytest.raises(UserError, match="--cache_requests keeps prompts under the task's name alone"):
        ask(tmp_path, "selfalign_history_probe", {"questions": str(made)}, "--cache_requests", "true")


def test_an_adapter_on_its_base_is_the_tuned_model_that_is_asked(made, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    run = write_manifest(adapter, "train", [], {"response_format": "text"}, {}, {})
    metadata = {"questions": str(made), "pretrained": str(BASE), "peft": str(adapter)}
    doc = build("selfalign_history_chat_cloze", **metadata).dataset["test"][0]
    assert (doc["model"], doc["run"], doc["phase"]) == (str(adapter), run, "tuned_chat")
    with pytest.raises(UserError, match="adapter was trained to answer in the format 'text', but this task scores by letter"):
        build("selfalign_history_chat", **metadata)


@pytest.mark.parametrize("task", ["selfalign_history_chat", "selfalign_history_chat_cloze"])
def test_a_model_of_instruction_data_is_asked_in_any_format(task, made, tmp_path):
    write_manifest(tmp_path, "train", [], {"condition": "instruction_data", "response_format": None}, {}, {})
    assert build(task, questions=str(made), pretrained=str(tmp_path)).dataset["test"][0]["phase"] == "tuned_chat"
