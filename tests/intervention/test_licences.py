"""What each part of a set is under, which of them is the strictest, and which cannot be kept together."""

from pathlib import Path

import pytest

from intervention.publishing.licences import (
    Terms,
    choose_strictest,
    describe_licence,
    find_languages,
    find_terms,
    needs_acceptance,
    note_clashes,
)
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import write_manifest


def name_licences(*licences: str) -> list[Terms]:
    return [Terms("questions", "x", licence) for licence in licences]


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        ("medmcqa", "apache-2.0"),
        ("xiezhi", "cc-by-nc-sa-4.0"),
        ("mmlu", "mit"),
        ("cmmlu", "cc-by-nc-4.0"),
        ("ceval", "cc-by-nc-sa-4.0"),
        ("miniworld_exam", "apache-2.0"),
        ("vicgalle/alpaca-gpt4", "cc-by-nc-4.0"),
        ("mine", "unknown"),
        ("someone/mmlu", "unknown"),
    ],
)
def test_the_licence_of_a_source(source: str, licence: str) -> None:
    assert find_terms("questions", source).licence == licence


@pytest.mark.parametrize(
    ("model", "licence"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama2"),
        ("llama-2-7b", "llama2"),
        ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Llama-3.1-8B", "llama3.1"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("mistralai/Mistral-7B-v0.1", "apache-2.0"),
        ("mistralai/Mistral-Large-Instruct-2407", "unknown"),
        ("Qwen/Qwen2.5-7B", "apache-2.0"),
        ("Qwen/Qwen2.5-3B", "qwen-research"),
        ("Qwen/Qwen-7B", "tongyi-qianwen"),
        ("google/gemma-2-9b", "gemma"),
        ("gpt-4o", "openai-terms"),
        ("someone/my-model", "unknown"),
    ],
)
def test_the_licence_of_what_a_model_writes(model: str, licence: str) -> None:
    assert find_terms("explanations", model).licence == licence
    assert find_terms("questions", model).licence == "unknown"  # a model's licence is that of its texts alone


def test_a_folder_says_its_licence_itself_and_is_named_without_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "Llama-2-of-mine"
    folder.mkdir()
    assert find_terms("contexts", str(folder)) == find_terms("contexts", "Llama-2-of-mine")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: my-terms\n---\n")
    assert find_terms("contexts", str(folder)) == Terms("contexts", folder.name, "my-terms", "As its own card says.")
    (folder / "README.md").write_text("---\nlicense: [mit, cc-by-4.0]\n---\n")
    assert find_terms("contexts", str(folder)).licence == "cc-by-4.0"
    (folder / "README.md").write_text("no header")
    assert find_terms("contexts", str(folder)).licence == "llama2"


def test_a_file_is_under_what_its_folder_says(tmp_path: Path) -> None:
    file = tmp_path / "llama-2-7b.jsonl.gz"
    assert find_terms("contexts", str(file)) == Terms("contexts", "llama-2-7b.jsonl.gz", "unknown")  # its name says nothing
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert find_terms("general instructions", str(file)).licence == "cc-by-4.0"
    write_manifest(tmp_path, "world", [], {}, {}, {})
    assert find_terms("general instructions", str(file)).licence == "apache-2.0"


def test_what_the_user_says_counts() -> None:
    assert find_terms("questions", "mmlu", "CC BY-NC 4.0").licence == "cc-by-nc-4.0"
    with pytest.raises(UserError, match=r"licence 'a: b' is not a licence's name\. Name it as the Hub does"):
        find_terms("questions", "mine", "a: b")


@pytest.mark.parametrize(
    ("licences", "strictest"),
    [
        (["apache-2.0", "mit"], "apache-2.0"),
        (["cc-by-4.0", "cc0-1.0", "mit"], "cc-by-4.0"),
        (["llama2", "cc-by-4.0"], "llama2"),
        (["cc-by-sa-4.0", "llama2"], "cc-by-sa-4.0"),
        (["cc-by-nc-4.0", "cc-by-sa-4.0"], "cc-by-nc-4.0"),
        (["cc-by-nc-4.0", "apache-2.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["cc-by-nc-sa-4.0", "my-terms"], "my-terms"),
        (["your-terms", "my-terms"], "other"),
        (["cc-by-nc-sa-4.0", "unknown", "my-terms"], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_strictest_licence_is_that_of_the_whole(licences: list[str], strictest: str) -> None:
    assert choose_strictest(name_licences(*licences)) == strictest
    assert choose_strictest(name_licences(*licences[::-1])) == strictest


def test_only_free_licences_need_no_acceptance() -> None:
    free = ["apache-2.0", "mit", "cc-by-4.0", "cc0-1.0"]
    strict = ["unknown", "my-terms", "cc-by-nc-sa-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "llama2", "gemma", "cc-by-nd-4.0"]
    assert [needs_acceptance(licence) for licence in free + strict] == [False] * len(free) + [True] * len(strict)


def test_a_licence_that_the_hub_does_not_list_is_other_with_a_name() -> None:
    assert describe_licence("cc-by-nc-sa-4.0") == {"license": "cc-by-nc-sa-4.0"}
    assert describe_licence("qwen-research") == {"license": "other", "license_name": "qwen-research"}


def test_clashes_are_named() -> None:
    assert note_clashes(name_licences("cc-by-nc-sa-4.0", "cc-by-nc-4.0", "apache-2.0")) == []
    assert note_clashes(name_licences("cc-by-sa-4.0", "cc-by-sa-3.0", "mit")) == []
    (note,) = note_clashes(name_licences("cc-by-nc-sa-4.0", "llama2"))
    assert note.startswith("cc-by-nc-sa-4.0 asks that a work made from its part be passed on under cc-by-nc-sa-4.0")
    assert "but llama2 asks for other terms" in note
    assert len(note_clashes(name_licences("cc-by-sa-4.0", "cc-by-nc-sa-4.0"))) == 2
    assert len(note_clashes(name_licences("cc-by-sa-4.0", "cc-by-nc-4.0"))) == 1
    assert "no changed version" in note_clashes(name_licences("cc-by-nd-4.0"))[0]


def test_languages_are_named_where_all_are_known() -> None:
    assert find_languages([find_terms("questions", "ceval"), find_terms("general instructions", "vicgalle/alpaca-gpt4")]) == [
        "en",
        "zh",
    ]
    assert find_languages([find_terms("questions", "mmlu"), find_terms("general instructions", "mine")]) == []
