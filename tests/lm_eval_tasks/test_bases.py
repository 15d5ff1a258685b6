"""What real base models have, and the miniature one has not, is told before weights are read, or is asked right in silence."""

import logging

import pytest
import torch
from bases import add_tokens, copy_base, give_template, resize_base, write_gguf
from checked import CHAT, CLOZE, PROBE
from conftest import BASE, VOCABULARY
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from pack import build, make_questions, run, write_questions
from transformers import AutoModelForCausalLM

from lm_eval_tasks.checking.base import say_replaced
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.models.prefix import PrefixLM
from lm_eval_tasks.running import model as checks
from lm_eval_tasks.running.model import check_model


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    sets = {"herbs": {"dev": make_questions(5, 4, "dev"), "test": make_questions(6, 4, "test")}}
    return write_questions(tmp_path_factory.mktemp("bank") / "herbs", sets)


def check(task, questions, pretrained, **metadata):
    build(task, questions=str(questions), pretrained=str(pretrained), **metadata).check()


def refuse(*words, **settings):
    with pytest.raises(UserError) as raised:
        check_model(*words, **settings)
    return str(raised.value)


# --- GGUF


def test_a_gguf_file_and_its_folder_say_how_they_are_asked(tmp_path):
    folder = write_gguf(tmp_path / "model")
    for name in (folder, folder / "model.Q4_1.gguf"):
        message = refuse("hf-prefix", {"pretrained": str(name)})
        assert message.startswith(f"{name} holds its weights as a GGUF file")
        assert f"pretrained={folder},gguf_file=model.Q4_1.gguf (" in message
        assert "trained from the expanded weights alone" in message


def test_a_gguf_file_that_is_not_there_or_cannot_be_read_is_told(tmp_path, monkeypatch):
    folder = write_gguf(tmp_path / "model")
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    assert "pip install gguf" in refuse("hf", {"pretrained": str(folder), "gguf_file": "model.Q4_1.gguf"})
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: name)
    message = refuse("hf", {"pretrained": str(folder), "gguf_file": "other.gguf"})
    assert message == f"gguf_file=other.gguf is not in {folder}, which has model.Q4_1.gguf. Mend it in --model_args."


def test_a_model_that_has_a_gguf_file_beside_its_weights_is_asked_as_it_is(tmp_path):
    folder = copy_base(tmp_path / "model")
    (folder / "model.gguf").write_bytes(b"GGUF")
    check_model("hf", {"pretrained": str(folder)})


# --- quantised


@pytest.mark.parametrize("method", ["awq", "gptq", "nobodys"])
def test_a_quantised_model_whose_library_is_missing_is_told_before_it_is_loaded(method, tmp_path):
    settings = {"quant_method": method, "bits": 4, "group_size": 128}
    message = refuse("hf", {"pretrained": str(copy_base(tmp_path / "model", quantization_config=settings))})
    assert message.startswith(f"{tmp_path / 'model'} is quantised ({method}), and cannot be loaded here: ")
    assert message.endswith(". Or name the model as it was before it was quantised.")


def test_a_quantised_model_that_can_be_loaded_is_said_to_be_one(tmp_path, caplog):
    pytest.importorskip("bitsandbytes")
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    check_model("hf", {"pretrained": str(copy_base(tmp_path / "model", quantization_config=settings))})
    assert "is quantised (bitsandbytes): what is asked is the rounded model" in caplog.text


# --- rows and tokens


def test_a_tokenizer_larger_than_the_vocabulary_is_refused_with_the_numbers(tmp_path, questions):
    narrow = copy_base(tmp_path / "narrow", vocab_size=VOCABULARY - 103)
    with pytest.raises(UserError) as raised:
        check(CLOZE, questions, narrow)
    assert str(raised.value).startswith(
        f"{CLOZE}: the tokenizer of {narrow} has tokens up to id {VOCABULARY - 1}, and the model a vocabulary of "
        f"{VOCABULARY - 103} rows, so that it "
        "cannot read 103 of them; the first is "
    )
    padded = add_tokens(tmp_path / "padded", pad_token="<blank>")
    with pytest.raises(
        UserError, match=f"up to id {VOCABULARY}, and the model a vocabulary of {VOCABULARY} rows, so that it cannot read 1 of"
    ):
        check(CLOZE, questions, padded)


def test_an_added_token_that_no_text_names_is_passed_over(tmp_path, questions):
    model = add_tokens(tmp_path / "model", "<image>")  # as Gemma's tokenizer has one more than its text models
    check(CLOZE, questions, model)
    named = [row | {"question": f"What does <image> show, {row['id']}?"} for row in make_questions(6, 4, "test")]
    bank = write_questions(tmp_path / "bank", {"herbs": {"dev": make_questions(5, 4, "dev"), "test": named}})
    with pytest.raises(UserError, match=f"cannot read 1 of them; the first is '<image>', id {VOCABULARY}"):
        check(CLOZE, bank, model)


def test_a_vocabulary_larger_than_the_tokenizer_is_asked_in_silence_as_transformers_computes_it(tmp_path, questions, caplog):
    folder = resize_base(tmp_path / "wide", VOCABULARY + 105)
    check_model("hf-prefix", {"pretrained": str(folder), "dtype": "float32"})
    check(CLOZE, questions, folder)
    assert not caplog.records
    pairs = [("The root of the moss", " grows"), ("The root of the moss", " is dry"), ("Answer:", " A")]
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    one, other = (
        [value for value, _ in kind(pretrained=str(folder), device="cpu", batch_size=2).loglikelihood(asked, True)]
        for kind in (HFLM, PrefixLM)
    )
    assert one == pytest.approx(other, abs=1e-5)
    lm = HFLM(pretrained=str(folder), device="cpu")
    context, choice = lm._encode_pair(*pairs[0])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[*context, *choice]])).logits[0]
    assert logits.shape[-1] == VOCABULARY + 105  # probability is shared with the rows that no token names
    known = logits.log_softmax(-1)[len(context) - 1 : -1].gather(-1, torch.tensor(choice)[:, None]).sum().item()
    assert one[0] == pytest.approx(known, abs=1e-5)


# --- window


def test_a_window_shorter_than_five_demonstrations_says_what_to_do(tmp_path, questions):
    short = copy_base(tmp_path / "short", max_position_embeddings=64)
    with pytest.raises(UserError) as raised:
        check(PROBE, questions, short)
    message = str(raised.value)
    assert message.startswith(
        f"{PROBE}: 6 question(s), with prompt and longest choice, exceed the 64 tokens that {short} reads"
    )
    for remedy in ("(--num_fewshot)", '{"too_long": "skip"}', "fewer demonstrations than 5", "`cloze`", "a longer window"):
        assert remedy in message
    with pytest.raises(UserError, match="None of what is asked would be left: show fewer demonstrations than 5"):
        check(PROBE, questions, short, too_long="skip")


# --- a chat model


def test_a_chat_model_s_own_template_is_said_to_be_replaced_once(tmp_path, questions, caplog, monkeypatch):
    chat = give_template(tmp_path / "chat")
    words = ["--model", "hf-prefix", "--model_args", f"pretrained={chat}", "--device", "cpu", "--limit", "1", "--chat_template"]
    words += ["--metadata", f'{{"questions": "{questions}"}}', "--tasks", f"{CHAT},selfalign_chat_cloze"]
    say_replaced.cache_clear()
    monkeypatch.setattr("lm_eval_tasks.running.asking.simple_evaluate", lambda **_: None)
    with caplog.at_level(logging.WARNING, "lm_eval_tasks.checking.base"):
        run(*words)
        assert [record.name for record in caplog.records].count("lm_eval_tasks.checking.base") == 1
        assert f"{chat} has a chat template of its own, as chat models have." in caplog.text
        caplog.clear()
        run(*(str(BASE).join(word.split(str(chat))) for word in words))
        assert "chat template of its own" not in caplog.text


# --- a processor without bfloat16


@pytest.mark.parametrize(
    ("dtype", "able", "device", "said"),
    [
        ("bfloat16", False, "cpu", True),
        ("bfloat16", True, "cpu", False),
        ("float32", False, "cpu", False),
        ("auto", False, "cpu", False),
        ("bfloat16", False, "cuda:0", False),
    ],
)
def test_bfloat16_is_said_to_be_slow_where_the_processor_has_none(dtype, able, device, said, caplog, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": able, "amx_bf16": False})
    check_model("hf", {"pretrained": str(BASE), "dtype": dtype}, device=device)
    assert ("neither AVX512-BF16 nor AMX" in caplog.text) == said


def test_bfloat16_weights_are_known_where_no_dtype_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    check_model("hf", {"pretrained": str(copy_base(tmp_path / "model", dtype="bfloat16"))}, device="cpu")
    assert "is asked in bfloat16" in caplog.text
