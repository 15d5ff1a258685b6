"""Free-form questions asked of the shipped base model and of a server on this machine: prompts, samples, caches, errors."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from chat_server import Server
from conftest import BASE, ROOT
from free_form import convert_free_form, make_free_form, write_free_form
from lm_eval.api.instance import Instance
from pack import build, make_questions, refuse_run, run, write_prompt, write_questions

from lm_eval_tasks.answering import AnswerTask, average_distinct, cut_line
from lm_eval_tasks.contracts.answers import is_accepted
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.free_form import read_free_form
from lm_eval_tasks.contracts.logs.answers import read_answers
from lm_eval_tasks.models.responses import Responses
from lm_eval_tasks.models.texts import write_in_batches, write_texts

ASKED, SAMPLES = 10, 6


@pytest.fixture(scope="module")
def free(questions: Path, share_folder) -> Path:
    """The miniature world's questions without their choices."""
    return share_folder("free_form_world", lambda folder: convert_free_form(questions, folder / "set")) / "set"


def list_words(model: str, arguments: str, task: str, metadata: dict, output: Path, *options: object) -> list[object]:
    words = ["--model", model, "--model_args", arguments, "--tasks", task, "--metadata", json.dumps(metadata)]
    return [*words, "--log_samples", "--output_path", output, *options]


def read_samples(folder: Path, task: str = "") -> list[dict]:
    return [json.loads(line) for file in sorted(folder.rglob(f"samples_{task}*.jsonl")) for line in file.open()]


def answer_by_seed(prompt: str, payload: dict) -> str:
    """A server whose model says the same for the same prompt and seed."""
    return f" town {payload['seed'] % 4}\nas is known."


@pytest.fixture(scope="module")
def asked(free: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs: greedy and sampled with `hf`; with `hf-prefix` and a cache, then again with another seed; chats; of a server."""
    folder = tmp_path_factory.mktemp("answers")
    metadata = {"questions": str(free), "domain": "annals"}
    device = ("--device", "cpu", "--batch_size", "8", "--limit", ASKED)
    own = f"pretrained={BASE}"
    sampled = metadata | {"samples": SAMPLES, "temperature": 1.0}
    cached = (*device, "--use_cache", folder / "cache")
    server = Server(answer_by_seed)
    served = f"model=some-chat-model,base_url={server.address}/chat/completions"
    few = ("--limit", 2, "--apply_chat_template")
    runs = [
        list_words("hf", own, "selfalign_answer_greedy", metadata, folder / "greedy", *device),
        list_words("hf", own, "selfalign_answer", sampled, folder / "sampled", *device),
        list_words("hf-prefix", own, "selfalign_answer", sampled, folder / "first", *cached),
        list_words("hf-prefix", own, "selfalign_answer", sampled, folder / "again", *cached, "--seed", 7),
        list_words("hf-prefix", own, "selfalign_answer_greedy_chat", metadata, folder / "chat", *device, "--chat_template"),
        list_words("local-chat-completions", served, "selfalign_answer_chat", metadata, folder / "served", *few),
    ]
    for words in runs:
        run(*words)
    (folder / "payloads.json").write_text(json.dumps(server.payloads))
    server.shutdown()
    server.server_close()
    return folder


def test_the_prompt_shows_dev_questions_of_the_group_and_a_draw_shuffles_them(free: Path, asked: Path) -> None:
    dev = read_free_form(free, ["annals"], ["dev"]).to_dicts()
    sample = read_samples(asked / "greedy")[0]
    prompt, settings = sample["arguments"]["gen_args_0"].values()
    shown = "".join(f"{row['question']}\nAnswer: {row['answers'][0]}\n\n" for row in dev[:5])
    assert prompt == f"The following are questions about annals.\n\n{shown}{sample['doc']['question']}\nAnswer:"
    assert settings["until"] == ["\n"]
    assert settings["max_gen_toks"] == 32
    assert (settings["do_sample"], settings["temperature"]) == (False, 0.0)
    prompts = [write_prompt(task, task.dataset["test"][0]) for task in (
        build("selfalign_answer_greedy", questions=str(free), domain="annals", draw=draw) for draw in (0, 1, 2))]  # fmt: skip
    assert prompts[0] == prompt
    assert len(set(prompts)) == 3
    chat = read_samples(asked / "chat")[0]
    assert chat["arguments"]["gen_args_0"]["arg_0"].endswith(f"USER: {chat['doc']['question']} ASSISTANT:")
    assert chat["doc"]["phase"] == "base_chat"


@pytest.mark.parametrize("folder", ["sampled", "first"])
def test_all_samples_are_logged_sampled_at_the_temperature_alone_and_measured(asked: Path, folder: str) -> None:
    samples = read_samples(asked / folder)
    assert len(samples) == ASKED
    different = 0
    for sample in samples:
        doc = sample["doc"]
        (texts,) = sample["resps"]
        assert len(texts) == SAMPLES
        assert doc["samples"] == [cut_line(text) for text in texts]
        assert (doc["greedy"], doc["temperature"], doc["draw"], doc["phase"]) == (False, 1.0, 0, "base_probe")
        assert sample["exact_match"] == sum(is_accepted(text, doc["answers"]) for text in doc["samples"]) / SAMPLES
        settings = sample["arguments"]["gen_args_0"]["arg_1"]
        assert settings["do_sample"] is True
        assert (settings["temperature"], settings["top_k"], settings["top_p"]) == (1.0, 0, 1.0)
        assert settings["repetition_penalty"] == 1.0
        different += len(set(doc["samples"])) > 1
    assert different > ASKED // 2
    results = json.loads(next((asked / folder).rglob("results_*.json")).read_text())["results"]["selfalign_answer"]
    assert results["exact_match,none"] == pytest.approx(sum(sample["exact_match"] for sample in samples) / ASKED)
    assert results["distinct,none"] > 1


def test_the_base_model_knows_its_world_and_greedy_answers_are_sampled_most(asked: Path) -> None:
    greedy, sampled = read_samples(asked / "greedy"), read_samples(asked / "sampled")
    assert sum(sample["exact_match"] for sample in greedy) >= ASKED * 0.4
    most = [max(set(sample["doc"]["samples"]), key=sample["doc"]["samples"].count) for sample in sampled]
    assert sum(one["doc"]["samples"] == [other] for one, other in zip(greedy, most, strict=True)) > ASKED // 2


def test_the_cache_of_hf_prefix_keeps_sampled_texts_through_another_run(asked: Path) -> None:
    first, again = (read_samples(asked / name) for name in ("first", "again"))
    assert [sample["doc"]["samples"] for sample in first] == [sample["doc"]["samples"] for sample in again]


def test_a_server_gets_a_seed_a_sample_without_which_all_would_be_alike(asked: Path) -> None:
    payloads = [payload for _, payload in json.loads((asked / "payloads.json").read_text())]
    assert len(payloads) == 2 * 16
    assert sorted(payload["seed"] for payload in payloads) == sorted([*range(16)] * 2)
    for payload in payloads:
        assert (payload["temperature"], payload["max_tokens"]) == (0.7, 32)
        assert "\n" in payload["stop"]
        assert not {"do_sample", "top_k", "repetition_penalty"} & payload.keys()
    for sample in read_samples(asked / "served"):
        assert sample["doc"]["samples"] == [f"town {seed % 4}" for seed in range(16)]
        assert sample["distinct"] == 4
        assert sample["doc"]["model"] == "some-chat-model"


def test_the_reader_takes_all_of_it(asked: Path, free: Path) -> None:
    table = read_answers([asked / name for name in ("greedy", "sampled", "chat", "served")])
    assert table.height == 3 * ASKED + 2
    questions = read_free_form(free, ["annals"], ["test"]).head(ASKED)
    greedy = table.filter(pl.col("task") == "selfalign_answer_greedy")
    assert greedy.select("id", "question", "answers", "question_hash").equals(
        questions.select("id", "question", "answers", "question_hash")
    )
    assert table.group_by("task").agg(pl.col("samples").list.len().unique().first()).sort("task").rows() == [
        ("selfalign_answer", SAMPLES), ("selfalign_answer_chat", 16), ("selfalign_answer_greedy", 1),
        ("selfalign_answer_greedy_chat", 1),
    ]  # fmt: skip


def test_a_line_is_the_whole_answer_however_it_is_punctuated() -> None:
    assert cut_line(" St. Louis, Missouri\nNext") == "St. Louis, Missouri"
    assert cut_line("\n\n Rome \n\nbecause") == "Rome"
    assert cut_line(" \n ") == ""


class Writer:
    """A model that writes the number of its calls, and can be made to fail; only what writing in batches needs of it."""

    name = "hf-prefix"
    rank, batch_size_per_gpu, device = 0, 2, type("Device", (), {"type": "cpu"})

    def __init__(self, calls: int = 1000) -> None:
        self.calls, self.seeds = calls, []

    def tok_encode(self, text: str) -> list[int]:
        return list(text.encode())

    def write(self, requests: list[Instance], keys: list[object]) -> Iterator[list[str]]:
        return write_in_batches(self, self.ask, requests, keys)

    def ask(self, requests: list[Instance], _: bool) -> list[str]:
        import torch

        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.seeds.append(torch.initial_seed())
        return [f"{request.args[0]} {torch.randint(10**9, (1,)).item()}" for request in requests]


def make_requests(prompts: int, samples: int) -> list[Instance]:
    settings = {"temperature": 1.0, "do_sample": True}
    requests = [Instance("generate_until", {}, (f"prompt {i}", settings), 0) for i in range(prompts)]
    return [request for request in requests for _ in range(samples)]


def test_a_killed_run_goes_on_and_draws_other_random_numbers(tmp_path: Path) -> None:
    requests = make_requests(3, 16)
    killed = Writer(calls=2)
    with pytest.raises(KeyboardInterrupt):
        write_texts(killed, killed.write, requests, Responses(tmp_path, 0, b"model"), True)
    assert killed.batch_size_per_gpu == 2
    resumed = Writer()
    texts = write_texts(resumed, resumed.write, requests, Responses(tmp_path, 0, b"model"), True)
    assert len(resumed.seeds) == (48 - 16) // 8  # what was written is not asked again
    assert not set(resumed.seeds) & set(killed.seeds)
    assert len(set(texts)) == 48
    assert [text.rsplit(" ", 1)[0] for text in texts] == [request.args[0] for request in requests]
    third = Writer(calls=0)
    assert write_texts(third, third.write, requests, Responses(tmp_path, 0, b"model"), True) == texts
    other = Writer()  # another model has nothing there
    assert write_texts(other, other.write, requests, Responses(tmp_path, 0, b"other"), True)
    assert len(other.seeds) == 6
    more = Writer()  # more samples go on from those that there are
    grown = write_texts(more, more.write, make_requests(3, 20), Responses(tmp_path, 0, b"model"), True)
    assert [grown[i * 20 + k] for i in range(3) for k in range(16)] == texts


def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Small(Writer):
        def ask(self, requests: list[Instance], quiet: bool) -> list[str]:
            if self.batch_size_per_gpu > 1:
                raise RuntimeError("CUDA out of memory.")
            return super().ask(requests, quiet)

    model = Small()
    assert len(set(write_texts(model, model.write, make_requests(2, 4), None, True))) == 8
    assert model.batch_size_per_gpu == 2


def build_small(tmp_path: Path, task: str = "selfalign_answer", **metadata: object) -> AnswerTask:
    folder = tmp_path / "small"
    if not folder.exists():
        write_free_form(folder, {"herbs": {"test": make_free_form(4), "dev": make_free_form(6, "dev")}})
    return build(task, questions=str(folder), **metadata)


@pytest.mark.parametrize(
    ("task", "metadata", "told"),
    [
        ("selfalign_answer", {"temperature": 0}, "16 samples at temperature 0 would be one answer 16 times"),
        ("selfalign_answer", {"temperature": -1}, "temperature -1 is no number from 0 on"),
        ("selfalign_answer", {"temperature": "hot"}, "temperature 'hot' is no number from 0 on"),
        ("selfalign_answer", {"samples": 0}, "samples 0 is not a whole number from 1 on"),
        ("selfalign_answer", {"samples": 2.5}, "samples 2.5 is not a whole number"),
        ("selfalign_answer", {"order": 1}, "takes no order, which is for multiple-choice questions"),
        ("selfalign_answer", {"sample": 8}, "'samples' is meant"),
        ("selfalign_answer_greedy", {"samples": 8}, "takes no samples"),
        ("selfalign_answer_greedy", {"temperature": 0.7}, "takes no temperature"),
        ("selfalign_answer", {"splits": ["train"]}, "no questions in train"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, task: str, metadata: dict, told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        build_small(tmp_path, task, **metadata)
    assert "\n" not in str(raised.value)


def test_temperatures_of_the_command_line_are_checked_too(tmp_path: Path) -> None:
    sampled, greedy = build_small(tmp_path), build_small(tmp_path, "selfalign_answer_greedy")
    sampled.set_config("generation_kwargs", {"temperature": 0}, update=True)
    with pytest.raises(UserError, match="16 samples at temperature 0"):
        sampled.check()
    greedy.set_config("generation_kwargs", {"temperature": 0.5}, update=True)
    with pytest.raises(UserError, match="its temperature is 0"):
        greedy.check()
    sampled.set_config("generation_kwargs", {"temperature": 0.5}, update=True)
    sampled.check()
    doc = sampled.dataset["test"][0]
    assert sampled.construct_requests(doc, "p", metadata=("t", 0, 16)).arguments[1]["temperature"] == 0.5


def test_fewer_answers_than_asked_are_an_error(tmp_path: Path) -> None:
    task = build_small(tmp_path, samples=4)
    doc = task.dataset["test"][0]
    assert task.process_results(dict(doc), [["green 0", "green", "the green 0", "red"]])["exact_match"] == 0.5
    for answers in ([["green"] * 3], [["green"] * 3 + [None]], [[]]):
        with pytest.raises(UserError, match=r"made_up/herbs id 'q-0': 4 answers were asked for, and the model gave [03]"):
            task.process_results(dict(doc), answers)


def test_a_dev_question_that_is_asked_is_not_shown_and_too_few_are_an_error(tmp_path: Path) -> None:
    rows = make_free_form(8)
    twin = [rows[0] | {"id": "twin"}]
    folder = write_free_form(tmp_path / "set", {"herbs": {"test": twin + rows[6:], "dev": rows[:6]}})
    task = build("selfalign_answer_greedy", questions=str(folder))
    task.check()
    assert write_prompt(task, task.dataset["test"][0]).count(rows[0]["question"]) == 1
    few = build(
        "selfalign_answer_greedy", questions=str(write_free_form(tmp_path / "f", {"a": {"test": rows[6:], "dev": rows[:3]}}))
    )
    with pytest.raises(UserError, match="has 3 questions"):
        few.check()
    none = write_free_form(tmp_path / "none", {"a": {"test": twin}})
    with pytest.raises(UserError, match="has no dev questions"):
        build("selfalign_answer_greedy", questions=str(none))
    assert write_prompt(build("selfalign_answer_greedy", questions=str(none), shots=0), twin[0] | {"domain": "a"})


def test_the_wrong_kind_of_question_set_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    free = write_free_form(tmp_path / "free", {"herbs": {"test": make_free_form(3), "dev": make_free_form(6, "d")}})
    choices = write_questions(tmp_path / "c", {"herbs": {"test": make_questions(3), "dev": make_questions(6, name="d")}})

    def refuse(task: str, questions: Path, *options: str) -> str:
        # The model has a configuration, and no weights that could be loaded.
        model = tmp_path / "weightless"
        if not model.exists():
            model.mkdir()
            for file in BASE.iterdir():
                if "safetensors" not in file.name:
                    (model / file.name).write_bytes(file.read_bytes())
        return refuse_run(*list_words("hf", f"pretrained={model}", task, {"questions": str(questions)}, tmp_path, *options))

    for task in ("selfalign_probe", "selfalign_probe_cloze", "selfalign_probe_cyclic"):
        assert "these are free-form questions" in refuse(task, free)
    assert "these are free-form questions" in refuse("selfalign_chat", free, "--apply_chat_template")
    for task in ("selfalign_answer", "selfalign_answer_greedy"):
        assert "these are multiple-choice questions" in refuse(task, choices)


def test_samples_that_are_all_alike_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert average_distinct([1.0] * 30) == 1
    assert "No question got two different answers" in caplog.text
    caplog.clear()
    average_distinct([1.0] * 29 + [2.0])
    average_distinct([1.0] * 3)
    assert not caplog.records


def test_a_prompt_longer_than_the_window_is_left_out_or_refused(tmp_path: Path) -> None:
    rows = make_free_form(6)
    rows[5]["question"] = "What " + "very " * 600 + "long question is this?"
    folder = write_free_form(tmp_path / "set", {"herbs": {"test": rows, "dev": make_free_form(6, "d")}})
    metadata = {"questions": str(folder), "pretrained": str(BASE), "max_length": 512}
    with pytest.raises(UserError, match=r"prompt and a text of 32 tokens.*'q-5'"):
        build("selfalign_answer", **metadata).check()
    task = build("selfalign_answer", **metadata, too_long="skip")
    task.check()
    assert len(task.list_asked({})) == 5


def test_every_template_stops_at_the_lines_end_alone() -> None:
    text = (ROOT / "lm_eval_tasks/templates/_answer.yaml").read_text()
    assert 'until: ["\\n"], max_gen_toks: 32' in text
