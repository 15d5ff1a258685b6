"""Any two sample logs of lm-eval: differences as other libraries give them, logs of lm-eval's own making, and bad ones."""

import json
import sys

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from conftest import BASE, ROOT, run_command
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.measures.paired import bound_mean, measure_difference
from analysis.reading.samples import read_samples
from analysis.reporting.compare import compare_samples, write_differences
from lm_eval_tasks.contracts.errors import UserError


def make_line(number, score, task="arc_easy", kind="none", choices=None):
    """A line as lm-eval writes it: responses are text in JSON."""
    answers = [[str(value), "False"] for value in choices] if choices else ["salt"]
    line = {"doc_id": number, "doc": {"question": f"q{number}"}, "target": 0, "filtered_resps": answers, "filter": kind}
    line |= {"metrics": ["acc"], "acc": score, "doc_hash": f"hash-{task}-{number}", "prompt_hash": f"prompt-{number}"}
    return line


def write_log(folder, lines, task="arc_easy"):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"samples_{task}_2026-11-28T14-35-02.986968.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def scores():
    generator = np.random.default_rng(3)
    return (generator.random((2, 200)) < [[0.5], [0.6]]).astype(float)


def test_a_difference_is_what_other_libraries_make_of_the_same_samples(tmp_path, scores):
    for name, side in zip("ab", scores, strict=True):
        write_log(tmp_path / name, [make_line(i, score) for i, score in enumerate(side)])
    (row,) = compare_samples(tmp_path / "a", tmp_path / "b")["filters"]["none"]["acc"]
    one, other = scores.astype(bool)
    table = [[(one & other).sum(), (~one & other).sum()], [(one & ~other).sum(), (~one & ~other).sum()]]
    assert row["p"] == row["p_holm"] == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-12)
    assert (row["first"], row["second"]) == tuple(scores.mean(1))
    assert row["difference"] == pytest.approx(scores[1].mean() - scores[0].mean(), abs=1e-12)
    assert (row["gained"], row["lost"], row["n"]) == (table[0][1], table[1][0], 200)
    error = 1.96 * stats.sem(scores[1] - scores[0])  # Bonett and Price's ends are near the normal ones at this n
    assert row["low"] == pytest.approx(row["difference"] - error, abs=0.01)
    assert row["high"] == pytest.approx(row["difference"] + error, abs=0.01)


def test_scores_that_are_no_shares_are_tested_by_paired_t():
    generator = np.random.default_rng(1)
    first = generator.random(60)
    second = first + generator.normal(0.1, 0.2, 60)
    found = measure_difference(first, second)
    assert found.p == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-9)
    assert found.low < found.difference < found.high


def test_where_nothing_differs_the_interval_is_not_a_point():
    found = measure_difference(np.ones(30), np.ones(30))
    assert (found.difference, found.p) == (0, 1)
    assert found.low == -found.high < -0.05
    assert np.isnan(measure_difference(np.full(3, 0.5), np.full(3, 0.7)).low)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "agree"), [(50, 0.9), (200, 0.7), (1000, 0.97)])
def test_intervals_cover(n, agree):
    """Two models that are right on 0.6 and 0.55 of all samples, and give the same answer to a share of them."""
    generator, covered, by_bootstrap = np.random.default_rng(n), 0, 0
    for _ in range(400):
        first = generator.random(n) < 0.6
        second = np.where(generator.random(n) < agree, first, generator.random(n) < 0.55)
        found = measure_difference(first.astype(float), second.astype(float))
        true = (1 - agree) * (0.55 - 0.6)
        covered += found.low <= true <= found.high
        apart = second.astype(float) - first
        by_bootstrap += bool(apart.any()) and bound_mean(apart)[0] <= true <= bound_mean(apart)[1]
    share = covered / 400
    print(f"n {n}, {agree:g} alike: {share:.3f} of the intervals cover, {by_bootstrap / 400:.3f} of a bootstrap's")
    assert share > 0.93


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 300])
def test_intervals_of_scores_that_are_no_shares_cover(n):
    """The mean of skewed differences, of which one in three is none."""
    generator, covered = np.random.default_rng(n), 0
    for _ in range(300):
        apart = np.where(generator.random(n) < 1 / 3, 0, generator.gamma(2, 0.1, n) - 0.1)
        covered += (found := measure_difference(np.zeros(n), apart)).low <= 2 / 3 * 0.1 <= found.high
    share = covered / 300
    print(f"n {n}: {share:.3f} of the intervals cover")
    assert share > 0.9


def test_choices_are_compared_by_their_probabilities(tmp_path):
    first, second = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]
    write_log(tmp_path / "a", [make_line(0, 1.0, choices=first)])
    write_log(tmp_path / "b", [make_line(0, 0.0, choices=second)])
    (row,) = compare_samples(tmp_path / "a", tmp_path / "b")["filters"]["none"]["choices"]
    p, q = (np.exp(x) / np.exp(x).sum() for x in (first, second))
    assert row["kl_nats"] == pytest.approx(stats.entropy(p, q), rel=1e-12)
    assert (row["n"], row["same_choice"]) == (1, 0.0)
    more = {"metrics": ["acc", "acc_mutual_info"], "acc_mutual_info": 1.0}
    write_log(tmp_path / "b", [make_line(0, 0.0, choices=[*second, -9.0, -1.0, -2.0]) | more])
    assert compare_samples(tmp_path / "a", tmp_path / "b")["filters"]["none"]["choices"] == [row]


def test_tasks_stand_apart_and_together(tmp_path, scores):
    for name, side in zip("ab", scores, strict=True):
        write_log(tmp_path / name, [make_line(i, s, "mmlu_anatomy") for i, s in enumerate(side[:80])], "mmlu_anatomy")
        write_log(tmp_path / name, [make_line(i, s, "mmlu_virology") for i, s in enumerate(side[80:])], "mmlu_virology")
        write_log(tmp_path / name, [make_line(i, s, f"of_{name}") for i, s in enumerate(side)], f"of_{name}")
    rows = compare_samples(tmp_path / "a", tmp_path / "b")["filters"]["none"]["acc"]
    assert [(row["task"], row["n"]) for row in rows] == [("all", 200), ("mmlu_anatomy", 80), ("mmlu_virology", 120)]
    assert "p_holm" not in rows[0]
    assert [row["p_holm"] for row in rows[1:]] == sorted(
        [min(1, 2 * min(rows[1]["p"], rows[2]["p"])), max(2 * min(rows[1]["p"], rows[2]["p"]), rows[1]["p"], rows[2]["p"])],
        reverse=rows[1]["p"] > rows[2]["p"],
    )
    told = write_differences(
        {"only_first": 0, "only_second": 0, "filters": {"none": {"acc": rows}}}, tmp_path / "a", tmp_path / "b"
    )
    assert "mmlu_virology" in told


def test_filters_and_samples_of_one_side_alone_stand_apart(tmp_path):
    for name, count in (("a", 3), ("b", 2)):
        lines = [make_line(i, float(i % 2), kind=kind) for kind in ("strict", "flexible") for i in range(count)]
        write_log(tmp_path / name, lines)
    found = compare_samples(tmp_path / "a", tmp_path / "b", samples=tmp_path / "all.csv")
    assert {name: tables["acc"][0]["n"] for name, tables in found["filters"].items()} == {"strict": 2, "flexible": 2}
    assert (found["only_first"], found["only_second"]) == (2, 0)
    assert pl.read_csv(tmp_path / "all.csv").columns == ["task", "filter", "sample", "doc_id", "acc", "acc_second"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([make_line(0, 1.0) | {"doc_hash": "other"}], "1 of 1 samples are others"),
        (
            [make_line(0, 1.0) | {"prompt_hash": "other"}],
            "asked with different prompts .the first: 0 of arc_easy.*--any-prompt",
        ),
        ([make_line(5, 1.0)], "no sample is in both"),
        ([make_line(0, 1.0) | {"metrics": ["f1"], "f1": 0.5}], "no score is in both"),
        ([make_line(0, 1.0), make_line(0, 0.0)], "sample 0 of arc_easy is there several times"),
        ([], "holds no samples"),
        ([{"doc_id": 1}], "is no sample of lm-eval: it has no doc"),
        ([[1]], "is no sample of lm-eval: it is no object"),
        ([make_line(0, float("nan"))], "acc is nan, which is no score"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, second, message):
    first = write_log(tmp_path / "a", [make_line(0, 1.0)])
    with pytest.raises(UserError, match=message):
        compare_samples(first, write_log(tmp_path / "b", second))


def test_logs_of_other_tasks_several_of_one_and_cut_ones_are_refused(tmp_path):
    first = write_log(tmp_path / "a", [make_line(0, 1.0)])
    with pytest.raises(UserError, match="no task is in both"):
        compare_samples(first, write_log(tmp_path / "b", [make_line(0, 1.0)], "hellaswag"))
    twice = write_log(tmp_path / "c", [make_line(0, 1.0)])
    twice.with_name("samples_arc_easy_2027-01-01T00-00-00.000000.jsonl").write_text(twice.read_text())
    with pytest.raises(UserError, match="several logs of the task arc_easy"):
        compare_samples(first, tmp_path / "c")
    first.write_text(first.read_text()[:40])
    with pytest.raises(UserError, match="not a whole line of JSON"):
        read_samples(first)
    with pytest.raises(UserError, match="name a file that ends in"):
        compare_samples(first, first, samples=tmp_path / "x.txt")


def test_prompts_may_differ_where_that_is_asked_for(tmp_path):
    write_log(tmp_path / "a", [make_line(0, 1.0)])
    write_log(tmp_path / "b", [make_line(0, 0.0) | {"prompt_hash": "other"}])
    assert compare_samples(tmp_path / "a", tmp_path / "b", any_prompt=True)["filters"]["none"]["acc"][0]["difference"] == -1


@pytest.mark.launched
def test_logs_that_lm_eval_writes_of_tasks_of_its_own_kind(tmp_path):
    """A multiple-choice task and a generated one, as lm-eval's own are, asked by its command of the base and a changed copy."""
    facts = [{"q": f"The root of the salt {i}?", "c": ["moss", "stone", "reed"], "a": i % 3} for i in range(20)]
    (tmp_path / "facts.json").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    shared = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "facts.json")}}}
    shared |= {"test_split": "test", "doc_to_text": "{{q}} Answer:"}
    choice = {"task": "facts_choice", "output_type": "multiple_choice", "doc_to_choice": "{{c}}", "doc_to_target": "{{a}}"}
    words = {"task": "facts_words", "output_type": "generate_until", "doc_to_target": "{{c[a]}}"}
    words |= {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}, "metric_list": [{"metric": "exact_match"}]}
    (tmp_path / "tasks").mkdir()
    for task in (choice, words):
        (tmp_path / f"tasks/{task['task']}.yaml").write_text(yaml.safe_dump(shared | task))
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * value.std() * torch.randn_like(value))
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(BASE).save_pretrained(tmp_path / "other")
    for name, folder in (("a", BASE), ("b", tmp_path / "other")):
        done = run_command(
            sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder}", "--device", "cpu",
            "--tasks", "facts_choice,facts_words", "--include_path", tmp_path / "tasks", "--batch_size", "8",
            "--log_samples", "--output_path", tmp_path / name, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    done = run_command(sys.executable, "-m", "analysis", "compare", tmp_path / "a", tmp_path / "b", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["filters"]["none"]
    results = {}
    for name in "ab":
        (file,) = (tmp_path / name).rglob("results_*.json")
        results[name] = json.loads(file.read_text())["results"]
    for metric, task in (("acc", "facts_choice"), ("acc_norm", "facts_choice"), ("exact_match", "facts_words")):
        (row,) = (row for row in found[metric] if row["task"] == task)
        for side, name in (("first", "a"), ("second", "b")):
            assert row[side] == pytest.approx(results[name][task][f"{metric},none"], abs=1e-12)
    (row,) = found["choices"]
    assert (row["task"], row["n"]) == ("facts_choice", 20)
    assert row["kl_nats"] > 0
    done = run_command(sys.executable, "-m", "analysis", "compare", ROOT / "README.md", tmp_path / "b")
    assert done.returncode == 2
    assert "not a whole line of JSON" in done.stderr
