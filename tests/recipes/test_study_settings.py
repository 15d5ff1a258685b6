"""The study file: all that is wrong with it is said at once."""

import sys

import polars as pl
import pytest
import yaml
from conftest import ROOT, run_command

from analysis.reading.arms import VARIED, name_arms
from recipes.study.problems import list_problems
from recipes.study.settings import ARMS, list_arms

STUDY = ROOT / "recipes/study/miniworld.yaml"
RUN = (sys.executable, "-m", "recipes.study")


def test_the_report_tells_apart_what_a_study_can_vary():
    assert {name for names in VARIED for name in names} == {*ARMS}
    runs = pl.DataFrame({"base": ["llama"] * 2, "domain": ["herbs"] * 2})
    for name in ARMS:
        value = "length" if name in ("belief_rule", "match") else 0.25
        assert len({*name_arms(runs, [{"config": {}}, {"config": {name: value}}])}) == 2, name


def test_no_folder_is_added_where_nothing_varies():
    assert list_arms({"match": "letter", "learning_rate": [0.001]}) == {"": {"match": "letter", "learning_rate": 0.001}}


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
        ({"contexts": None}, ["has None for contexts, which is a file, or the model that"]),
        ({"learning_rate": [0.1, 0], "until_fit": 2}, ["has [0.1, 0] for learning_rate", "has 2 for until_fit, which is a sh"]),
        ({"token_mask_threshold": 1, "kl_to_base": 0}, ["has 1 for token_mask_threshold, which", "has 0 for kl_to_base"]),
        (
            {"worlds": [3, 3], "free_form": True},
            [
                "names 3 several times in worlds",
                "names worlds, and general, which each",
                "no pretraining of a base in models.m",
            ],
        ),
        (
            {"worlds": [3], "world": None, "pretraining": "p.yaml"},
            ["names worlds, and base in models.miniature, which each world"],
        ),
        ({"learning_rate": [0.1, 0.1]}, ["names 0.1 several times in learning_rate"]),
        ({"until_fit": 0.9, "until_loss": 0.5}, ["two ends of one run"]),
        ({"conditions": ["self_distilled"], "explanations": "model"}, ["self_distilled and explanations: model, by which all"]),
        ({"conditions": ["self_distilled"], "free_form": True}, ["self_distilled of free-form questions, which nobody"]),
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
        ({"explanations": True}, ["has True for explanations, which is one of paper, model"]),
        (
            {"contexts": {"base": "x"}},
            ["for contexts, which is a file, or the model that writes them: a mapping with"],
        ),
        ({"resources": {"train": {"gpus": 8}}}, ["for resources, which is what train and ask take: a mapping of each to gpu"]),
        ({"models": {"report": {}}}, ["has a model named report, which is a folder of the study's own"]),
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


def test_two_models_of_one_name_are_refused(study):
    text = study.read_text()
    model = text[text.index("  miniature:") : text.index("domains:")]
    study.write_text(text.replace("domains:", f"{model}domains:", 1))
    done = run_command(*RUN, study, "--check")
    assert done.returncode == 2
    assert "'miniature' stands twice" in done.stderr
