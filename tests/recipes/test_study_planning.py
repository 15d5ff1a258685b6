"""What a study takes is said before it runs, and what is not there."""

import pytest
import yaml
from conftest import ROOT

from lm_eval_tasks.contracts.errors import UserError
from recipes.study.grid import Study
from recipes.study.planning import check_gpus, describe_study, list_measured
from recipes.study.problems import read_study


@pytest.mark.launched
def test_the_check_says_what_a_study_takes_and_lacks_and_changes_nothing(study, tmp_path):
    settings = yaml.safe_load(study.read_text())
    gone = settings["models"]["miniature"] | {"training": "recipes/none.yaml"}
    settings["models"] |= {"gone": gone, "large": {**settings["models"]["miniature"], "base": str(ROOT / "recipes/llama-2-7b")}}
    settings["models"]["large"] |= {"training": "recipes/llama-2-7b/lora.yaml", "accelerate": "recipes/accelerate/zero3.yaml"}
    study.write_text(yaml.safe_dump(settings))
    before = sorted(tmp_path.rglob("*"))
    said = describe_study(Study.make(read_study(study)))
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in said.splitlines()
            if line.startswith("| ")}  # fmt: skip
    assert "Not there yet: recipes/none.yaml (training of gone)" in said
    runs = len(settings["conditions"]) * len(settings["seeds"])
    assert said.endswith(f"{3 * runs} trainings, each asked afterwards")
    parameters, tokens = rows["large"][:2]
    assert float(parameters) == pytest.approx(6738, rel=0.01)
    assert tokens == str(256 * 200 * 3 * 5 // 4)
    # 6 operations (4, and 2 since activations are computed again) a parameter and token, in each run, on 400 TFLOP/s.
    assert float(rows["large"][2]) == pytest.approx(runs * 6 * 6738e6 * int(tokens) / 4e14 / 3600, abs=2e-3)
    assert "8 x zero3" in rows["large"][-1]
    assert "trains on the processor" in rows["miniature"][-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_jobs_of_several_seeds_took_is_measured(study, tmp_path):
    settings = yaml.safe_load(study.read_text()) | {"seeds_together": True}
    study.write_text(yaml.safe_dump(settings))
    folder = tmp_path / "runs/benchmarks/train/miniature/herbs"
    folder.mkdir(parents=True)
    (folder / f"{settings['conditions'][0]}.tsv").write_text("s\th:m:s\tmax_rss\n60.0\t0:01:00\t-\n")
    left = len(settings["conditions"])  # none has left a model
    made = Study.make(read_study(study))
    assert list_measured(made).rows() == [("train", "miniature", 1, 1.0, left, left / 60)]


def test_what_its_jobs_took_is_measured(study, tmp_path):
    settings = yaml.safe_load(study.read_text())
    for i, condition in enumerate(settings["conditions"][:2]):
        folder = tmp_path / f"runs/benchmarks/train/miniature/herbs/{condition}"
        folder.mkdir(parents=True)
        (folder / "seed-1.tsv").write_text(f"s\th:m:s\tmax_rss\n{60 * (i + 1)}.0\t0:01:00\t-\n")
        model = tmp_path / f"runs/miniature/herbs/{condition}/seed-1/model"
        model.mkdir(parents=True)
        (model / "manifest.json").touch()
    made = Study.make(read_study(study))
    left = len(settings["conditions"]) * len(settings["seeds"]) - 2
    assert list_measured(made).rows() == [("train", "miniature", 2, 1.5, left, left * 1.5 / 60)]


def test_gpus_that_are_not_there_are_said_before_anything_runs(study, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    settings = yaml.safe_load(study.read_text())
    assert not check_gpus(Study.make(settings), [])
    own = settings["models"]["miniature"]
    settings["models"]["large"] = own | {"accelerate": "recipes/accelerate/zero3.yaml", "lm_eval": "--model hf"}
    with pytest.raises(UserError, match=r"models.large takes 8 GPUs to train, and this machine has 1"):
        check_gpus(Study.make(settings), [])
    for option in ("--executor", "-n", "--profile"):
        assert not check_gpus(Study.make(settings), [option, "slurm"])
    settings["resources"] = {"train": {"gpu": 1, "runtime": 60}}
    assert check_gpus(Study.make(settings), [])
    assert Study.make(settings).models["large"].find_needs("train") == {"gpu": 1, "mem_mb": 16_000, "runtime": 60}
    assert Study.make(settings).models["miniature"].find_needs("ask")["gpu"] == 0
