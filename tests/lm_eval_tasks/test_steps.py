"""Which steps an engine is asked, in which order and in which batches; and what is said where it cannot be asked."""

import importlib.metadata
import random
from itertools import pairwise

import pytest
from bases import add_tokens
from conftest import BASE
from pack import refuse_run

from lm_eval_tasks.checking.tokenizer import check_same_tokenizer
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.models.responses import hash_checkpoint
from lm_eval_tasks.models.steps import MOST_IDS, batch_texts, cut_steps, find_steps, find_whole


def make_texts(contexts=20, seed=0):
    """Texts after contexts that begin alike, in any order, some of them twice."""
    rng = random.Random(seed)
    texts = []
    for _ in range(contexts):
        context = (1, 2, 3, *rng.choices(range(4), k=rng.randint(1, 6)))
        texts += [(context, tuple(rng.choices(range(5), k=rng.randint(1, 4)))) for _ in range(4)]
    rng.shuffle(texts)
    return dict(enumerate(texts + texts[:5]))


def test_each_token_of_a_text_is_scored_after_all_that_stands_before_it_and_once():
    texts = make_texts()
    steps = find_steps(texts.values())
    wanted = {(context + own[:i], own[i]) for context, own in texts.values() for i in range(len(own))}
    assert {(step, token) for step, tokens in steps.items() for token in tokens} == wanted
    assert sum(map(len, steps.values())) == len(wanted)


def test_steps_that_begin_alike_are_neighbours():
    steps = list(find_steps(make_texts().values()))
    for length in range(1, 8):
        starts = [step[:length] for step in steps if len(step) >= length]
        changes = sum(a != b for a, b in pairwise(starts))
        assert changes == len(set(starts)) - 1


def test_no_request_asks_for_more_tokens_than_an_engine_gives():
    steps = {(1,): list(range(300)), (2,): [7]}
    requests = list(cut_steps(steps))
    assert [len(tokens) for _, tokens in requests] == [MOST_IDS, MOST_IDS, 300 - 2 * MOST_IDS, 1]
    assert [token for step, tokens in requests if step == (1,) for token in tokens] == steps[1,]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_hold_all_texts_and_the_choices_of_a_question_together(size):
    texts = make_texts()
    batches = list(batch_texts(texts, size))
    assert {number: text for batch in batches for number, text in batch.items()} == texts
    homes = {}
    for home, batch in enumerate(batches):
        for context, _ in batch.values():
            homes.setdefault(context, set()).add(home)
    assert all(len(home) == 1 for home in homes.values())
    assert len(batches) == {1: len(homes), 7: len(batches), 1000: 1}[size]
    for batch in batches[:-1]:
        last = [text for text in batch.values() if text[0] == list(batch.values())[-1][0]]
        count = len(find_steps(batch.values()))
        assert count - len(find_steps(last)) < size  # else the last question would stand in the next batch


def test_letters_are_asked_step_by_step_and_a_long_text_after_little_is_read_whole():
    prompt = tuple(range(600))
    letters = {number: (prompt, (number,)) for number in range(4)}
    texts = {4 + number: (prompt, tuple(range(number, number + 10))) for number in range(4)}
    page = {9: ((1,), prompt)}
    assert find_whole(letters | texts | page, 16) == {9}
    assert find_whole(texts, 1024) == set(texts)  # a cache of few large blocks gives nothing back


def test_another_tokenizer_than_the_checkpoints_is_said(tmp_path, sentencepiece):
    check_same_tokenizer({"pretrained": str(BASE)})
    grown = add_tokens(tmp_path / "grown", "<new>")
    check_same_tokenizer({"pretrained": str(BASE), "tokenizer": str(grown)})  # the same, and one token more
    with pytest.raises(UserError, match=r"tokens have other ids, .* is the first, so other tokens would be read"):
        check_same_tokenizer({"pretrained": str(BASE), "tokenizer": str(sentencepiece)})


def test_an_engine_that_is_not_there_is_said_before_anything_is_loaded(tmp_path):
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        words = ("--model", "vllm-prefix", "--model_args", f"pretrained={BASE}", "--tasks", "selfalign_probe")
        assert "needs the package vllm, which is not installed here: lm_eval_tasks/README.md says how to" in refuse_run(*words)
    else:
        pytest.skip("vllm is installed")


def test_a_fingerprint_of_files_knows_weights_and_settings_and_not_what_is_written_beside_them(tmp_path):
    copy = add_tokens(tmp_path / "copy")
    own = hash_checkpoint([BASE], "float32")
    assert own == hash_checkpoint([copy], "float32")
    (copy / "README.md").write_text("Another name.")
    assert own == hash_checkpoint([copy], "float32")
    assert own != hash_checkpoint([copy], "bfloat16")
    assert own != hash_checkpoint([copy, copy], "float32")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert own != hash_checkpoint([copy], "float32")
