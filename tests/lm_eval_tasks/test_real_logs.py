"""The reader on what lm-eval itself writes: the shipped base asked in every order, chosen questions, and damaged copies."""

import gzip
import json
import shutil
import sys

import polars as pl
import pytest
from conftest import BASE, run_command
from pack import run
from polars.testing import assert_frame_equal

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_orders
from lm_eval_tasks.contracts.logs.samples import read_probes

CYCLIC, PROBE = "selfalign_miniworld_probe_cyclic", "selfalign_miniworld_probe"


@pytest.fixture(scope="module")
def output(questions, share_folder):
    """`limit`: three questions in all orders, and in the plain probe 12; `chosen`: two questions by lm-eval's --samples."""
    metadata = json.dumps({"questions": str(questions), "domain": "herbs"})
    model = ["--model", "hf", "--model_args", f"pretrained={BASE}", "--device", "cpu", "--batch_size", "16"]
    chosen = json.dumps({CYCLIC: [4, 5, 6, 7, 20, 21, 22, 23]})

    def make(folder):
        words = [*model, "--metadata", metadata, "--log_samples"]
        limit = [*words, "--tasks", f"{CYCLIC},{PROBE}", "--limit", "12", "--output_path", folder / "limit"]
        run(*limit, "then", *words, "--tasks", CYCLIC, "--samples", chosen, "--output_path", folder / "chosen")

    return share_folder("lm_eval_tasks_cyclic", make)


@pytest.fixture
def copy(output, tmp_path):
    """A copy to damage: the log of the cyclic task, and lm-eval's result file beside it."""
    log = find(shutil.copytree(output / "limit", tmp_path / "copy"), CYCLIC)
    return log, next(log.parent.glob("results_*.json"))


def find(folder, task):
    return next(folder.rglob(f"samples_{task}_2*.jsonl"))


def test_a_row_an_order_says_of_each_choice_what_the_model_said_of_its_letter(output):
    log = find(output / "limit", CYCLIC)
    table = read_probes(log)
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    assert table.height == len(samples) == 12
    assert sorted(table["order"]) == [order for order in range(4) for _ in range(3)]
    for row, sample in zip(table.to_dicts(), samples, strict=True):
        said = dict(zip(sample["doc"]["choices"], (float(value) for value, _ in sample["filtered_resps"]), strict=True))
        assert [said[choice] for choice in row["choices"]] == row["loglikelihoods"]
        assert sample["doc"]["choices"][sample["doc"]["answer"]] == row["choices"][row["answer"]]
    assert table.group_by("id").agg(pl.col("choices", "answer", "question_hash").n_unique()).select(
        pl.col("choices", "answer", "question_hash").max()
    ).row(0) == (1, 1, 1)


def test_the_average_is_what_lm_eval_reports(output):
    for name in ("limit", "chosen"):
        log = find(output / name, CYCLIC)
        results = json.loads(next(log.parent.glob("results_*.json")).read_text())["results"][CYCLIC]
        averaged = average_orders(read_probes(log))
        assert averaged["correct"].mean() == pytest.approx(results["acc,none"])
        assert averaged["confidence"].mean() == pytest.approx(results["confidence,none"])
        assert averaged["choice_mass"].mean() == pytest.approx(results["choice_mass,none"])
        assert averaged["orders"].to_list() == [4] * averaged.height


def test_a_packed_copy_reads_alike_and_a_cut_one_is_named(copy):
    log, _ = copy
    table = read_probes(log)
    packed = log.with_name(f"{log.name}.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert read_probes(packed).equals(table)
    packed.write_bytes(packed.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"jsonl\.gz is cut or damaged"):
        read_probes(packed)


def test_lines_that_are_lost_are_found(copy):
    log, results = copy
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"holds 11 samples, but results_.* counts 12 \(the last doc_id is 10\)"):
        read_probes(log)
    log.write_text("".join(lines[:5] + lines[6:]))
    with pytest.raises(UserError, match=r"holds 11 samples, but results_.* counts 12 \(doc_id 5 is missing\)"):
        read_probes(log)
    results.unlink()
    with pytest.raises(UserError, match="doc_id 5 is missing, so the log has a gap"):
        read_probes(log)
    log.write_text("".join(lines[:10]))  # as a --limit of 10 would be
    with pytest.raises(UserError, match=r"in 2 of the 4 orders of its choices \(order 2 is missing\)"):
        average_orders(read_probes(log))


def test_chosen_questions_are_whole_by_the_result_file_alone(output, tmp_path):
    log = find(output / "chosen", CYCLIC)
    assert read_probes(log)["id"].n_unique() == 2
    alone = shutil.copy(log, tmp_path)
    with pytest.raises(UserError, match=r"doc_id 0 is missing.*\(--samples\), keep lm-eval's results_\*\.json beside the log"):
        read_probes(alone)


def test_mixed_tasks_are_named(output, copy):
    # The plain probe asks of each question what the cyclic one asks in order 0, but the letters' task scores other words.
    log, _ = copy
    probe = find(log.parent, PROBE)
    assert set(read_probes(log.parent)["scoring"]) == {"letter", "cloze"}
    other = log.with_name("samples_joined.jsonl")
    other.write_text(log.read_text() + probe.read_text())
    with pytest.raises(UserError, match=f"mixed tasks: line 1 is a sample of {CYCLIC}, line 13 of {PROBE}"):
        read_probes(other)
    other.unlink()
    probe.write_text(log.read_text().replace(CYCLIC, PROBE))
    with pytest.raises(UserError, match=f"mixed tasks: .* id '.*' in phase base_probe by .*{PROBE}"):
        read_probes(log.parent)


def test_the_table_command_averages(output, tmp_path):
    log = find(output / "limit", CYCLIC)
    done = run_command(
        sys.executable, "-m", "lm_eval_tasks", "table", log, "--average", "--output", tmp_path / "probes.parquet"
    )
    assert done.returncode == 0, done.stderr
    assert "3 probes of 1 task(s)" in done.stderr
    written = pl.read_parquet(tmp_path / "probes.parquet")
    assert_frame_equal(written, average_orders(read_probes(log)), rel_tol=1e-12, abs_tol=1e-12)  # a mean in another order
    assert written["order"].null_count() == 3
