"""The study file and its workflow, as far as a plan goes; `make demo` runs the whole."""

import fcntl
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, run_command

from analysis.reading.arms import VARIED
from recipes.study.settings import ARMS, list_arms, list_problems

STUDY = ROOT / "recipes/study/miniworld.yaml"
RUN = (sys.executable, "-m", "recipes.study")


@pytest.fixture
def study(tmp_path):
    """The shipped study, with its outputs elsewhere."""
    text = STUDY.read_text().replace("runs/miniworld", str(tmp_path / "runs"))
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_the_plan_names_every_run(study):
    done = run_command(*RUN, study, "-n")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in plan.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    settings = yaml.safe_load(STUDY.read_text())
    runs = len(settings["conditions"]) * len(settings["seeds"])
    assert runs == 30
    once = dict.fromkeys(("world", "questions", "probe_base", "probe_again", "chat_base", "report"), 1)
    # A set a seed, so that the draw of questions varies with it.
    assert counts | once | {"train": runs, "ask_tuned": runs, "build": len(settings["seeds"])} == counts


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
    commands = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Shell command:")]
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


def test_the_report_tells_apart_what_a_study_can_vary():
    assert {name for names in VARIED for name in names} == {*ARMS}


def test_no_folder_is_added_where_nothing_varies():
    assert list_arms({"match": "letter", "learning_rate": [0.001]}) == {"": {"match": "letter", "learning_rate": 0.001}}


def test_a_run_waits_for_another_one_in_the_same_folder(study, tmp_path):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen([*RUN, study, "-n"], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert "worked on by another run" in process.stderr.readline()
        assert process.poll() is None
    assert process.communicate(timeout=120) is not None
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("- a", "holds no settings"), ("output: x", "lacks questions, models")]
)
def test_a_study_file_that_lacks_something_is_named(tmp_path, text, message):
    file = tmp_path / "study.yaml"
    if text:
        file.write_text(text)
    done = run_command(*RUN, file)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"thresold": 0.4}, ["has no setting 'thresold' (is 'threshold' meant?)"]),
        ({"seeds": 3, "size": "256"}, ["has 3 for seeds, which is a list of whole numbers", "has '256' for size"]),
        ({"conditions": ["harmonius", "mix", "mix-2"]}, ["condition 'harmonius' (is 'harmonious' meant?)", "mix-0.4", "mix-2"]),
        ({"seeds": [1, 1], "domains": ["a", "a"]}, ["names 1 several times in seeds", "names a several times in domains"]),
        (
            {"models": {"a": {"base": "x", "trainig": "y"}}},
            ["'trainig' (is 'training' meant?) in models.a", "lacks models.a.tr"],
        ),
        (
            {"models": {"a": {"domains": ["bogs"], "tasks": {"probe": "x"}}}},
            ["domain bogs in models.a", "lacks models.a.tasks.chat"],
        ),
        ({"general": None}, ["has None for general, which is text"]),
        ({"models": {"a": "x"}}, ["has 'x' for models.a, which is a mapping with base, training"]),
        ({"tasks": {"prob": "x", "chat": "y"}}, ["'prob' (is 'probe' meant?) in tasks", "lacks tasks.probe"]),
        ({"contexts": None}, ["has None for contexts, which is text"]),
        ({"learning_rate": [0.1, 0], "until_fit": 2}, ["has [0.1, 0] for learning_rate", "has 2 for until_fit, which is a sh"]),
        ({"learning_rate": [0.1, 0.1]}, ["names 0.1 several times in learning_rate"]),
        ({"until_fit": 0.9, "until_loss": 0.5}, ["two ends of one run"]),
        ({"primary": ["gold"]}, ["has ['gold'] for primary, which is text"]),
        ({"primary": "harmonious/seen/tuned_probe"}, ["'tuned_probe' is no phase of tuned_chat"]),
        ({"match": "letters"}, ["has 'letters' for match, which is none, or of letter, confidence, rotation, length j"]),
        ({"threshold": None, "belief_rule": ["threshold", "threshold:0.5"]}, ["names threshold:0.5 several times in belief_r"]),
        (
            {"models": {"a": {"match": ["none", "none"], "belief_rule": "top"}}, "threshold": 0.5},
            ["names none several times in match in models.a", "names threshold and belief_rule in models.a: write"],
        ),
        ({"questions": None, "models": {"a": {"questions": "q"}, "b": {}}}, ["has None for questions, which is text"]),
        ({"match": "letter", "tasks": {"probe": "p_cloze", "chat": "c"}}, ["matches letter, where p_cloze shows no letters"]),
        (
            {"models": {"a": {"match": ["none", "letter+confidence"], "tasks": {"probe": "p_cloze", "chat": "c"}}}},
            ["matches letter+confidence in models.a, where p_cloze shows no letters (match confidence or none"],
        ),
        ({"free_form": True}, ["asks free-form questions, whose answers are scored as whole texts: name tasks that do"]),
        ({"free_form": "yes"}, ["has 'yes' for free_form, which is true or false"]),
        ({"score": "pmy"}, ["has 'pmy' for score, which is one of sum, per_character, pmi"]),
        ({"models": {"a": {"score": 3}}}, ["has 3 for models.a.score, which is one of sum, per_character, pmi"]),
        ({"primary": "gold"}, ["names the primary contrast gold and not the condition gold"]),
        ({"primary": "harmonious/hom"}, ["is no evaluation set of homo"]),
        ({"world": "w", "threshold": True}, ["has True for threshold, which is a number from 0 to 1"]),
    ],
)
def test_all_that_is_wrong_with_a_study_file_is_said_at_once(change, messages):
    problems = "; it ".join(list_problems(yaml.safe_load(STUDY.read_text()) | change))
    for message in messages:
        assert message in problems


def test_every_model_has_questions_of_its_own_or_the_study_s():
    study = yaml.safe_load(STUDY.read_text())
    own = study["models"]["miniature"]
    del study["questions"]
    study["models"] = {"a": own | {"questions": "q"}, "b": own}
    assert list_problems(study) == ["names no questions, neither for all nor in models.b"]
    del study["models"]["b"]
    assert not list_problems(study)


def test_contexts_and_the_condition_that_takes_them_come_together():
    study = yaml.safe_load(STUDY.read_text())
    assert not list_problems(study)
    del study["world"]
    assert not list_problems(study)
    assert "no condition that takes them" in list_problems(study | {"conditions": ["gold"]})[0]
    del study["contexts"]
    assert "contextualized and no contexts" in list_problems(study)[0]
