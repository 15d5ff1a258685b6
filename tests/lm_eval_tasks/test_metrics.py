"""The result table, against scikit-learn and plain sums over what the logs hold."""

import json
import math
import pickle

import numpy as np
import polars as pl
import pytest
from conftest import BASE
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.questions import rotate_choices
from lm_eval_tasks.metrics import (
    average_acc,
    average_acc_stderr,
    average_brier,
    average_confidence,
    average_ece,
    join_orders,
    log_probe,
    log_rotated_probe,
    measure_ece,
    measure_letter_skew,
)
from lm_eval_tasks.running.harness import run_harness

TASKS = ("selfalign_miniworld_probe", "selfalign_miniworld_probe_letter", "selfalign_miniworld_probe_cyclic")


@pytest.fixture(scope="module")
def run(questions, share_folder):
    """The base model asked by texts, by letters, and by letters in every order: results and samples by task."""
    words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "16"]
    words += ["--tasks", ",".join(TASKS), "--limit", "22", "--metadata", json.dumps({"questions": str(questions)})]
    output = share_folder(
        "lm_eval_tasks_metrics", lambda folder: run_harness([*words, "--log_samples", "--output_path", str(folder)])
    )
    results = json.loads(next(output.rglob("results_*.json")).read_text())["results"]
    samples = {task: [json.loads(line) for line in next(output.rglob(f"samples_{task}_2*")).open()] for task in TASKS}
    return results, samples


def make_answers(n=400, choices=4, seed=0):
    """Docs, log-likelihoods, and their probabilities, (n, choices), and gold."""
    rng = np.random.default_rng(seed)
    loglikelihoods = np.log(rng.dirichlet(np.full(choices, 0.5), n)) - rng.exponential(1, (n, 1))
    gold = rng.integers(choices, size=n)
    docs = [make_doc(i, choices, gold[i]) for i in range(n)]
    probs = np.exp(loglikelihoods) / np.exp(loglikelihoods).sum(1, keepdims=True)
    return docs, loglikelihoods, probs, gold


def make_doc(number, choices, gold, order=0):
    names = {"source": "s", "domain": "d", "id": str(number), "task": "t"}
    return names | {"choices": [f"c{i}" * (i + 1) for i in range(choices)], "answer": int(gold), "order": order}


def answer(docs, loglikelihoods, log=log_probe):
    rows = [log(doc, [(value, False) for value in values]) for doc, values in zip(docs, loglikelihoods, strict=True)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def compute_ece(confidence, correct):
    """In plain words: bins (0, 1/15], (1/15, 2/15], ..."""
    total = 0.0
    for i in range(15):
        inside = [j for j in range(len(confidence)) if i / 15 < confidence[j] <= (i + 1) / 15]
        if inside:
            gap = np.mean([correct[j] for j in inside]) - np.mean([confidence[j] for j in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


@pytest.mark.parametrize("choices", [2, 4, 10])
def test_the_metrics_of_rows_are_those_of_scikit_learn(choices):
    docs, loglikelihoods, probs, gold = make_answers(choices=choices)
    metrics = answer(docs, loglikelihoods)
    prediction = probs.argmax(1)
    assert np.mean(metrics["acc"]) == pytest.approx(accuracy_score(gold, prediction))
    brier = brier_score_loss(gold, probs, labels=range(choices), scale_by_half=False)
    assert np.mean(metrics["brier"]) == pytest.approx(brier)
    assert np.mean(metrics["choice_mass"]) == pytest.approx(np.exp(loglikelihoods).sum(1).mean())
    assert measure_ece(metrics["ece"]) == pytest.approx(compute_ece(probs.max(1), prediction == gold))
    recalls = recall_score(gold, prediction, average=None)
    assert measure_letter_skew(metrics["letter_skew"]) == pytest.approx(np.std(recalls))


def test_letters_that_are_never_gold_have_no_recall():
    docs, loglikelihoods, probs, _ = make_answers()
    docs = [doc | {"answer": i % 2} for i, doc in enumerate(docs)]
    recalls = recall_score([i % 2 for i in range(400)], probs.argmax(1), labels=[0, 1], average=None)
    assert measure_letter_skew(answer(docs, loglikelihoods)["letter_skew"]) == pytest.approx(np.std(recalls))


def make_rotated(n=60, seed=1):
    """Each question in all orders, letters preferred at random; with the averages computed here."""
    rng = np.random.default_rng(seed)
    docs, loglikelihoods, averages, golds = [], [], [], []
    for number in range(n):
        choices = 4 + number % 2
        gold, own = rng.integers(choices), rng.normal(size=choices)
        average = np.zeros(choices)
        for order in range(choices):
            shown = np.roll(own, -order) + rng.normal(size=choices) - 2
            shown[0] += 2  # the model likes "A"
            docs.append(make_doc(number, choices, (gold - order) % choices, order))
            loglikelihoods.append(shown)
            average += np.roll(np.exp(shown) / np.exp(shown).sum(), order) / choices
        averages.append(average)
        golds.append(int(gold))
    return docs, loglikelihoods, averages, golds


def test_rotated_questions_are_averaged_by_choice_and_their_standard_error_is_over_questions():
    docs, loglikelihoods, averages, golds = make_rotated()
    metrics = answer(docs, loglikelihoods, log_rotated_probe)
    # What lm-eval gathers from several processes comes pickled, and in any order.
    metrics = {name: pickle.loads(pickle.dumps(rows))[::-1] for name, rows in metrics.items()}
    correct = [average.argmax() == gold for average, gold in zip(averages, golds, strict=True)]
    assert average_acc(metrics["acc"]) == pytest.approx(np.mean(correct))
    assert average_acc_stderr(metrics["acc_stderr"]) == pytest.approx(np.std(correct, ddof=1) / math.sqrt(60))
    assert average_acc_stderr(metrics["acc_stderr"]) > 1.5 * np.std(metrics["acc"], ddof=1) / math.sqrt(len(docs))
    confidence = [average.max() for average in averages]
    assert average_confidence(metrics["confidence"]) == pytest.approx(np.mean(confidence))
    assert average_ece(metrics["ece"]) == pytest.approx(compute_ece(confidence, correct))
    brier = [((average - np.eye(len(average))[gold]) ** 2).sum() for average, gold in zip(averages, golds, strict=True)]
    assert average_brier(metrics["brier"]) == pytest.approx(np.mean(brier))
    shown = [int(np.argmax(values)) for values in loglikelihoods]
    recalls = recall_score([doc["answer"] for doc in docs], shown, labels=range(5), average=None)
    assert measure_letter_skew(metrics["letter_skew"]) == pytest.approx(np.std(recalls))
    joined = {one.question: one for one in join_orders(metrics["acc"])}
    assert all(joined[f"s/d id '{i}'"].probs == pytest.approx(averages[i]) for i in range(60))


def test_a_question_that_lacks_an_order_is_left_out_of_the_table_and_said_to_be(caplog):
    docs, loglikelihoods, averages, golds = make_rotated(10)
    rows = answer(docs[1:], loglikelihoods[1:], log_rotated_probe)["acc"]
    assert average_acc(rows) == pytest.approx(np.mean([a.argmax() == g for a, g in zip(averages[1:], golds[1:], strict=True)]))
    assert "1 questions were not asked in all orders" in caplog.text


def test_a_number_that_is_not_finite_is_named():
    with pytest.raises(UserError, match="t, s/d id '7': the model gave the log-likelihoods"):
        log_probe(make_doc(7, 2, 0), [(-1.0, False), (math.nan, False)])
    with pytest.raises(UserError, match=r"t, s/d id '7': the model gave .* without the question"):
        log_probe(make_doc(7, 2, 0), [(-1.0, False), (-2.0, False), (-1.0, False), (-math.inf, False)])


def test_the_table_of_rows_is_that_of_the_log(run):
    results, samples = run
    for task in TASKS[:2]:
        docs = [sample["doc"] for sample in samples[task]]
        correct = [doc["prediction"] == doc["answer"] for doc in docs]
        table = results[task]
        assert (table["sample_len"], len(docs)) == (22, 22)
        assert table["acc,none"] == pytest.approx(np.mean(correct))
        assert table["acc_stderr,none"] == pytest.approx(np.std(correct, ddof=1) / math.sqrt(len(docs)))
        assert table["confidence,none"] == pytest.approx(np.mean([doc["confidence"] for doc in docs]))
        assert table["ece,none"] == pytest.approx(compute_ece([doc["confidence"] for doc in docs], correct))
        assert {"brier,none", "letter_skew,none", "choice_mass,none"} <= set(table)


def test_the_table_of_a_cyclic_task_is_about_whole_questions(run):
    results, samples = run
    table, rows = results[TASKS[2]], samples[TASKS[2]]
    assert len(rows) == 24  # 22 rows asked for, and what the last question lacks
    docs = pl.DataFrame([row["doc"] for row in rows])
    assert docs["order"].to_list() == [0, 1, 2, 3] * 6
    own = rotate_choices(docs, -pl.col("order"), ("choices", "probs"))
    assert own.group_by("id").agg(pl.col("choices").n_unique())["choices"].to_list() == [1] * 6
    means = np.stack([np.array(part["probs"].to_list()).mean(0) for part in own.partition_by("id", maintain_order=True)])
    gold = docs.filter(order=0)["answer"].to_numpy()
    correct = means.argmax(1) == gold
    assert table["acc,none"] == pytest.approx(correct.mean())
    assert table["acc_stderr,none"] == pytest.approx(np.std(correct, ddof=1) / math.sqrt(6))
    assert table["confidence,none"] == pytest.approx(means.max(1).mean())
    assert table["confidence_stderr,none"] == "N/A"
    assert all(isinstance(row["acc"], float) and isinstance(row["ece"], float) for row in rows)


def test_option_texts_are_also_scored_by_character_and_against_the_bare_cue(run):
    results, samples = run
    by_character, by_cue = [], []
    for sample in samples[TASKS[0]]:
        doc, n = sample["doc"], len(sample["doc"]["choices"])
        values = [float(response[0]) for response in sample["filtered_resps"]]
        requests = [
            (sample["arguments"][f"gen_args_{i}"]["arg_0"], sample["arguments"][f"gen_args_{i}"]["arg_1"]) for i in range(2 * n)
        ]
        assert requests[n:] == [("Answer:", f" {choice}") for choice in doc["choices"]]
        assert all(prompt.endswith(f"{doc['question']}\nAnswer:") for prompt, _ in requests[:n])
        assert doc["loglikelihoods"] == values[:n]
        lengths = [len(choice) for choice in doc["choices"]]
        assert doc["loglikelihoods_per_character"] == pytest.approx(np.array(values[:n]) / lengths)
        assert doc["loglikelihoods_pmi"] == pytest.approx(np.array(values[:n]) - values[n:])
        by_character.append(np.argmax(doc["loglikelihoods_per_character"]) == doc["answer"])
        by_cue.append(np.argmax(doc["loglikelihoods_pmi"]) == doc["answer"])
    assert results[TASKS[0]]["acc_per_character,none"] == pytest.approx(np.mean(by_character))
    assert results[TASKS[0]]["acc_pmi,none"] == pytest.approx(np.mean(by_cue))
    assert "loglikelihoods_pmi" not in samples[TASKS[1]][0]["doc"]
    assert "acc_pmi,none" not in results[TASKS[1]]


def test_probes_are_logged_where_no_metrics_are_wanted(questions, tmp_path):
    words = ["run", "--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--predict_only", "--limit", "4"]
    words += ["--tasks", "selfalign_miniworld_probe,selfalign_miniworld_probe_cyclic", "--log_samples"]
    run_harness([*words, "--metadata", json.dumps({"questions": str(questions)}), "--output_path", str(tmp_path)])
    docs = [json.loads(line)["doc"] for file in tmp_path.rglob("samples_*") for line in file.open()]
    assert len(docs) == 8
    assert all(sum(doc["probs"]) == pytest.approx(1) for doc in docs)
