"""The response cache: a killed run goes on where it was, and no model gets another one's answers."""

import pytest
from conftest import BASE
from lm_eval.models.huggingface import HFLM
from tiny import LLAMA, make_model, make_requests
from transformers import AutoTokenizer, LlamaConfig

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.reader import TreeReader
from lm_eval_tasks.models.responses import Responses, hash_model


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def models(tokenizer):
    return [make_model(LlamaConfig, LLAMA, len(tokenizer), seed) for seed in (0, 1)]


@pytest.fixture
def batches(monkeypatch):
    """How many rows each batch that is really computed has."""
    read, counts = TreeReader.read_rows, []

    def count(self, shared, rows, asked):
        counts.append(len(rows))
        return read(self, shared, rows, asked)

    monkeypatch.setattr(TreeReader, "read_rows", count)
    return counts


def ask(model, tokenizer, requests, folder, **options):
    lm = PrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=4, response_cache=str(folder), **options)
    return lm.loglikelihood(requests, disable_tqdm=True)


def test_what_was_answered_is_not_asked_again(models, tokenizer, tmp_path, batches):
    requests = make_requests(questions=8)
    first = ask(models[0], tokenizer, requests, tmp_path)
    computed = len(batches)
    assert ask(models[0], tokenizer, requests, tmp_path) == first
    assert len(batches) == computed


def test_a_run_that_breaks_off_goes_on_where_it_was(models, tokenizer, tmp_path, batches, monkeypatch):
    requests = make_requests(questions=8)
    whole = ask(models[0], tokenizer, requests, tmp_path / "whole")
    computed, read = len(batches), TreeReader.read_rows

    def stop(self, shared, rows, asked):
        if len(batches) == computed + 3:
            raise KeyboardInterrupt
        return read(self, shared, rows, asked)

    monkeypatch.setattr(TreeReader, "read_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        ask(models[0], tokenizer, requests, tmp_path / "broken")
    monkeypatch.setattr(TreeReader, "read_rows", read)
    again = ask(models[0], tokenizer, requests, tmp_path / "broken")
    assert [value for value, _ in again] == pytest.approx([value for value, _ in whole], abs=1e-5)
    assert sum(batches[computed + 3 :]) < sum(batches[:computed])


def test_another_model_gets_none_of_the_answers(models, tokenizer, tmp_path, batches):
    requests = make_requests(questions=8)
    ask(models[0], tokenizer, requests, tmp_path)
    computed = sum(batches)
    other = ask(models[1], tokenizer, requests, tmp_path)
    assert sum(batches) == 2 * computed
    theirs = HFLM(pretrained=models[1], tokenizer=tokenizer, batch_size=16).loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in other] == pytest.approx([value for value, _ in theirs], abs=1e-4)


def test_a_fingerprint_knows_every_weight_and_setting(models, tokenizer):
    own = hash_model(models[0], 512, None)
    assert own == hash_model(make_model(LlamaConfig, LLAMA, len(tokenizer), 0), 512, None)
    changed = make_model(LlamaConfig, LLAMA, len(tokenizer), 0)
    weight = changed.model.layers[2].mlp.up_proj.weight
    weight.data[3, [4, 5]] = weight.data[3, [5, 4]]  # two weights are swapped
    assert own != hash_model(changed, 512, None)
    assert own != hash_model(models[0], 256, None)
    scaled = make_model(
        LlamaConfig, LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, len(tokenizer), 0
    )
    assert own != hash_model(scaled, 512, None)  # the same weights, read otherwise
    assert own != hash_model(make_model(LlamaConfig, LLAMA, len(tokenizer), 0).bfloat16(), 512, None)


def test_answers_of_another_process_are_found(tmp_path):
    one, other = (Responses(tmp_path, rank, b"model") for rank in (0, 1))
    key = one.make_key([1, 2], [3])
    assert key != one.make_key([1], [2, 3])
    one.keep([(key, (-1.5, True))])
    assert Responses(tmp_path, 1, b"model").find(key) == (-1.5, True)
    assert other.find(other.make_key([9], [9])) is None


def test_a_folder_that_holds_something_else_is_said(tmp_path):
    (tmp_path / "responses-0.sqlite").write_text("no database, but a text that is long enough to look at" * 20)
    with pytest.raises(UserError, match=r"the response cache .* cannot be used"):
        Responses(tmp_path, 0, b"model")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        Responses(tmp_path / "file", 0, b"model")
