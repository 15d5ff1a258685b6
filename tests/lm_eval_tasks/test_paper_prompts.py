"""The paper's prompts byte for byte, against a plain program of what they are, and its scored token."""

import gzip
import json
import random
import shutil

import pytest
from conftest import ROOT
from pack import build, make_questions, write_prompt, write_questions
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.running.harness import run_harness
from lm_eval_tasks.tasks import find_delimiter

REFERENCE = ROOT.parent / "shared" / "reference" / "questions"
DOMAINS = ("medicine", "history", "engineering", "jurisprudence")


def write_paper_prompt(topic, dev, question, shots=5, seed=42):
    """The paper's program, from its description."""

    def block(row):
        text = row["question"]
        for i in range(len(row["choices"])):
            text += "\n" + "ABCDEFGHIJ"[i] + ". " + row["choices"][i]
        return text + "\nAnswer:"

    random.seed(seed)
    indexes = list(range(len(dev)))
    random.shuffle(indexes)
    prompt = "The following are multiple choice questions about " + topic + ". Please choose the correct answer. \n\n"
    for index in indexes[:shots]:
        gold = dev[index]["answer"]
        prompt += block(dev[index]) + "ABCDEFGHIJ"[gold] + ". " + dev[index]["choices"][gold] + "\n\n"
    return prompt + block(question)


def read_released(domain, split):
    with gzip.open(REFERENCE / domain / f"{split}.jsonl.gz", "rt") as lines:
        keys = ("question", "choices", "answer")
        return [{"id": f"{split}-{i}", "source": "x"} | {k: json.loads(line)[k] for k in keys} for i, line in enumerate(lines)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory, sentencepiece):
    """A tiny Llama with a SentencePiece tokenizer."""
    folder = shutil.copytree(sentencepiece, tmp_path_factory.mktemp("llama") / "model")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=32000, max_position_embeddings=4096, **sizes)).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the paper's released questions are not on this machine")
@pytest.mark.parametrize("domain", DOMAINS)
def test_prompts_of_all_released_questions_are_the_papers(tmp_path, domain):
    rows = {split: read_released(domain, split) for split in ("dev", "test")}
    questions = write_questions(tmp_path / "questions", {domain: rows})
    task = build(f"selfalign_{domain}_probe_paper", questions=str(questions))
    assert len(task.dataset["test"]) == len(rows["test"]) >= 250
    for doc, row in zip(task.dataset["test"], rows["test"], strict=True):
        assert write_prompt(task, doc) == write_paper_prompt(domain, rows["dev"], row)


@pytest.mark.parametrize("choices", [2, 5, 10])
def test_prompts_with_other_numbers_of_choices_are_the_papers_and_a_draw_is_another_seed(tmp_path, choices):
    rows = {"dev": make_questions(9, choices, "dev"), "test": make_questions(20, choices, "test")}
    questions = write_questions(tmp_path / "questions", {"history": rows, "law": {"dev": make_questions(1, name="law")}})
    for draw, shots in ((0, 5), (3, 4)):
        task = build("selfalign_history_probe_paper", questions=str(questions), draw=draw, shots=shots)
        for doc, row in zip(task.dataset["test"], rows["test"], strict=True):
            assert write_prompt(task, doc) == write_paper_prompt("history", rows["dev"], row, shots, 42 + draw)
            assert task.choices_of(doc) == [f" {letter}" for letter in "ABCDEFGHIJ"[:choices]]


@pytest.mark.parametrize("family", ["sentencepiece", "byte-level"])
def test_the_scored_token_is_the_papers_with_tokenizers_of_both_kinds(tmp_path, llama, family):
    model = llama if family == "sentencepiece" else make_byte_level(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = {"dev": make_questions(5, 10, "dev"), "test": make_questions(3, 10, "test")}
    questions = write_questions(tmp_path / "questions", {"history": rows})
    task = build("selfalign_history_probe_paper", questions=str(questions), pretrained=str(model))
    for doc in task.dataset["test"]:
        prompt = write_prompt(task, doc)
        start = len(tokenizer(prompt)["input_ids"])
        scored = [tokenizer(prompt + choice)["input_ids"][start:] for choice in task.choices_of(doc)]
        assert scored == [[tokenizer(letter)["input_ids"][-1]] for letter in "ABCDEFGHIJ"]
    assert task.config.target_delimiter == (" " if family == "sentencepiece" else "")


def make_byte_level(folder):
    """A tokenizer of GPT-2's kind, in which "A" and " A" are two tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Answer: A B C D E F G H I J. luck salt gold " * 9], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


def test_a_tokenizer_that_cannot_score_the_papers_token_is_refused(tmp_path):
    """The miniature base's writes an end of word: neither " A" nor "A" after "Answer:" need be `tokenizer("A")`'s last."""
    model = make_byte_level(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens([":B", " B"])
    tokenizer.save_pretrained(model)
    assert find_delimiter(tokenizer, "A") == ""
    assert find_delimiter(tokenizer, "AB") is None
    rows = {"dev": make_questions(5, 4, "dev"), "test": make_questions(3, 4, "test")}
    questions = write_questions(tmp_path / "questions", {"history": rows})
    with pytest.raises(UserError, match=r"selfalign_history_probe_paper: the paper scores the last token of tokenizer\('A'\)"):
        build("selfalign_history_probe_paper", questions=str(questions), pretrained=str(model))


def test_a_paper_task_is_asked_with_a_sentencepiece_tokenizer(tmp_path, llama):
    rows = {"dev": make_questions(5, 5, "dev"), "test": make_questions(4, 5, "test")}
    questions = write_questions(tmp_path / "questions", {"history": rows})
    words = ["run", "--model", "hf", "--model_args", f"pretrained={llama},add_bos_token=True", "--device", "cpu"]
    words += ["--tasks", "selfalign_history_probe_paper", "--metadata", json.dumps({"questions": str(questions)})]
    run_harness([*words, "--log_samples", "--output_path", str(tmp_path / "out")])
    table = read_probes(tmp_path / "out")
    assert (table.height, set(table["phase"]), set(table["probs"].list.len())) == (4, {"base_probe"}, {5})
