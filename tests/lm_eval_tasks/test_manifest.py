import json

import pytest

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import hash_path, write_file, write_folder
from lm_eval_tasks.contracts.manifest import make_manifest, read_manifest, write_manifest

DETAILS = {"stage": "train", "config": {"seed": 1}, "inputs": {"dataset": "ab"}, "seeds": {"seed": 1}}


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made/here"
    with pytest.raises(RuntimeError), write_folder(target) as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert not target.exists()
    assert not any(target.parent.iterdir())
    with write_folder(target) as scratch:
        (scratch / "whole").write_text("x")
        assert not target.exists()
    assert [file.name for file in target.iterdir()] == ["whole"]


def test_a_folder_that_stands_is_replaced_only_when_all_is_written(tmp_path):
    target = tmp_path / "here"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(UserError, match="holds files that no command of selfalign wrote"), write_folder(target):
        pass
    (target / "manifest.json").write_text("{}")
    with pytest.raises(RuntimeError), write_folder(target) as scratch:
        (scratch / "new").write_text("new")
        raise RuntimeError
    assert (target / "old").read_text() == "old"
    with write_folder(target) as scratch:
        (scratch / "new").write_text("new")
    assert [file.name for file in target.iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["here"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), write_file(target) as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with write_file(target) as scratch:
        scratch.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file"), write(tmp_path / "file" / "below"):
        pass
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_run_id_says_what_was_done_and_not_how_it_was_typed(tmp_path):
    run = write_manifest(tmp_path, command=["a"], **DETAILS)
    assert read_manifest(tmp_path)["run"] == run
    assert make_manifest(command=["b"], **DETAILS)["run"] == run
    assert make_manifest(command=["a"], **DETAILS | {"seeds": {"seed": 2}})["run"] != run
    assert make_manifest(command=["a"], **DETAILS | {"inputs": {"dataset": "cd"}})["run"] != run


def test_a_damaged_manifest_is_named(tmp_path):
    assert read_manifest(tmp_path) is None
    for text in ("{", "[]", json.dumps({"run": "x"})):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"manifest\.json is not a manifest"):
            read_manifest(tmp_path)


def test_a_hash_sees_names_and_bytes(tmp_path):
    (tmp_path / "a").write_text("1")
    first = hash_path(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert hash_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert hash_path(tmp_path) != first
    (tmp_path / "b").write_text("2")
    second = hash_path(tmp_path)
    (tmp_path / "b").write_text("3")
    assert hash_path(tmp_path) != second
