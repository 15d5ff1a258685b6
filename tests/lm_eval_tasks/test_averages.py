"""Probabilities averaged over the orders of a question's choices, from rows that a task with `order: cyclic` logs."""

import polars as pl
import pytest
from test_samples import CHOICES, make_doc, write_log

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.averages import average_orders
from lm_eval_tasks.contracts.logs.probe_table import PROBE_SCHEMA, write_probes
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.logs.scores import read_probe

AVERAGED = [*PROBE_SCHEMA, "orders", "agreement"]


def ask(folder, *asked, name="samples_t_1.jsonl", **changes):
    """The probe table of a log; `asked`: a question's number, the order, and the log-likelihoods of the choices as shown."""
    docs = []
    for number, order, shown in asked:
        doc = make_doc(number, order, **changes)
        docs.append(doc | read_probe(shown, doc["answer"]))
    return read_probes(write_log(folder, *docs, name=name))


def test_probabilities_are_averaged_by_content(tmp_path):
    shown = [[-1.0, -2.0, -3.0, -4.0], [-0.1, -0.2, -5.0, -1.0], [-2.0, -2.5, -0.3, -3.0], [-4.0, -1.0, -1.5, -0.7]]
    table = ask(tmp_path, *((1, order, values) for order, values in enumerate(shown)))
    averaged = average_orders(table)
    assert averaged.columns == AVERAGED
    assert averaged.select(*PROBE_SCHEMA).schema == PROBE_SCHEMA
    row = averaged.row(0, named=True)
    probs = [read_probe(values, 0)["probs"] for values in shown]
    own = [[probs[order][(i - order) % 4] for order in range(4)] for i in range(4)]  # by hand: choice i is shown at i - order
    assert row["probs"] == pytest.approx([sum(values) / 4 for values in own], abs=1e-15)
    assert row["prediction"] == max(range(4), key=lambda i: sum(own[i]))
    assert row["confidence"] == pytest.approx(max(row["probs"]))
    assert row["correct"] == (row["prediction"] == 1)
    assert row["choice_mass"] == pytest.approx(sum(read_probe(values, 0)["choice_mass"] for values in shown) / 4)
    named = [max(range(4), key=lambda i: own[i][order]) for order in range(4)]
    assert row["agreement"] == named.count(row["prediction"]) / 4
    assert (row["orders"], row["order"]) == (4, None)
    assert [row[name] for name in row if name.startswith("loglikelihoods")] == [None] * 3
    assert (row["choices"], row["answer"], row["task"], row["category"]) == (CHOICES, 1, "t", "c")


def test_questions_models_draws_and_phases_are_kept_apart_and_in_order(tmp_path):
    low, high = [-3.0, -1.0, -3.0, -3.0], [-1.0, -3.0, -3.0, -3.0]
    table = ask(tmp_path, *((number, order, high) for order in range(4) for number in (2, 1)))
    more = [{"draw": 1}, {"model": "n"}, {"phase": "base_chat"}, {"run": "r"}, {"scoring": "cloze"}]
    tables = [ask(tmp_path, *((2, order, low) for order in range(4)), name="samples_t_2.jsonl", **change) for change in more]
    averaged = average_orders(pl.concat([table, *tables]))
    assert averaged["id"].to_list() == ["2", "1", *"22222"]
    assert averaged["orders"].to_list() == [4] * 7
    for row, change in zip(averaged.tail(5).to_dicts(), more, strict=True):
        assert change.items() <= row.items()


def test_one_order_stays_what_it_is(tmp_path):
    table = ask(tmp_path, (1, 2, [-1.0, -2.0, -3.0, -4.0]), (2, 2, [-4.0, -1.0, -3.0, -4.0]))
    averaged = average_orders(table)
    assert averaged["orders"].to_list() == [1, 1]
    assert averaged["agreement"].to_list() == [1, 1]
    for name in ("id", "probs", "prediction", "confidence", "correct", "choice_mass"):
        assert averaged[name].to_list() == table[name].to_list()


def test_a_question_that_lacks_an_order_is_named(tmp_path):
    every = [(number, order, [-1.0, -2.0, -3.0, -4.0]) for number in (1, 2) for order in range(4)]
    for cut, message in ((7, "'2' .* in 3 of the 4 .*order 3 is"), (5, "'2' .* in 1 of the 4 .*order 1 is")):
        with pytest.raises(UserError, match=rf"s/d id {message} missing.*Ask it in every order"):
            average_orders(ask(tmp_path, *every[:cut]))
    assert average_orders(ask(tmp_path, *every[:4])).height == 1
    with pytest.raises(UserError, match=r"id '1' .* in 3 of the 4 .*order 0 is missing"):
        average_orders(ask(tmp_path, *every[1:]))


def test_orders_of_two_wordings_are_refused(tmp_path):
    table = ask(tmp_path, *((1, order, [-1.0, -2.0, -3.0, -4.0]) for order in range(4)))
    other = pl.when(pl.col("order") == 3).then(pl.lit("0" * 16)).otherwise("question_hash")
    with pytest.raises(UserError, match="id '1' was asked of m in 2 wordings"):
        average_orders(table.with_columns(question_hash=other))


def test_an_averaged_table_is_a_probe_table(tmp_path):
    averaged = average_orders(ask(tmp_path, *((1, order, [-1.0, -2.0, -3.0, -4.0]) for order in range(4))))
    write_probes(averaged, tmp_path / "probes.parquet")
    read = read_probes(tmp_path / "probes.parquet")
    assert read.equals(averaged.select(*PROBE_SCHEMA))
    assert average_orders(read).drop("orders", "agreement").equals(read)
