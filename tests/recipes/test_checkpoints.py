import json

import pytest
import torch
from safetensors.torch import save_file

from recipes.checkpoints import find_checkpoint


def make_checkpoint(folder, step):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.ones(64)}, path / "model.safetensors")
    torch.save({"state": torch.ones(64)}, path / "optimizer.pt")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    assert find_checkpoint(tmp_path) == (None, [])
    make_checkpoint(tmp_path, 9)
    newest = make_checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoint(tmp_path) == (newest, [])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_is_taken(tmp_path, name, damage):
    older = make_checkpoint(tmp_path, 5)
    file = make_checkpoint(tmp_path, 10) / name
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    found, broken = find_checkpoint(tmp_path)
    assert found == older
    assert len(broken) == 1
    assert "checkpoint-10 is left out" in broken[0]


def test_a_shard_that_is_missing_is_named(tmp_path):
    path = make_checkpoint(tmp_path, 1)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": "model-2.safetensors"}}))
    assert "model-2.safetensors is missing" in find_checkpoint(tmp_path)[1][0]
