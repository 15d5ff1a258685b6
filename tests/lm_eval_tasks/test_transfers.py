"""Batches are begun one ahead, and what a batch needs of a device does not grow with its rows."""

import pytest
import torch
from tiny import LLAMA, make_model
from transformers import LlamaConfig

from lm_eval_tasks.models.reader import TreeReader
from lm_eval_tasks.models.transfers import fetch, run_ahead, send
from lm_eval_tasks.models.tree import Input, PackedRow


def test_a_task_is_begun_before_the_one_ahead_is_ended():
    told = []

    def begin(task):
        told.append(f"begin {task}")
        return lambda: told.append(f"end {task}")

    assert list(run_ahead("abc", begin)) == ["a", "b", "c"]
    assert told == ["begin a", "begin b", "end a", "begin c", "end b", "end c"]


def test_tasks_before_one_that_fails_have_ended_or_are_not_told_of():
    def begin(task):
        if task == "c":
            raise RuntimeError("out of memory")
        return list

    found = []
    with pytest.raises(RuntimeError):
        found.extend(run_ahead("abcd", begin))
    assert found == ["a"]


def test_numbers_go_and_come_as_they_are():
    numbers = torch.arange(3)
    assert fetch(send(numbers, torch.device("cpu")))().tolist() == [0, 1, 2]


@pytest.mark.parametrize("branched", [False, True])
def test_a_device_is_waited_for_by_no_row(branched):
    """On the device `meta` there are no numbers, so whatever would wait for one raises."""
    with torch.device("meta"):
        model = make_model(LlamaConfig, LLAMA, 100)
    reader, trunk = TreeReader(model), tuple(range(20))
    rows = []
    for number in range(6):
        row = PackedRow()
        for last in range(2 if branched else 1):
            row.add(Input((*trunk, number, 7, 30 + last, 9)), len(trunk))
        rows.append(row)
    scored, nodes = reader.find_nodes(rows)
    logprobs = reader.read_logprobs(reader.read_trunk(trunk), rows, list(nodes))
    assert logprobs.shape == (len(scored), 100)
    assert logprobs.dtype == torch.float32
    assert reader._score(logprobs, torch.zeros(5, 2, dtype=torch.long)).shape == (2, 5)
