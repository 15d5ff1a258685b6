"""The charge for going from the base: as a plain pass over both models gives it, with gradients, adapters and a full copy."""

import pytest
import torch
from trainers import IGNORED, load_base, make_rows, make_trainer

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.arguments import parse_arguments


def shift(model, seed=0):
    """A model as after some training."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * value.std() * torch.randn_like(value))
    return model


def charge_plainly(model, base, rows, strength, weights=None):
    """The loss over all rows, and KL(base || model) a trained token."""
    total = tokens = weighed = divergence = 0
    for row, weight in zip(rows, weights or [1.0] * len(rows), strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        kept = labels != IGNORED
        here = model(input_ids=ids).logits[0, :-1][kept].log_softmax(-1)
        there = base(input_ids=ids).logits[0, :-1][kept].log_softmax(-1).detach()
        kl = torch.nn.functional.kl_div(here, there, log_target=True, reduction="none").sum(-1)
        nats = -here.gather(-1, labels[kept][:, None])[:, 0]
        total = total + weight * (nats + strength * kl).sum()
        divergence += kl.sum().item()
        tokens, weighed = tokens + int(kept.sum()), weighed + weight * int(kept.sum())
    return total / weighed, divergence / tokens


@pytest.mark.parametrize(("n", "batch", "accumulation"), [(12, 4, 3), (5, 2, 8)])  # the second one has blank rows
@pytest.mark.parametrize("weights", [None, 2.0])
def test_a_step_is_charged_as_a_plain_pass_over_both_models_tells(tmp_path, n, batch, accumulation, weights):
    rows, base = make_rows(n), load_base()
    weights = weights and [weights if i % 2 else 0.5 for i in range(n)]
    model = shift(load_base())
    loss, kl = charge_plainly(model, base, rows, 3.0, weights)
    loss.backward()
    table = rows.add_column("weight", weights) if weights else rows
    trainer = make_trainer(tmp_path, table, batch, accumulation, kl_to_base=3.0)
    shift(trainer.model)  # the base was kept before
    trainer.train()
    (point,) = [point for point in trainer.state.log_history if "loss" in point]
    assert point["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert point["kl_to_base"] == pytest.approx(kl, rel=0.2)  # a mean over micro-batches, which have about as many tokens
    for (name, before), after in zip(model.named_parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(before.data - after.data, 0.1 * before.grad, rtol=5e-3, atol=3e-6, msg=name)


def test_the_base_stays_as_it_was_while_the_model_is_trained(tmp_path):
    trainer = make_trainer(tmp_path, make_rows(12), 4, 1, kl_to_base=1.0, num_train_epochs=3)
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(trainer.base._model.parameters(), load_base().parameters(), strict=True))
    found = [point["kl_to_base"] for point in trainer.state.log_history if "kl_to_base" in point]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[-1] > 1e-4


def test_what_is_charged_stays_nearer_to_its_base(tmp_path):
    settings = {"optim": "adamw_torch", "learning_rate": 1e-3}
    far, near = (
        make_trainer(tmp_path / str(strength), make_rows(12), 4, 1, kl_to_base=strength, num_train_epochs=6, **settings)
        for strength in (1e-6, 10.0)
    )
    ends = []
    for trainer in (far, near):
        trainer.train()
        ends.append([point["kl_to_base"] for point in trainer.state.log_history if "kl_to_base" in point][-1])
    assert ends[1] < ends[0] / 2


def test_the_base_of_an_adapter_is_the_model_without_it(tmp_path):
    from peft import LoraConfig, get_peft_model

    def adapt():
        torch.manual_seed(0)
        model = get_peft_model(load_base(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    value.normal_(std=0.1)
        return model

    rows, model = make_rows(12), adapt()
    loss, _ = charge_plainly(model, load_base(), rows, 2.0)
    loss.backward()
    trainer = make_trainer(tmp_path, rows, 12, 1, adapt(), kl_to_base=2.0)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    after = dict(trainer.model.named_parameters())
    for name, before in model.named_parameters():
        if before.grad is not None:
            step = before.data - after[name].data
            torch.testing.assert_close(step, 0.1 * before.grad, rtol=5e-3, atol=3e-6, msg=name)


OPTIONS = ["--config", "recipes/miniworld/full.yaml", "--dataset_name", "d", "--dataset_config", "c", "--output_dir", "o"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kl_to_base", "0"], "no number above 0"),
        (["--kl_to_base", "nan"], "no number above 0"),
        (["--kl_to_base", "0.1", "--loss_type", "dft"], "plain loss alone"),
        (["--kl_to_base", "0.1", "--label_smoothing_factor", "0.1"], "plain loss alone"),
    ],
)
def test_what_cannot_be_charged_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        parse_arguments([*OPTIONS, *options])


def test_an_engine_that_shares_out_the_weights_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"launch with recipes/accelerate/ddp\.yaml"):
        parse_arguments([*OPTIONS, "--kl_to_base", "0.1"])
