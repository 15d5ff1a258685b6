"""A choice that is one token with the end of the prompt would be scored in part: told before a model is loaded."""

import pytest
from bases import copy_base
from checked import CHAT_CLOZE, CLOZE, ROWS, make_tokenizer, refuse
from conftest import BASE
from lm_eval.models.huggingface import HFLM
from pack import build, make_questions, write_questions
from tiny import LLAMA, make_model
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig

from lm_eval_tasks.contracts.errors import UserError

# What tokenizers join in different ways: white space, signs, digits, other scripts, and what the next ones know.
TEXTS = [
    " moor",
    " [fen",
    " [fen]",
    " ...",
    " :",
    " 3.0",
    " \nx",
    "  two",
    " 그러나",
    " 答案：",
    " \ufdfa",
    " the moor",
    " é",
    " ́x",
]
CUES = {CLOZE: ("Answer:", "Which?\nAnswer:"), CHAT_CLOZE: ("ASSISTANT:", "USER: Which? ASSISTANT:")}


def make_joining(text):
    """A tokenizer that splits no text into words first, and so joins what the text has often."""
    return make_tokenizer(pre_tokenizers.Split("\x00", "isolated"), text=text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sentencepiece):
    folder = tmp_path_factory.mktemp("choices")
    copy_base(folder / "model", vocab_size=ROWS)
    (folder / "model/model.safetensors").unlink()
    template = (BASE / "chat_template.jinja").read_text()
    made = {
        "base": AutoTokenizer.from_pretrained(BASE),
        "sentencepiece": AutoTokenizer.from_pretrained(sentencepiece),
        "signs": make_joining(" [fen : [fen"),
        "words": make_joining("\nAnswer: the moor ASSISTANT: the moor"),
        "lines": make_joining("\nAnswer: "),  # joins the space to what comes before it only after a new line
        "spaces": make_joining(":   "),
    }
    for name, tokenizer in made.items():
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder / name)
    return folder


def write_set(folder, texts):
    """A question set of which each test question has one of the texts among its choices."""
    test = make_questions(len(texts), 2, "test")
    for row, text in zip(test, texts, strict=True):
        row["choices"] = [text, "quite another one"]
    return write_questions(folder, {"herbs": {"dev": make_questions(5, 2, "dev"), "test": test}})


@pytest.mark.parametrize("task", [CLOZE, CHAT_CLOZE])
@pytest.mark.parametrize("family", ["base", "sentencepiece", "signs", "words", "lines", "spaces"])
def test_what_is_refused_is_what_lm_eval_would_divide_within_a_token(folder, tmp_path, family, task):
    tokenizer = AutoTokenizer.from_pretrained(folder / family)
    lm = HFLM(pretrained=make_model(LlamaConfig, LLAMA, len(tokenizer)), tokenizer=tokenizer, add_bos_token=False)

    def is_joined(text):
        pairs = [(lm.tok_encode(cue + text), lm._encode_pair(cue, text)) for cue in CUES[task]]
        return any(whole != start + scored or not scored for whole, (start, scored) in pairs)

    questions = write_set(tmp_path / "set", [text[1:] for text in TEXTS])
    metadata = {"questions": str(questions), "pretrained": str(folder / "model"), "tokenizer": str(folder / family)}
    made, joined = build(task, **metadata), 0
    for i, text in enumerate(TEXTS):
        asked = {"samples": [i], "apply_chat_template": made.chat}
        if is_joined(text) or is_joined(" quite another one"):
            with pytest.raises(UserError, match=r"choice\(s\) as one token with the end of the prompt"):
                made.check(asked)
            joined += 1
        else:
            made.check(asked)
    assert (joined > 0) == (family not in ("base", "sentencepiece"))


def test_the_message_counts_the_choices_that_are_asked_and_names_the_first(folder, tmp_path):
    write_set(tmp_path / "set", ["moor"] * 6 + ["[fen]"])
    options = {"questions": tmp_path / "set", "model_args": f",tokenizer={folder / 'signs'}"}
    message = refuse(folder, CLOZE, **options)
    assert message == (
        f"{CLOZE}: the tokenizer of {folder / 'model'} writes the beginning of 1 choice(s) as one token with the end of the "
        "prompt, and only what comes after it would be scored; the first is ' [fen]' after 'Answer:', of made_up/herbs id "
        "'test-6'. Write these choices otherwise, leave their questions out, or ask with a task that scores letters (its name "
        """has no `cloze`). --metadata '{"may_leave_out": 0.143}' leaves them out."""
    )
    assert "cannot be loaded" in refuse(folder, CLOZE, "--limit", "6", **options)  # of what is asked
    assert "cannot be loaded" in refuse(folder, CLOZE, questions=tmp_path / "set")
