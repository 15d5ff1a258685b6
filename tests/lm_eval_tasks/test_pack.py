"""The files of the pack: whole, unique, in the index, and asked together by their tags."""

import shutil

import pytest
from lm_eval.tasks import TaskManager
from pack import PACK, find_faults

DOMAINS = ("medicine", "history", "engineering", "jurisprudence")
KINDS = ("probe", "probe_paper", "probe_cyclic", "probe_cloze", "chat", "chat_cyclic", "chat_cloze", "probe_context")
BENCHMARKS = ("mmlu_probe", "mmlu_probe_paper", "mmlu_chat", "cmmlu_probe", "cmmlu_chat", "ceval_probe", "ceval_chat")
ANSWERS = ("answer", "answer_greedy", "answer_chat", "answer_greedy_chat")
MINIWORLD = ("probe", "probe_letter", "probe_paper", "probe_cyclic", "probe_context", "chat", "chat_letter", "chat_cyclic")


@pytest.fixture
def copy(tmp_path):
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    return shutil.copytree(PACK, tmp_path / "pack", ignore=ignored)


def test_no_file_of_the_pack_has_a_fault():
    assert find_faults(PACK) == []


def test_the_pack_has_every_task_that_its_readme_promises():
    names = {f"selfalign_{domain}_{kind}" for domain in DOMAINS for kind in KINDS} | {f"selfalign_{kind}" for kind in KINDS}
    names |= {f"selfalign_{name}" for name in BENCHMARKS} | {f"selfalign_miniworld_{kind}" for kind in MINIWORLD}
    tasks = set(TaskManager(include_path=str(PACK), include_defaults=False).all_subtasks)
    names |= {f"selfalign_{name}" for name in ANSWERS}
    assert tasks - {"selfalign_explain", "selfalign_context", "selfalign_claims"} == names


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("medicine/probe.yaml", "task: [unclosed\ninclude: x\n", "medicine/probe.yaml cannot be loaded: ParserError"),
        ("templates/_probe_letter.yaml", "a: [", "medicine/probe.yaml cannot be loaded: ParserError"),
        ("medicine/new.yaml", "task: new\ninclude: ../templates/_none.yaml\ntag: a\n", "cannot be loaded: FileNotFoundError"),
        (
            "medicine/new.yaml",
            "task: new\ninclude: ../templates/_chat_letter.yaml\n"
            "doc_to_text: !function lm_eval_tasks.contracts.prompts.no_such\n",
            "medicine/new.yaml cannot be loaded: AttributeError",
        ),
        (
            "medicine/new.yaml",
            "task: selfalign_history_probe\ninclude: ../templates/_probe_letter.yaml\ntag: a\n",
            "has the task name selfalign_history_probe of history/probe.yaml",
        ),
        ("medicine/new.yml", "task: new\ninclude: ../templates/_chat_letter.yaml\ntag: a\n", "new.yml is not in the index"),
        (
            "medicine/zoo.yaml",
            "task: selfalign_medicine\ninclude: ../templates/_chat_letter.yaml\ntag: a\n",
            "zoo.yaml is not in the index",  # a tag has its name
        ),
        ("medicine/new.yaml", "include: ../templates/_question.yaml\nnum_fewshot: 0\ntag: a\n", "new.yaml names no task"),
        ("medicine/new.yaml", "task: new\ninclude: ../templates/_chat_letter.yaml\n", "new.yaml has 2 lines, not 3 to 5"),
        ("physics/new.yaml", "task: new\ninclude: ../templates/_chat_letter.yaml\ntag: a\n", "has no README.md beside it"),
    ],
)
def test_a_fault_in_a_file_of_the_pack_is_found(copy, file, text, fault):
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(text)
    assert any(fault in found for found in find_faults(copy)), find_faults(copy)


def test_a_tag_asks_what_one_command_line_can_ask():
    manager = TaskManager(include_path=str(PACK), include_defaults=False)
    for tag in manager.all_tags:
        chats = {"_chat" in name for name in manager.task_index[tag].tags}
        assert chats == {tag.endswith("_chats")}, tag
    assert manager.task_index["selfalign_medicine"].tags == {f"selfalign_medicine_{kind}" for kind in ("probe", "probe_cloze")}
    assert manager.task_index["selfalign_benchmarks"].tags == {f"selfalign_{name}_probe" for name in ("mmlu", "cmmlu", "ceval")}
