"""The trainer's steps are those of its rows one by one, it goes on where it was, and it stops where its numbers end."""

import json
import re
import sys

import pytest
import torch
from conftest import run_command
from datasets import Dataset
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from trainers import IGNORED, load_base, make_model, make_rows, make_trainer, poison_row
from transformers import TrainerCallback
from trl.trainer import utils as losses

from lm_eval_tasks.contracts.errors import UserError


class KeepGradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.steps.append({name: weight.grad.clone() for name, weight in model.named_parameters()})


def take_alone(model, rows):
    """The loss and the gradient of rows, each read alone and without padding, by the model's own loss."""
    trained = sum(label != IGNORED for row in rows for label in row["labels"])
    total = 0.0
    model.zero_grad()
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        loss = model(input_ids=ids, labels=labels).loss * (labels != IGNORED).sum() / trained
        loss.backward()
        total += loss.item()
    return total, {name: weight.grad.clone() for name, weight in model.named_parameters()}


def join(weights):
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)])


@pytest.mark.parametrize(("n", "batch", "accumulation"), [(32, 4, 8), (32, 32, 1), (5, 2, 8)])
def test_a_step_has_the_loss_and_the_gradient_of_its_rows_one_by_one(tmp_path, n, batch, accumulation):
    rows = make_rows(n)
    loss, gradient = take_alone(load_base(), rows.to_list())
    trainer = make_trainer(tmp_path, rows, batch, accumulation)
    trainer.add_callback(kept := KeepGradients())
    trainer.train()
    assert sorted(row for step in trainer.seen for row in step if row >= 0) == list(range(n))
    assert len(trainer.seen) == accumulation
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-6)
    (own,) = kept.steps
    assert (join(own) - join(gradient)).norm() < 1e-6 * join(gradient).norm()


def test_only_positions_with_a_label_are_projected(tmp_path, monkeypatch):
    """TRL projects all of them on a CPU; outside of our trainer's loss it still does."""
    projected, function = [], losses._ChunkedLogProbFunction

    class Counting:
        @staticmethod
        def apply(hidden, *others):
            projected.append(len(hidden))
            return function.apply(hidden, *others)

    monkeypatch.setattr(losses, "_ChunkedLogProbFunction", Counting)
    rows, known = make_rows(8), losses._use_triton
    make_trainer(tmp_path, rows, 4, 2).train()
    assert sum(projected) == sum(label != IGNORED for labels in rows["labels"][:] for label in labels)
    assert losses._use_triton is known


def test_epochs_have_orders_of_their_own_and_a_resumed_run_has_the_steps_that_were_left(tmp_path):
    settings = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(tmp_path / "whole", make_rows(21), 2, 8, **settings)
    whole.train()
    assert whole.state.global_step == whole.state.max_steps == 6  # two an epoch, of 16 rows and of 5
    epochs = [whole.seen[start : start + 16] for start in range(0, 48, 16)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert all(sorted(row for batch in epoch for row in batch if row >= 0) == list(range(21)) for epoch in epochs)
    for step in (2, 3, 5):
        again = make_trainer(tmp_path / "again", make_rows(21), 2, 8, **settings)
        again.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{step}"))
        assert again.seen == whole.seen[8 * step :]
        assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


@pytest.fixture(scope="module")
def pair(share_folder):
    """Two processes that train, go on within an epoch, and end on a loss that is no number."""
    return share_folder("pair", train_pair)


def train_pair(folder):
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "tests/recipes/trainers.py", folder)
    done = run_command(sys.executable, *words, timeout=240)
    assert done.returncode != 0
    (folder / "printed.txt").write_text(done.stderr)


@pytest.mark.launched
def test_two_processes_train_the_steps_of_one(pair, tmp_path):
    one, two = (json.loads((pair / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (one["world"], one["steps"], two["steps"]) == (2, 6, 6)
    single = make_trainer(tmp_path, make_rows(21), 4, 4, num_train_epochs=3)
    single.train()
    gather = lambda seen, step: sorted(row for batch in seen[4 * step : 4 * step + 4] for row in batch if row >= 0)  # noqa: E731
    for step in range(6):
        assert sorted(gather(one["seen"], step) + gather(two["seen"], step)) == gather(single.seen, step)
    weights = load_file(pair / "final/model.safetensors")
    own = {name: weight for name, weight in single.model.state_dict().items() if name in weights}
    assert (join(weights) - join(own)).norm() < 1e-6 * join(own).norm()


@pytest.mark.launched
def test_two_processes_go_on_within_an_epoch(pair):
    for rank in (0, 1):
        trained = json.loads((pair / f"{rank}.json").read_text())
        assert trained["again"] == trained["seen"][12:]
    whole, again = (load_file(pair / name / "model.safetensors") for name in ("final", "again_final"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.launched
def test_a_loss_that_is_no_number_in_one_process_ends_all(pair):
    printed = (pair / "printed.txt").read_text()
    assert len(re.findall(r"error: Step \d: the loss of rows? .*\bq20\b.* is nan", printed)) == 1


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_applied(tmp_path):
    rows, model = poison_row(make_rows(24), 17)
    trainer = make_trainer(tmp_path, rows, 2, 4, model)
    with pytest.raises(
        UserError, match=r"Step [1-3]: the loss of rows? .*\bq17\b.* is nan.*--learning_rate than 0.1"
    ) as caught:
        trainer.train()
    assert trainer.seen[-1].count(17) == 1
    named = re.findall(r"\bq\d+", str(caught.value))
    assert sorted(named) == sorted(f"q{row}" for row in trainer.seen[-1])
    assert all(weight.isfinite().all() for name, weight in model.named_parameters() if "embed" not in name)
    assert trainer.state.global_step == (len(trainer.seen) - 1) // 4


def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_applied(tmp_path):
    model = make_model()
    with torch.no_grad():  # the same logits, of which the gradient's squares are larger than fp32 holds
        model.model.norm.weight *= 1e25
        model.get_output_embeddings().weight /= 1e25
    before = [weight.clone() for weight in model.parameters()]
    for clip in (0.0, 1.0):
        trainer = make_trainer(tmp_path, make_rows(8), 2, 4, model, max_grad_norm=clip)
        with pytest.raises(UserError, match="Step 1: the loss is finite, but the norm of its gradient is inf"):
            trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class Largest(TorchDispatchMode):
    """Notes the most numbers that any one tensor holds, in forward and backward."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


def test_the_logits_of_a_large_vocabulary_are_never_held_at_once(tmp_path):
    vocabulary, tokens = 151_936, 400
    model = make_model(vocabulary)
    ids = torch.randint(0, vocabulary, (2, tokens // 2)).tolist()
    rows = Dataset.from_list([{"input_ids": row, "labels": [IGNORED] * 50 + row[50:]} for row in ids])
    with Largest() as plain:
        loss, gradient = take_alone(model, [{"input_ids": ids[0], "labels": rows[0]["labels"]}])
    assert plain.numbers >= tokens // 2 * vocabulary
    loss, gradient = take_alone(model, rows.to_list())
    trainer = make_trainer(tmp_path, rows, 2, 1, model)
    trainer.add_callback(kept := KeepGradients())
    with Largest() as fused:
        trainer.train()
    assert fused.numbers < tokens * vocabulary / 4
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-6)
    assert (join(kept.steps[0]) - join(gradient)).norm() < 1e-6 * join(gradient).norm()
