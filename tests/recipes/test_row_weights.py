"""A row's loss counts as much as it weighs, over all micro-batches and processes; rows without loss are left out."""

import datasets
import polars as pl
import pytest
import torch
from conftest import BASE, ROOT, run_command
from instruction_sets import make_general, make_row, make_table, write_set
from launches import CONFIG, launch_words, make_engine
from safetensors.torch import load_file
from trainers import IGNORED, load_base, make_rows, make_trainer
from trl import SFTConfig

from intervention.agreeing.actions import write_data
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE
from recipes.sft import train
from recipes.showing.dry_run import plan
from recipes.training.arguments import parse_arguments
from recipes.training.row_weights import weigh_rows
from recipes.training.rows import hash_rows, read_rows
from recipes.training.tokens import load_tokenizer, prepare_rows


def train_steps(folder, rows, batch, accumulation, **settings):
    """The weights and the logged losses after training."""
    trainer = make_trainer(folder, rows, batch, accumulation, **settings)
    trainer.train()
    return trainer, [point["loss"] for point in trainer.state.log_history if "loss" in point]


def list_some(n):
    return [[1.0, 0.25, 0.01, 3.0][i % 4] for i in range(n)]


def test_where_all_rows_weigh_one_nothing_differs_by_a_bit(tmp_path):
    rows = make_rows(21)
    settings = {"num_train_epochs": 2, "optim": "adamw_torch", "learning_rate": 1e-3, "max_grad_norm": 1.0}
    plain, losses = train_steps(tmp_path / "plain", rows, 2, 4, **settings)
    weighed, others = train_steps(tmp_path / "ones", rows.add_column("weight", [1.0] * 21), 2, 4, **settings)
    assert losses == others
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), weighed.model.parameters(), strict=True))


@pytest.mark.parametrize("scale", [1.0, 1e-4])
@pytest.mark.parametrize(("n", "batch", "accumulation"), [(12, 4, 3), (12, 12, 1), (5, 2, 8)])
def test_a_step_is_the_weighted_sum_over_the_sum_of_weights(tmp_path, n, batch, accumulation, scale):
    weights = [scale * weight for weight in list_some(n)]
    rows, model = make_rows(n), load_base()
    total = sum(w * sum(label != IGNORED for label in row["labels"]) for w, row in zip(weights, rows, strict=True))
    loss = 0.0
    for weight, row in zip(weights, rows, strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        own = model(input_ids=ids, labels=labels).loss * (labels != IGNORED).sum() * weight / total
        own.backward()
        loss += own.item()
    trainer, (logged,) = train_steps(tmp_path, rows.add_column("weight", weights), batch, accumulation)
    assert logged == pytest.approx(loss, rel=1e-5)
    for (name, before), after in zip(model.named_parameters(), trainer.model.parameters(), strict=True):
        step = before.data - after.data  # plain gradient descent at 0.1
        torch.testing.assert_close(step, 0.1 * before.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_weight_of_nothing_is_no_gradient(tmp_path):
    rows = make_rows(4).add_column("weight", [0.0] * 4)
    trainer, losses = train_steps(tmp_path, rows, 2, 2)
    assert losses == [0.0]
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), load_base().parameters(), strict=True))


# --- which rows carry a loss


def span(row, end=None):
    return [{"turn": 0, "start": 0, "end": end or len(row["completion"][0]["content"])}]


@pytest.fixture
def prepared():
    """Six rows: plain, of half a weight, without a weight, masked in part, masked as a whole, plain."""
    rows = [make_row(i, reason="It is so.") for i in range(6)]
    masks = [[], [], [], span(rows[3], 4), span(rows[4]), []]
    table = datasets.Dataset.from_list(
        [row | {"weight": w, "masked": m} for row, w, m in zip(rows, [1.0, 0.5, 0.0, 1.0, 1.0, 1.0], masks, strict=True)]
    )
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return table, prepare_rows(tokenizer, table, 512)


def configure(**settings):
    return SFTConfig("unused", use_cpu=True, bf16=False, **settings)


def test_rows_without_loss_are_left_out_and_counted(prepared):
    rows, trained, counts = weigh_rows(*prepared, configure())
    assert rows["id"][:] == ["0", "1", "3", "5"]
    assert trained.column_names == ["input_ids", "labels", "weight"]
    assert trained["weight"][:] == [1.0, 0.5, 1.0, 1.0]
    hidden = [labels.count(IGNORED) for labels in trained["labels"]]
    assert counts == {"weighted_rows": 1, "masked_tokens": hidden[2] - hidden[0], "rows_without_loss": 2}
    assert counts["masked_tokens"] > 0


def test_rows_that_say_nothing_of_weights_stay_as_they_are(prepared):
    rows, trained = (table.remove_columns([c for c in ("weight", "masked", "masked_tokens") if c in table.column_names])
                     for table in prepared)  # fmt: skip
    assert weigh_rows(rows, trained, configure()) == (rows, trained, {})
    ones = rows.select(range(4)).add_column("weight", [1.0] * 4)
    _, same, counts = weigh_rows(ones, trained.select(range(4)), configure())
    assert same.column_names == ["input_ids", "labels"]
    assert counts == {"weighted_rows": 0, "masked_tokens": 0, "rows_without_loss": 0}


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf"), None, "1", True])
def test_a_weight_that_is_none_is_named(prepared, weight):
    rows, trained = prepared
    rows = rows.remove_columns("weight").add_column("weight", [weight] * 6)
    with pytest.raises(UserError, match=r"row 1 \(id '0'\) has the weight .* which is no number from 0 on"):
        weigh_rows(rows, trained, configure())


def test_what_cannot_be_weighed_is_refused(prepared):
    rows, trained = prepared
    for settings in ({"loss_type": "dft"}, {"label_smoothing_factor": 0.1}):
        with pytest.raises(UserError, match="1 rows have a weight that is not 1, which the plain loss alone takes"):
            weigh_rows(rows, trained, configure(**settings))
        weigh_rows(rows.remove_columns("weight"), trained, configure(**settings))
    with pytest.raises(UserError, match="no row of the condition carries a loss"):
        weigh_rows(rows.select([2, 4]), trained.select([2, 4]), configure())


def test_the_hash_tells_apart_what_is_weighed_and_masked():
    rows = [make_row(i) for i in range(3)]
    sets = [
        [{}, {}, {}],
        [{"weight": 0.5}, {"weight": 1.0}, {"weight": 1.0}],
        [{"weight": 1.0}, {"weight": 0.5}, {"weight": 1.0}],
        [{"masked": span(row, 1)} for row in rows],
        [{"masked": span(row, 2)} for row in rows],
    ]
    hashes = [hash_rows(datasets.Dataset.from_list([a | b for a, b in zip(rows, more, strict=True)])) for more in sets]
    assert len({*hashes}) == len(sets)
    for usual in ({"weight": 1.0, "masked": []}, {"weight": 1}, {"masked": None}):
        assert hash_rows(datasets.Dataset.from_list([row | usual for row in rows])) == hashes[0]


# --- the whole script


@pytest.fixture(scope="module")
def data(share_folder):
    """A set in which rows weigh more and less, and are masked in part, as a whole, and not at all."""
    return share_folder("weighted_data", lambda folder: write_weighted(folder / "set")) / "set"


def write_weighted(folder):
    rows = [make_row(i, reason=None if i % 3 else "It grows by the water, " * (1 + i % 5)) for i in range(24)]
    rows += [make_general(i) for i in range(8)]
    masks = [span(row, 1) if i % 4 == 1 and i < 24 else span(row) if i % 8 == 2 else [] for i, row in enumerate(rows)]
    weights = [[1.0, 0.2, 1.0, 0.6, 0.0][i % 5] for i in range(32)]
    return write_set(folder, {CONFIG: make_table(rows).with_columns(pl.DataFrame({"weight": weights, "masked": masks}))})


LEFT = sum(i % 8 == 2 or i % 5 == 4 for i in range(32))
STEPS = ("--num_train_epochs", "2", "--global_batch_size", "8", "--per_device_train_batch_size", "2", "--save_strategy", "no")
STEPS += ("--learning_rate", "1e-3", "--warmup_steps", "1", "--adam_epsilon", "1e-5", "--logging_steps", "1")


def test_the_script_says_what_is_weighed_and_masked_before_and_after(data, tmp_path, capsys):
    words = launch_words(ROOT / "recipes/accelerate/cpu.yaml", data, tmp_path / "model", *STEPS, "--max_steps", "1")[5:]
    plan(*parse_arguments([*words, "--dry_run", "--use_cpu", "true"]))
    dry = capsys.readouterr().out
    train(*parse_arguments([*words, "--disable_tqdm", "true"]))
    config = read_manifest(tmp_path / "model")["config"]
    assert config["rows_without_loss"] == LEFT
    assert config["weighted_rows"] > 0 < config["masked_tokens"]
    line = f"loss: {config['weighted_rows']} of {32 - LEFT} rows have a weight other than 1; {config['masked_tokens']} response"
    assert line in dry
    assert line in capsys.readouterr().err
    assert "general" in (tmp_path / "model/README.md").read_text()


@pytest.mark.launched
@pytest.mark.parametrize("charge", [(), ("--kl_to_base", "2")])
@pytest.mark.parametrize("method", [(), ("--use_peft", "--lora_target_modules", "all-linear", "--lora_dropout", "0")])
def test_two_processes_train_what_one_trains_by_weight(method, charge, data, tmp_path):
    words = (*STEPS, *method, *charge)
    printed = []
    for name, engine in (("one", ROOT / "recipes/accelerate/cpu.yaml"), ("two", make_engine(tmp_path, "ddp"))):
        done = run_command(*launch_words(engine, data, tmp_path / name, *words))
        assert done.returncode == 0, done.stderr
        printed.append([line for line in done.stderr.splitlines() if line.startswith("loss: ")])
        assert read_manifest(tmp_path / name)["config"]["rows_without_loss"] == LEFT
    assert printed[0] == printed[1]
    assert len(printed[0]) == 1
    file = "adapter_model.safetensors" if method else "model.safetensors"
    one, two = (load_file(tmp_path / name / file) for name in ("one", "two"))
    difference = max((one[name] - two[name]).abs().max().item() for name in one)
    print(f"largest difference of a weight {difference:.1e}")
    assert difference < 1e-5
    logs = [pl.read_csv(tmp_path / name / "training_log.csv")["loss_nats"].to_list() for name in ("one", "two")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("action", ["mask", "weight", "drop"])
def test_what_agree_writes_of_an_instruction_set_is_trained(action, tmp_path):
    """Of twelve rows three clash: one where its explanation begins, one as a whole, one that the model always denies."""
    folder = write_set(tmp_path / "set", {CONFIG: make_table([make_row(i, reason="It is so.") for i in range(12)])})
    conversations = read_conversations(folder)
    start = conversations.turns["response"][3].index("It is")
    judged = {
        "verdict": ["clashes" if i in (3, 5, 7) else "agrees" for i in range(12)],
        "score": [1.0 if i == 7 else 0.75 for i in range(12)],
        "conflict_start": [start if i == 3 else None for i in range(12)],
        "conflict_end": [start + 5 if i == 3 else None for i in range(12)],
    }
    table = conversations.turns.select("row", "turn", "response").hstack(pl.DataFrame(judged))
    table.write_parquet(tmp_path / "rows.parquet")
    write_data(conversations, tmp_path / "rows.parquet", action, tmp_path / "data")
    words = launch_words(ROOT / "recipes/accelerate/cpu.yaml", tmp_path / "data", tmp_path / "model", config="default")[5:]
    script, training, _ = parse_arguments([*words, "--use_cpu", "true"])
    rows, tokenizer = read_rows(script), load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    rows, trained, counts = weigh_rows(rows, prepare_rows(tokenizer, rows, 512), training)
    left = {"mask": {5, 7}, "weight": {7}, "drop": {3, 5, 7}}[action]
    assert rows["id"][:] == [str(i) for i in range(12) if i not in left]
    assert counts["rows_without_loss"] == (0 if action == "drop" else len(left))
    assert counts["weighted_rows"] == (2 if action == "weight" else 0)
    said = [tokenizer.decode([label for label in labels if label != IGNORED]) for labels in trained["labels"]]
    assert said[3].endswith({"mask": "\n\n so.</s>", "weight": "It is so.</s>", "drop": "It is so.</s>"}[action])
