"""The tokenizers of real models: training and evaluation see the same tokens of real questions, and begin and end alike."""

import json
import re
from functools import lru_cache
from pathlib import Path

import datasets
import polars as pl
import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from lm_eval_tasks.checking.choices import divide_choices
from lm_eval_tasks.contracts.prompts import (
    BARE_CUE,
    CHAT_TEMPLATE,
    LETTERS,
    SCORING,
    list_spaced_choices,
    list_spaced_letters,
    write_cloze_answer,
    write_cloze_question,
    write_listing,
    write_response,
    write_user_turn,
)
from lm_eval_tasks.models.beginning import compare_beginnings, score_with
from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.models.tree import count_common
from recipes.showing.sequences import Asker
from recipes.training.tokens import IGNORED, begins, prepare_rows

WHOLE = 9_999
ODD = r"^[^A-Za-z]|^\s|\s$|[^\x00-\x7f]"  # of the beginning of a choice, or anywhere in it
PLAIN, EACH = 100, 40
REASON = "That is known.\n\nIt is so."


@lru_cache
def load(model: Path) -> PreTrainedTokenizerBase:
    """A model's tokenizer with the template of training."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return tokenizer


@lru_cache
def make_asker(model: Path, add_bos_token: bool | None = None) -> Asker:
    return Asker(load(model), add_bos_token)


@pytest.fixture
def questions(banks) -> list[dict]:
    return read_questions(banks)


@lru_cache
def read_questions(banks: Path) -> list[dict]:
    """Real questions: English ones as they come, and those with a choice that begins oddly; Chinese ones."""
    columns = {"question": pl.col("question"), "choices": pl.col("choices"), "answer": pl.col("answer").cast(pl.Int64)}
    english = pl.read_parquet(banks / "mmlu/all/test-*.parquet").select(**columns)
    odd = english.select(pl.col("choices").list.eval(pl.element().str.contains(ODD)).list.any()).to_series()
    letters = [pl.col(letter) for letter in "ABCD"]
    chinese = pl.concat(
        pl.read_parquet(banks / f"ceval/{subject}/val-*.parquet").select(
            question="question", choices=pl.concat_list(letters), answer=pl.lit(0, pl.Int64)
        )
        for subject in ("logic", "modern_chinese_history")
    )
    tables = [english.filter(~odd).sample(PLAIN, seed=1), english.filter(odd).sample(4 * EACH, seed=1), chinese.head(EACH)]
    rows = pl.concat(tables).to_dicts()
    rows[0]["choices"] = [" sage", "  12.5 %", "“so”", "(a leaf)"]
    return rows


def make_rows(questions: list[dict], response_format: str, reason: str | None) -> list[dict]:
    """Training rows, each with another choice than the one before it."""
    rows = []
    for number, doc in enumerate(questions):
        position = number % len(doc["choices"])
        said = write_response(position, doc["choices"][position], reason, response_format)
        rows.append(
            {
                "id": str(number),
                "prompt": [{"role": "user", "content": write_user_turn(doc, SCORING[response_format])}],
                "completion": [{"role": "assistant", "content": said}],
                "response_format": response_format,
                "explanation_from": "gold" if reason else None,
            }
        )
    return rows


def train(tokenizer, rows: list[dict], add_bos_token: bool | None = None) -> datasets.Dataset:
    return prepare_rows(tokenizer, datasets.Dataset.from_list(rows), WHOLE, add_bos_token)


def test_what_is_scored_after_a_prompt_is_the_first_of_what_is_trained(model, questions):
    """And the last is the token at which generation stops."""
    tokenizer, asker = load(model), make_asker(model)
    stops = json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    rows = [row for kind in SCORING for reason in (None, REASON) for row in make_rows(questions, kind, reason)]
    for number, (row, mine) in enumerate(zip(rows, train(tokenizer, rows), strict=True)):
        doc = questions[number % len(questions)]
        choices = (list_spaced_letters if row["response_format"] == "letter" else list_spaced_choices)(doc)
        asked = asker.ask(row["prompt"][0]["content"], choices[number % len(questions) % len(choices)])
        start = mine["labels"].count(IGNORED)
        assert mine["input_ids"][:start] == asked.prompt
        assert mine["labels"][start:][: len(asked.scored)] == asked.scored != []
        said = row["completion"][0]["content"]
        assert tokenizer.decode(mine["labels"][start:]) == f" {said}{tokenizer.eos_token}"
        assert mine["labels"].count(tokenizer.eos_token_id) == 1
        assert mine["labels"][-1] in (stops if isinstance(stops, list) else [stops])


def test_qwen_alone_joins_a_full_stop_with_the_blank_line_after_it(model):
    assert (len(load(model)(".\n\n", add_special_tokens=False)["input_ids"]) == 1) is ("qwen" in model.name)


@pytest.mark.parametrize("add_bos_token", [None, True, False])
def test_training_and_evaluation_begin_alike(model, questions, add_bos_token):
    """Gemma with the beginning of sequence, the others without; or as is said, where lm-eval loads the tokenizer so."""
    tokenizer = load(model)
    begun = "gemma" in model.name if add_bos_token is None else add_bos_token
    assert begins(tokenizer, add_bos_token) is begun
    rows = make_rows(questions[:8], "letter", None)
    asks, asker = make_prefix(model, add_bos_token), make_asker(model, add_bos_token)
    for row, mine in zip(rows, train(tokenizer, rows, add_bos_token), strict=True):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        asked, scored = asks._encode_pair(prompt, " A")
        assert (asked, scored) == tuple(asker.ask(row["prompt"][0]["content"], " A"))
        assert mine["input_ids"][: len(asked)] == asked
        assert mine["input_ids"].count(tokenizer.bos_token_id) == begun == (asked[0] == tokenizer.bos_token_id)


@lru_cache
def make_prefix(model: Path, add_bos_token: bool | None = None) -> PrefixLM:
    """`hf-prefix` with the tokenizer that lm-eval loads, and no model."""
    made = object.__new__(PrefixLM)
    made.backend, made.custom_prefix_token_id, made.add_bos_token = "causal", None, add_bos_token
    made._create_tokenizer(str(model), None, revision="main", add_bos_token=add_bos_token)
    made._encoded, made._continuations, made._joined, made._said = {}, {}, set(), set()
    return made


def write_prompts(questions: list[dict], shots: int = 5) -> tuple[str, list[str]]:
    """What few-shot prompts share, its demonstrations ending as real ones do, and the prompts."""
    shown = [doc | {"choices": [f"{choice}." for choice in doc["choices"]]} for doc in questions[:shots]]
    parts = [f"{write_cloze_question(doc)} {write_cloze_answer(doc)}\n\n" for doc in shown]
    shared = "".join(["The following are questions about engineering.\n\n", *parts])
    return shared, [shared + write_cloze_question(doc) for doc in questions[shots:]]


def test_hf_prefix_divides_prompt_and_choice_as_hf_does(model, questions):
    _, prompts = write_prompts(questions)
    pairs = [
        (prompt, choice) for prompt, doc in zip(prompts, questions[5:], strict=True) for choice in list_spaced_choices(doc)
    ]
    mine = make_prefix(model)
    mine._encode_ahead(pairs)
    for pair in pairs[:: len(pairs) // 100]:
        assert mine._encode_pair(*pair) == HFLM._encode_pair(mine, *pair)
    assert not mine._joined


def test_demonstrations_are_shared_whatever_is_joined_at_their_end(model, questions):
    """A full stop and the blank line may be one token; the questions that follow have it all the same."""
    shared, prompts = write_prompts(questions)
    encode = make_prefix(model).tok_encode
    ids = [encode(prompt) for prompt in prompts if not re.match(r"\s", prompt[len(shared) :])]
    common = min(count_common(tuple(ids[0]), tuple(other)) for other in ids)
    assert make_prefix(model).tok_decode(ids[0][:common]).startswith(shared)


def test_no_choice_is_joined_with_what_stands_before_it(model, questions):
    tokenizer = load(model)
    texts = [text for doc in questions for text in list_spaced_choices(doc)]
    texts += [f" {letter}" for letter in LETTERS]
    for cue in (f"\n{BARE_CUE['probe']}", f" {BARE_CUE['chat']}"):
        assert divide_choices(cue, texts, tokenizer)[1] == set()


@pytest.mark.launched
def test_gemma_needs_its_beginning_and_smollm_does_not(gemma, smollm, questions):
    texts = [write_listing(doc) for doc in questions[1:5]]
    lost = {}
    for folder in (gemma, smollm):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        begun, bare = compare_beginnings(score_with(model), AutoTokenizer.from_pretrained(folder), texts)
        lost[folder] = bare - begun
    assert lost[gemma] > 0.5
    assert abs(lost[smollm]) < 0.2
