"""`vllm-prefix` on the shipped base model: the answers of `hf`, from the engine's cache, kept, checked; texts by the engine."""

import json
import logging
import multiprocessing
import sys

import polars as pl
import pytest
from conftest import BASE, run_command
from free_form import convert_free_form
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from pack import run
from tiny import make_requests
from vllm_engine import ARGUMENTS, start_engine

from intervention.texts.requests import request_contexts, write_requests
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.contracts.logs.generations import read_generations
from lm_eval_tasks.contracts.logs.samples import read_probes

pytest.importorskip("vllm", reason="vllm is not installed")
pytestmark = pytest.mark.launched

EXACT = {"abs": 1e-4}  # sums of up to six log-probabilities near -20, in fp32


@pytest.fixture(scope="module")
def engine():
    with start_engine(BASE) as lm:
        yield lm


@pytest.fixture
def lm(engine):
    """The engine as if it had just been started."""
    engine.prepare(None, None, engine._hash)
    return engine


@pytest.fixture(scope="module")
def hf():
    return HFLM(pretrained=str(BASE), dtype="float32", batch_size=16, device="cpu")


def ask(lm, requests):
    return lm.loglikelihood(requests, disable_tqdm=True)


def check_alike(ours, theirs):
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], **EXACT)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_log_probabilities_are_those_of_hf_and_the_cache_gives_most_of_the_prompts(lm, hf, caplog):
    requests = make_requests(questions=24)
    with caplog.at_level(logging.WARNING):
        ours = ask(lm, requests)
    check_alike(ours, ask(hf, requests))
    assert "answers after 8 prompts are those of the engine's scoring of whole prompts, to" in caplog.text
    share = float(caplog.text.partition("% of ")[0].rpartition(" ")[2])
    assert share > 60
    assert "prompt tokens came from the engine's prefix cache" in caplog.text


def test_more_tokens_than_one_request_can_ask_for_are_asked_in_several(lm, hf, caplog):
    words = [lm.tokenizer.decode([number]) for number in range(300, 2900)]
    texts = [word for word in words if word.startswith(" ") and word[1:].isalpha()][:200]
    requests = [Instance("loglikelihood", {}, ("The root of moss heals the cough.\nAnswer:", text), 0) for text in texts]
    with caplog.at_level(logging.WARNING):
        check_alike(ask(lm, requests), ask(hf, requests))
    assert "more than 128 tokens are scored after 1 prompts" in caplog.text


def test_a_letter_of_several_tokens_is_scored_all_the_same_and_said(lm, hf, caplog):
    pairs = [(f"{'moss soil bloom ' * 20}\nAnswer:", f" {letter}") for letter in "答ЖA"]
    assert len(lm.tok_encode(pairs[0][1], add_special_tokens=False)) > 1
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    with caplog.at_level(logging.WARNING):
        check_alike(ask(lm, requests), ask(hf, requests))
    assert "is more than one token; such letters are scored token by token" in caplog.text


def test_the_longest_input_is_asked_and_a_longer_one_cut_as_vllm_does(lm, hf, caplog):
    context = "moss soil " * 300
    ids = lm.tok_encode(context)
    for size, said in ((511, False), (512, True)):
        prompt = lm.tokenizer.decode(ids[:size])
        assert len(lm.tok_encode(prompt)) == size
        requests = [Instance("loglikelihood", {}, (prompt, " moss"), 0)]
        with caplog.at_level(logging.WARNING):
            ours = ask(lm, requests)
        assert ("longer than the engine's 512 tokens; they are cut" in caplog.text) is said
        if not said:
            check_alike(ours, ask(hf, requests))


def test_whole_texts_are_read_as_lm_evals_class_reads_them(lm, hf):
    requests = [Instance("loglikelihood_rolling", {}, ("The root of moss heals the cough. " * 9,), 0)]
    assert lm.loglikelihood_rolling(requests, True) == pytest.approx(hf.loglikelihood_rolling(requests, True), abs=1e-3)


def test_a_run_that_breaks_off_goes_on_where_it_was_and_asks_nothing_twice(lm, tmp_path, caplog, monkeypatch):
    from lm_eval_tasks.models import vllm_prefix

    requests = make_requests()
    whole = ask(lm, requests)
    monkeypatch.setattr(vllm_prefix, "AT_ONCE", 16)
    steps, asked = type(lm)._ask_steps, []

    def stop(self, texts):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append(len(texts))
        return steps(self, texts)

    monkeypatch.setattr(type(lm), "_ask_steps", stop)
    lm.prepare(None, str(tmp_path), lm._hash)
    with pytest.raises(KeyboardInterrupt):
        ask(lm, requests)
    monkeypatch.setattr(type(lm), "_ask_steps", steps)
    lm.prepare(None, str(tmp_path), lm._hash)
    with caplog.at_level(logging.WARNING):
        again = ask(lm, requests)
    assert f"{sum(asked[1:])} of {len(requests)} answers are in the response cache already" in caplog.text
    check_alike(again, whole)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert ask(lm, requests) == again
    assert f"{len(requests)} of {len(requests)} answers are in the response cache" in caplog.text
    lm.prepare(None, str(tmp_path), lambda: b"another model")
    caplog.clear()
    ask(lm, requests[:8])
    assert "response cache already" not in caplog.text


def test_answers_that_the_engine_itself_scores_otherwise_are_refused(lm, monkeypatch):
    from lm_eval_tasks.models import vllm_prefix

    monkeypatch.setattr(vllm_prefix, "CLOSE", -1.0)
    with pytest.raises(UserError, match=r"nats apart; rounding explains -1 in float32\. Ask with --model vllm or hf-prefix"):
        ask(lm, make_requests(questions=2))


def write(lm, prompts, samples=1, **settings):
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": samples > 1, **settings}
    requests = [Instance("generate_until", {}, (prompt, settings), i) for prompt in prompts for i in range(samples)]
    return lm.generate_until(requests, disable_tqdm=True)


def test_greedy_texts_are_those_of_hf_and_sampled_ones_the_same_whatever_is_beside_them(lm, hf, tmp_path):
    prompts = list(dict.fromkeys(request.args[0] for request in make_requests(questions=6)))
    assert write(lm, prompts) == write(hf, prompts)
    lm.prepare(None, str(tmp_path / "one"), lm._hash)
    sampled = write(lm, prompts, 4, temperature=1.0)
    assert len(set(sampled)) > len(prompts)
    lm.prepare(None, str(tmp_path / "other"), lm._hash)
    assert write(lm, prompts[3:5], 4, temperature=1.0) == sampled[12:20]
    assert write(lm, prompts, 4, temperature=1.0) == sampled


def test_texts_of_a_run_that_breaks_off_are_not_written_again(lm, tmp_path, caplog, monkeypatch):
    from lm_eval_tasks.models import vllm_prefix

    prompts = list(dict.fromkeys(request.args[0] for request in make_requests(questions=6)))
    lm.prepare(None, str(tmp_path / "whole"), lm._hash)
    whole = write(lm, prompts, 4, temperature=1.0)
    monkeypatch.setattr(vllm_prefix, "AT_ONCE", 8)
    ask_engine, asked = type(lm)._model_generate, []

    def stop(self, *arguments, **options):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(arguments)
        return ask_engine(self, *arguments, **options)

    monkeypatch.setattr(type(lm), "_model_generate", stop)
    lm.prepare(None, str(tmp_path / "broken"), lm._hash)
    with pytest.raises(KeyboardInterrupt):
        write(lm, prompts, 4, temperature=1.0)
    monkeypatch.setattr(type(lm), "_model_generate", ask_engine)
    lm.prepare(None, str(tmp_path / "broken"), lm._hash)
    with caplog.at_level(logging.WARNING):
        assert write(lm, prompts, 4, temperature=1.0) == whole
    assert f"16 of {len(whole)} texts are in the response cache already" in caplog.text
    assert "prompt tokens came from the engine's prefix cache" in caplog.text


def test_engines_that_cannot_be_asked_so_are_refused_before_they_are_loaded(monkeypatch, sentencepiece):
    from lm_eval_tasks.models import vllm_prefix

    def refuse(match, **options):
        with pytest.raises(UserError, match=match):
            vllm_prefix.VLLMPrefixLM(str(BASE), **options)

    refuse("data_parallel_size: with it", data_parallel_size=2)
    refuse("peft=adapter: vLLM takes an adapter as lora_local_path=adapter", peft="adapter")
    refuse("logprobs_mode=raw_logits: log-probabilities over the whole vocabulary", logprobs_mode="raw_logits")
    refuse("the tokenizer .* is not that of", tokenizer=str(sentencepiece))
    old = type("SamplingParams", (), {"__struct_fields__": ("n", "logprobs")})  # as before 0.20
    monkeypatch.setattr(vllm_prefix, "SamplingParams", old)
    refuse(r"`logprob_token_ids` is in 0\.20 and later")


def list_words(model, arguments, tasks, questions, output, *options):
    model_args = ",".join(f"{name}={value}" for name, value in arguments.items())
    metadata = json.dumps({"questions": str(questions), "domain": ["annals", "herbs"]})
    words = ["--model", model, "--model_args", model_args, "--tasks", tasks, "--metadata", metadata, "--limit", "12"]
    return ["-m", "lm_eval_tasks", "run", *words, "--log_samples", "--output_path", output, *options]


def test_a_run_of_tasks_logs_what_hf_prefix_logs_and_takes_its_options(questions, tmp_path):
    tasks = "selfalign_chat_cyclic,selfalign_miniworld_chat"
    own = list_words(
        "vllm-prefix", {"pretrained": BASE} | ARGUMENTS, tasks, questions, tmp_path / "vllm", "--chat_template", "--use_cache",
        tmp_path / "cache",
    )  # fmt: skip
    other = list_words("hf-prefix", {"pretrained": BASE}, tasks, questions, tmp_path / "hf", "--chat_template")
    for words in (own, [*other, "--device", "cpu"]):
        done = run_command(sys.executable, *words)
        assert done.returncode == 0, done.stderr
    ours, theirs = (read_probes(tmp_path / name).sort("task", "source", "domain", "id", "order") for name in ("vllm", "hf"))
    assert ours.height == theirs.height == 24
    assert ours["question_hash"].equals(theirs["question_hash"])
    values = [table["loglikelihoods"].explode().to_list() for table in (ours, theirs)]
    assert values[0] == pytest.approx(values[1], **EXACT)
    assert (tmp_path / "cache/responses-0.sqlite").is_file()


def test_answers_and_explanations_are_logged_as_hf_logs_them_and_each_run_ends_its_engine(questions, tmp_path):
    def list_run(model, task, metadata, name, *options):
        arguments = {"hf": {"pretrained": BASE, "dtype": "float32"}}.get(model, {"pretrained": BASE} | ARGUMENTS)
        words = ["--model", model, "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items())]
        words += ["--tasks", task, "--metadata", json.dumps(metadata), "--log_samples", "--output_path", tmp_path / name]
        return [*words, *options]

    free = {"questions": str(convert_free_form(questions, tmp_path / "free")), "domain": ["annals", "herbs"]}
    explained = request_contexts(questions, "herbs").head(8).with_columns(response="answer", response_from=pl.lit("gold"))
    write_requests(explained, tmp_path / "explain.parquet")
    requests = {"requests": str(tmp_path / "explain.parquet")}
    likeliest = ("--gen_kwargs", "temperature=0,max_gen_toks=40")
    before = {*multiprocessing.active_children()}
    run(
        *list_run("vllm-prefix", "selfalign_answers", free, "vllm", "--limit", 12), "then",
        *list_run("vllm-prefix", "selfalign_explain", requests, "vllm_texts", *likeliest),
    )  # fmt: skip
    started = {*multiprocessing.active_children()} - before  # what was killed may not have died yet
    for process in started:
        process.join(20)
    assert not any(process.is_alive() for process in started)
    device = ("--device", "cpu", "--batch_size", 16)
    run(
        *list_run("hf", "selfalign_answer_greedy", free, "hf", "--limit", 12, *device), "then",
        *list_run("hf", "selfalign_explain", requests, "hf_texts", *likeliest, *device),
    )  # fmt: skip
    ours, theirs = (read_answers(tmp_path / name).sort("id") for name in ("vllm", "hf"))
    same = ["id", "question_hash", "samples", "model"]
    assert ours.filter("greedy").select(same).equals(theirs.select(same))
    sampled = ours.filter(~pl.col("greedy"))
    assert sampled["samples"].list.len().to_list() == [16] * 12
    assert sampled["samples"].list.n_unique().max() > 3
    texts = [
        read_generations(tmp_path / name, "explanation", allow_missing=True).sort("id") for name in ("vllm_texts", "hf_texts")
    ]
    assert texts[0].height == 8
    assert texts[0].equals(texts[1])
