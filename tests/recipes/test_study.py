"""The study's workflow, as far as a plan goes; `make demo` runs the whole."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_command

from lm_eval_tasks.contracts.vocabulary import PAPER_RATIOS
from recipes.study.grid import Study
from recipes.study.problems import list_problems

STUDY = ROOT / "recipes/study/miniworld.yaml"
RUN = (sys.executable, "-m", "recipes.study")


@pytest.mark.parametrize("together", [False, True])
def test_the_plan_names_every_run(study, together):
    settings = yaml.safe_load(study.read_text()) | {"seeds_together": together}
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in plan.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    runs = len(settings["conditions"]) * (1 if together else len(settings["seeds"]))
    once = dict.fromkeys(("world", "questions", "probe_base", "probe_again", "chat_base", "report"), 1)
    # A set a seed, so that the draw of questions varies with it.
    assert counts | once | {"train": runs, "ask_tuned": runs, "build": len(settings["seeds"])} == counts


@pytest.mark.launched
def test_each_world_has_its_own_questions_and_base(study, tmp_path):
    settings = yaml.safe_load(study.read_text()) | {"worlds": [3, 4], "pretraining": "recipes/miniworld/pretrain.yaml"}
    for name in ("questions", "general", "contexts"):
        del settings[name]
    del settings["models"]["miniature"]["base"]
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    for seed in (3, 4):
        folder = tmp_path / f"runs/worlds/{seed}"
        (made,) = (line for line in lines if "recipes.miniworld.pretrain --config" in line and f"--seed {seed} " in line)
        assert f"--output {folder}/miniature-{seed} " in made
        own = [line for line in lines if "recipes/sft.py" in line and f"/runs/miniature-{seed}/" in line]
        assert own
        assert all(f"--model_name_or_path {folder}/miniature-{seed} " in line for line in own)
        built = [line for line in lines if "intervention build" in line and f"/runs/miniature-{seed}/" in line]
        assert len(built) == len(settings["seeds"])
        assert all(f"--questions {folder}/questions " in line for line in built)
        assert all(f"{folder}/world/{name}.jsonl" in line for name in ("general", "contexts") for line in built)


@pytest.mark.parametrize("file", sorted(STUDY.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_study_file_has_what_the_workflow_needs_and_names_recipes_that_there_are(file):
    study = yaml.safe_load(file.read_text())
    assert not list_problems(study)
    for model in study["models"].values():
        assert (ROOT / model["training"]).is_file()
        assert (ROOT / model["accelerate"]).is_file()


def test_an_arm_is_a_grid_of_its_own(study, tmp_path):
    lists = {"match": ["none", "confidence"], "learning_rate": [0.001, 0.0005], "until_fit": [False, 0.9], "seeds": [1, 2]}
    settings = yaml.safe_load(study.read_text()) | lists | {"conditions": ["incompatible", "harmonious"]}
    study.write_text(yaml.safe_dump(settings | {"primary": "harmonious/ood", "score": "pmi"}))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    commands = [line for line in plan.splitlines() if "recipes/sft.py" in line]
    assert len(commands) == 2**5
    folder = tmp_path / "runs/miniature/herbs"
    fitted = [line for line in commands if "--until_fit 0.9" in line]
    assert len(fitted) == 2**4
    assert all("/until_fit-0.9/" in line for line in fitted)
    assert not any("/until_fit-0.9/" in line or "--until_fit" in line for line in commands if line not in fitted)
    for match in lists["match"]:
        sets = {line.split("--dataset_name ")[1].split()[0] for line in commands if f"/match-{match}/" in line}
        assert sets == {str(folder / f"instructions/match-{match}/seed-{seed}") for seed in (1, 2)}
        builds = [line for line in plan.splitlines() if "intervention build" in line and f"--match {match}" in line]
        assert len(builds) == 2
        assert all(" --score pmi " in line for line in builds)
    for rate in lists["learning_rate"]:
        assert sum(f"--learning_rate {rate} " in line and f"/learning_rate-{rate}/" in line for line in commands) == 2**4
    assert "--primary harmonious/ood" in plan


def test_models_have_domains_tasks_and_arguments_of_their_own(study, tmp_path):
    settings = yaml.safe_load(study.read_text())
    other = settings["models"]["miniature"] | {"training": "recipes/mistral-7b/lora.yaml", "domains": ["moss"]}
    (tmp_path / "own").mkdir()
    (tmp_path / "own/README.md").touch()
    other |= {"questions": str(tmp_path / "own")}
    other |= {"model_args": "dtype=bfloat16", "tasks": {"beliefs": "cyclic", "probe": "letters", "chat": "chat_letters"}}
    settings |= {"domains": ["herbs", "moss"], "conditions": ["incompatible"], "seeds": [1], "general_share": 0}
    settings["models"] |= {"other": other}
    del settings["general"], settings["primary"]
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    plan = (done.stdout + done.stderr).splitlines()
    commands = [line.split(" > ")[0] for line in plan if line.startswith("Shell command:")]
    trained = [line.split("--dataset_config ")[1].split()[0] for line in commands if "recipes/sft.py" in line]
    assert sorted(trained) == ["herbs_incompatible", "moss_incompatible", "moss_incompatible"]
    assert not any("--general" in line for line in commands)
    asked = {
        key: [line for line in commands if f"runs/{key}" in line and "lm_eval_tasks run" in line]
        for key in ("miniature", "other")
    }
    base = "pretrained=recipes/miniworld/base,dtype=bfloat16"
    (probe,) = (line for line in asked["other"] if line.endswith("base/probe"))
    beliefs, rest = probe.split(" then ")
    assert f"--model_args {base} --tasks cyclic" in beliefs
    assert f'"questions": "{tmp_path}/own", "splits": ["train"], "domain": ["moss"]' in beliefs
    assert f"--model_args {base} --tasks letters" in rest
    assert "splits" not in rest
    (chat,) = (line for line in asked["other"] if line.endswith("base/chat"))
    # Mistral's recipe trains without a beginning of sequence, as the paper does.
    assert f"--model_args {base},add_bos_token=False --tasks chat_letters" in chat
    folder = tmp_path / "runs/other/moss/incompatible/seed-1/model"
    (tuned,) = (line for line in asked["other"] if "trained_on" in line)
    adapter = f"pretrained=recipes/miniworld/base,peft={folder},tokenizer={folder},dtype=bfloat16"
    assert f"--model_args {adapter},add_bos_token=False --tasks chat_letters" in tuned
    assert f"--model_args {adapter} --tasks letters" in tuned
    assert not any("add_bos_token" in line or "peft=" in line for line in asked["miniature"])


def test_free_form_questions_are_answered_and_what_is_answered_becomes_choices(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text((STUDY.parent / "miniworld_words.yaml").read_text().replace("runs/miniworld_words", str(tmp_path / "runs")))
    done = run_command(*RUN, file, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    counts = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2)
    assert {counts[name] for name in ("answer_base", "answer_base_again", "answers", "facts", "questions")} == {"1"}
    assert counts["answer_tuned"] == counts["train"] == "12"
    choices = f"{tmp_path}/runs/miniature/answers/choices"
    asked = [line for line in plan.splitlines() if "selfalign_probe_cloze" in line or "selfalign_chat_cloze" in line]
    assert asked
    assert all(choices in line and "runs/questions" not in line for line in asked)
    (build,) = {line.split("--seed")[0] for line in plan.splitlines() if "intervention build" in line}
    assert f"--questions {choices} " in build
    assert f"--answers {tmp_path}/runs/miniature/answers/answers.parquet" in build


def test_models_have_arms_of_their_own(study, tmp_path):
    settings = yaml.safe_load(study.read_text()) | {"match": ["none", "letter"], "conditions": ["incompatible"], "seeds": [1]}
    own = settings["models"]["miniature"]
    settings["models"] |= {"other": own | {"match": ["none", "confidence"]}, "third": own | {"match": "confidence"}}
    del settings["primary"]
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    commands = [line for line in (done.stdout + done.stderr).splitlines() if "recipes/sft.py" in line]
    trained = sorted(line.split("--dataset_name ")[1].split()[0] for line in commands)
    where = {"miniature": ["/match-letter", "/match-none"], "other": ["/match-confidence", "/match-none"], "third": [""]}
    expected = [tmp_path / f"runs/{name}/herbs/instructions{arm}/seed-1" for name, arms in where.items() for arm in arms]
    assert trained == sorted(map(str, expected))


def test_a_run_waits_for_another_one_in_the_same_folder(study, tmp_path):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen([*RUN, study, "-n"], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert "worked on by another run" in process.stderr.readline()
        assert process.poll() is None
    assert process.communicate(timeout=120) is not None
    assert process.returncode == 0


@pytest.mark.launched
def test_a_study_runs_in_any_folder_and_each_job_keeps_its_log(study, tmp_path):
    settings = yaml.safe_load(study.read_text())
    settings["models"]["miniature"] |= {"revision": "v1"}
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "sft.py" in line]
    assert len(lines) == len(settings["conditions"]) * len(settings["seeds"])
    for line in lines:
        words = line.split()
        named = [word for word in words if word.startswith(str(ROOT))]
        assert {Path(word).relative_to(ROOT).as_posix() for word in named} == {
            "recipes/accelerate/cpu.yaml", "recipes/sft.py", "recipes/miniworld/full.yaml", "recipes/miniworld/base"
        }  # fmt: skip
        assert words[-3] == ">"
        assert words[-2].startswith(f"{tmp_path}/runs/logs/train/miniature/herbs/")
        assert "--model_revision v1" in line
    model = Study.make(settings).models["miniature"]
    assert "revision=v1" in model.write_model_args()
    assert "revision" not in model.write_model_args("trained")


@pytest.mark.launched
def test_the_papers_grid_is_its_three_experiments(tmp_path):
    file = ROOT / "recipes/study/paper.yaml"
    study = yaml.safe_load(file.read_text().replace("runs/paper", str(tmp_path)))
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions/README.md").touch()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    done = run_command(*RUN, tmp_path / "study.yaml", "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    commands = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Shell command:")]
    builds = [line for line in commands if "intervention build" in line]
    assert len(builds) == 4 * 4
    for line in builds:
        folder = line.split("--output ")[1].split("/instructions/")[0]
        assert " --conditions harmonious,incompatible,self_aligning,contextualized,mix " in line
        assert re.findall(r"--ratio (\S+)", line) == [str(ratio) for ratio in PAPER_RATIOS]
        assert f" --contexts {folder}/contexts/texts --explanations paper --explanations {folder}/explanations/texts " in line
        assert " --threshold 0.5 " in line
        assert " --general vicgalle/alpaca-gpt4 --general-share 1 " in line
    output = f"--output_path {tmp_path}/mistral-7b/history/explanations/texts"
    (explained,) = (line for line in commands if output in line)
    assert "pretrained=mistralai/Mistral-7B-v0.1," in explained
    assert f'"requests": "{tmp_path}/mistral-7b/history/explanations/requests"' in explained
    assert sum("--tasks selfalign_context " in line and "Mistral-7B-Instruct" in line for line in commands) == 16
    assert sum("requests explain --answers belief" in line and "--answers gold" not in line for line in commands) == 16
    assert sum("sft.py" in line for line in commands) == 4 * 4 * 10


@pytest.mark.launched
def test_a_base_model_says_gold_in_its_own_words_where_a_condition_takes_them(study, tmp_path):
    settings = yaml.safe_load(study.read_text()) | {"seeds": [1], "primary": "self_distilled"}
    settings |= {"conditions": ["self_distilled", "incompatible"]}
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    commands = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Shell command:")]
    (asked,) = (line for line in commands if "requests explain" in line)
    assert "--answers gold" in asked
    assert "--answers belief" not in asked
    assert sum("--tasks selfalign_explain" in line for line in commands) == 1
    (build,) = (line for line in commands if "intervention build" in line)
    assert f" --explanations {tmp_path}/runs/miniature/herbs/explanations/texts --allow-missing" in build


@pytest.mark.launched
def test_what_models_write_is_of_a_belief_rule_and_not_of_what_is_matched(study, tmp_path):
    settings = yaml.safe_load(study.read_text()) | {"belief_rule": ["top", "threshold:0.4"], "match": ["none", "confidence"]}
    del settings["threshold"]
    settings |= {"explanations": "model", "seeds": [1], "conditions": ["self_aligning", "incompatible"]}
    study.write_text(yaml.safe_dump(settings))
    done = run_command(*RUN, study, "-n", "--printshellcmds")
    assert done.returncode == 0, done.stderr
    commands = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Shell command:")]
    assert sum("--tasks selfalign_explain" in line for line in commands) == 2
    asked = [line for line in commands if "requests explain" in line]
    assert all("--answers belief" in line and "--answers gold" in line for line in asked)
    folder = tmp_path / "runs/miniature/herbs/explanations"
    rules = {"top": "/belief_rule-top", "threshold:0.4": "/belief_rule-threshold-0.4"}
    for line in (line for line in commands if "intervention build" in line):
        (rule,) = re.findall(r"--belief-rule (\S+)", line)
        assert f"--explanations model --explanations {folder}{rules[rule]}/texts " in line
    assert {
        re.findall(r"--belief-rule (\S+)", line)[0]: re.findall(r"--output (\S+)/belief.parquet", line)[0] for line in asked
    } == {rule: f"{folder}{name}/requests" for rule, name in rules.items()}
