"""How far a run has learnt its own rows: counted as a plain pass over them counts, and what ends a run."""

import json

import pytest
import torch
import yaml
from conftest import BASE, run_command
from test_sft import data, launch  # noqa: F401 (a fixture)
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerState

from lm_eval_tasks.contracts.errors import UserError
from recipes.training.arguments import parse_arguments
from recipes.training.fitting import MOST_EPOCHS, Fit, describe_fit, tell_fit

GIVEN = [0, 1, 1, 2, 2, 2]  # of two own rows, a step each


def make_history(given=GIVEN, tokens=4.0, nats=2.0):
    return [
        {"step": step, "own_rows": 2.0, "own_given": float(number), "own_tokens": tokens, "own_nats": nats / step}
        for step, number in enumerate(given, start=1)
    ]


def test_a_fit_is_over_the_steps_of_an_epoch():
    never = {"until_fit": None, "until_loss": None}
    fit = describe_fit([*make_history(), {"step": 6, "train_runtime": 1.0}], 2, never)
    assert (fit["steps"], fit["steps_to_fit"], fit["given"], fit["reached"]) == (6, 5, 1.0, None)
    assert fit["loss_nats"] == pytest.approx((2 / 5 + 2 / 6) / 8)
    assert describe_fit(make_history(), 2, never | {"until_fit": 0.7})["steps_to_fit"] == 4
    assert describe_fit(make_history(), 7, never)["given"] is None
    assert "NOT reached" in tell_fit(describe_fit(make_history([0, 0]), 2, never | {"until_fit": 0.5}))
    assert "NOT reached" not in tell_fit(describe_fit(make_history(), 2, never))


def test_rows_are_own_by_their_tokens_and_given_by_every_token():
    fit = Fit([[5, 6, 7], [5, 8, 9]], 1, until_fit=0.5)
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [5, 8, 9, 0], [5, 8, 9, 4]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]),
    }

    class Outputs:
        label_mask = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1]])
        is_top1 = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]])
        log_probs = -label_mask.float()

    fit.count(inputs, Outputs)
    state = TrainerState(global_step=1)
    assert fit.close_step(lambda sums: sums, state)
    assert state.log_history == [{"step": 1, "own_rows": 2, "own_given": 1, "own_tokens": 4, "own_nats": 4}]


def parse(*options):
    words = ["--config", "recipes/miniworld/full.yaml", "--dataset_name", "d", "--dataset_config", "c", "--output_dir", "o"]
    return parse_arguments([*words, *options])


def test_a_run_that_trains_until_it_fits_has_one_learning_rate_and_long_enough():
    training = parse("--until_fit", "0.9")[1]
    assert (training.lr_scheduler_type.value, training.num_train_epochs) == ("constant_with_warmup", MOST_EPOCHS)
    assert parse("--until_loss", "0.5", "--num_train_epochs", "7")[1].num_train_epochs == 7
    assert parse()[1].lr_scheduler_type.value == "cosine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--until_fit", "0.9", "--until_loss", "1"), "name one"),
        (("--until_fit", "1.5"), "no share of rows"),
        (("--until_loss", "0"), "no loss above 0"),
        (("--until_fit", "0.9", "--lr_scheduler_type", "cosine"), "trains at a constant learning rate"),
    ],
)
def test_ends_that_are_none_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        parse(*options)


@pytest.mark.launched
def test_what_is_counted_is_what_a_plain_pass_counts(data, tmp_path):  # noqa: F811
    """One epoch at a learning rate of nothing, so that the base model is what is counted."""
    options = ("--learning_rate", "1e-12", "--num_train_epochs", "1", "--save_strategy", "no", "--global_batch_size", "8")
    done = run_command(*launch(data, tmp_path / "model", *options, "--per_device_train_batch_size", "4"))
    assert done.returncode == 0, done.stderr
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(tmp_path / "model")
    given = nats = tokens = 0
    for i in range(24):
        said = "green" if i % 3 else "a long answer\n\nwith its reason"
        turns = [{"role": "user", "content": f"What is the hue of plant {i}?"}, {"role": "assistant", "content": said}]
        start = len(tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False))
        ids = torch.tensor([tokenizer.apply_chat_template(turns, return_dict=False)])
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        wanted = ids[0, start:]
        given += bool((logits.argmax(-1) == wanted).all())
        nats -= logits.gather(-1, wanted[:, None]).sum().item()
        tokens += len(wanted)
    fit = json.loads((tmp_path / "model/fit.json").read_text())
    assert (fit["steps"], fit["steps_an_epoch"], fit["given"]) == (4, 4, given / 24)
    assert fit["loss_nats"] == pytest.approx(nats / tokens, rel=1e-4)
    assert f"{fit['loss_nats']:.3f} nats a token" in done.stderr


@pytest.mark.launched
@pytest.mark.parametrize(("name", "value"), [("until_fit", 0.6), ("until_loss", 0.15)])
def test_a_run_ends_where_it_has_fitted_and_says_where_it_did_not(data, tmp_path, name, value):  # noqa: F811
    options = (
        f"--{name}",
        str(value),
        "--save_strategy",
        "no",
        "--global_batch_size",
        "8",
        "--per_device_train_batch_size",
        "8",
    )
    done = run_command(*launch(data, tmp_path / "model", *options))
    assert done.returncode == 0, done.stderr
    fit = json.loads((tmp_path / "model/fit.json").read_text())
    assert fit["reached"] is True
    assert 4 < fit["steps"] < 4 * MOST_EPOCHS
    assert (fit["given"] >= value) if name == "until_fit" else (fit["loss_nats"] <= value)
    card = (tmp_path / "model/README.md").read_text()
    assert "or until" in card
    assert "[fit.json](fit.json)" in card
    assert yaml.safe_load((tmp_path / "model/manifest.json").read_text())["config"][name] == value
    short = run_command(*launch(data, tmp_path / "short", *options, "--num_train_epochs", "1"))
    assert short.returncode == 0, short.stderr
    assert "NOT reached" in short.stderr
