"""What is trained, token by token: the paper's ids and mask, TRL's, and what evaluation asks and scores."""

import datasets
import pytest
from conftest import BASE
from families import FAMILIES, load_family, make_pair, make_pairs, train_byte_level
from instruction_sets import make_row
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.prompts import CHAT_TEMPLATE, list_spaced_choices, list_spaced_letters
from recipes.showing.sequences import Asker
from recipes.training.tokens import IGNORED, begins, load_tokenizer, prepare_rows

ROOMY = 100_000
BORDER = " ASSISTANT: "  # by which the paper's code tells the response from the prompt
DOC = {
    "choices": ["sage", "lemon balm (fresh)", "12.5 %", "Ökonomie", "a leaf.", "漢字", "“so”"]
}  # some merge with what follows

LETTERED = [make_row(i, reason="Because.\n\nIt is." if i % 2 else None, id=f"letter {i}") for i in range(4)]
TEXTS = [make_pair(f"text {i}", "Which?", choice + "\n\nSo it is." * (i % 2)) for i, choice in enumerate(DOC["choices"] * 2)]
ROWS = [*make_pairs(200), *LETTERED, *TEXTS]


def make_rows(rows: list[dict]) -> datasets.Dataset:
    return datasets.Dataset.from_list([{name: row[name] for name in ("id", "prompt", "completion")} for row in rows])


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, sentencepiece):
    return load_family(request.param, sentencepiece)


@pytest.fixture(scope="module")
def prepared(tokenizer) -> datasets.Dataset:
    return prepare_rows(tokenizer, make_rows(ROWS), ROOMY)


@pytest.fixture(scope="module")
def asker(tokenizer) -> Asker:
    return Asker(tokenizer)


def read(row: dict) -> tuple[str, str]:
    return row["prompt"][0]["content"], row["completion"][0]["content"]


# --- the same as the paper's


def write_as_the_paper(row: dict) -> str:
    """FastChat's text of a row: the paper's training code takes the conversation that FastChat has for Vicuna."""
    conversation = pytest.importorskip("fastchat.conversation", reason="needs FastChat's own template: pip install fschat")
    talk = conversation.get_conv_template("vicuna_v1.1")
    for role, turn in zip(talk.roles, read(row), strict=True):
        talk.append_message(role, turn)
    return talk.get_prompt()


def mask_as_the_paper(tokenizer, text: str, ids: list[int]) -> list[int]:
    """The paper's labels, from the description of how its script counts.

    The first token has no label, where a beginning of sequence would be. An instruction has as many tokens as the text up to
    "ASSISTANT: ", less two: for the beginning of sequence and for the lone blank, which is no token where a response follows.
    The paper's tokenizers add no beginning, but as the count starts behind the first token, the sum is right: masked is what
    stands up to the colon, neither more nor less. A row whose counts do not add up has no label at all.
    """
    labels, start = [IGNORED, *ids[1:]], 1
    for turn in filter(None, text.split("</s>")):
        parts = turn.split(BORDER)
        if len(parts) != 2:
            break
        asked = len(tokenizer(parts[0] + BORDER, add_special_tokens=False)["input_ids"]) - 2
        labels[start : start + asked] = [IGNORED] * asked
        start += len(tokenizer(turn, add_special_tokens=False)["input_ids"])
    return labels if start == len(ids) else [IGNORED] * len(ids)


def test_ids_and_mask_are_the_papers(tokenizer, prepared) -> None:
    compared = 0
    for row, mine in zip(ROWS, prepared, strict=True):
        text = write_as_the_paper(row)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert mine["input_ids"] == ids
        parts = [turn.split(BORDER)[1:] for turn in text.split("</s>")]
        if parts == [[read(row)[1]], []]:  # else see the next test
            assert mine["labels"] == mask_as_the_paper(tokenizer, text, ids)
            compared += 1
    assert compared > 150


def test_rows_that_the_papers_code_loses_are_trained(tokenizer) -> None:
    """Its script looks for its separators in what user and assistant say, too."""
    rows = [make_pair("0", "What does an ASSISTANT: do?", "It helps."), make_pair("1", "How?", "So: ASSISTANT: Thus.")]
    for row, mine in zip(rows, prepare_rows(tokenizer, make_rows(rows), ROOMY), strict=True):
        assert set(mask_as_the_paper(tokenizer, write_as_the_paper(row), mine["input_ids"])) == {IGNORED}
        trained = [label for label in mine["labels"] if label != IGNORED]
        assert tokenizer.decode(trained).strip() == f"{read(row)[1]}</s>"


# --- the same as TRL's


def test_the_rows_are_those_of_trls_trainer(tokenizer, prepared, tmp_path) -> None:
    settings = {"max_length": None, "bf16": False, "use_cpu": True, "activation_checkpointing": False, "report_to": "none"}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )

    trls = SFTTrainer(
        model, SFTConfig(str(tmp_path), **settings), train_dataset=make_rows(ROWS), processing_class=tokenizer
    ).train_dataset
    assert prepared.column_names == ["input_ids", "labels"]
    assert prepared["input_ids"][:] == trls["input_ids"][:]
    assert prepared["labels"][:] == trls["labels"][:]


# --- the same as evaluation's


def test_evaluation_asks_what_is_trained(tokenizer, prepared, asker) -> None:
    for row, mine in zip(ROWS, prepared, strict=True):
        asked, said = read(row)
        start = mine["labels"].count(IGNORED)
        assert asker.ask(asked, " A").prompt == mine["input_ids"][:start]
        assert mine["labels"] == [IGNORED] * start + mine["input_ids"][start:]
        assert mine["labels"][-1] == tokenizer.eos_token_id
        assert mine["input_ids"].count(tokenizer.eos_token_id) == 1 + (asked + "\0" + said).count("</s>")
        assert tokenizer.bos_token_id not in mine["input_ids"]


def test_the_letter_that_is_scored_is_the_first_token_trained(prepared, asker) -> None:
    found = 0
    for row, mine in zip(ROWS, prepared, strict=True):
        if row["id"].startswith("letter"):
            (scored,) = asker.ask(read(row)[0], list_spaced_letters({"choices": "abcd"})[found]).scored
            assert next(label for label in mine["labels"] if label != IGNORED) == scored
            found += 1
    assert found == 4


def test_the_text_that_is_scored_is_the_first_of_what_is_trained(prepared, asker) -> None:
    found = 0
    for row, mine in zip(ROWS, prepared, strict=True):
        if row["id"].startswith("text"):
            scored = asker.ask(read(row)[0], list_spaced_choices(DOC)[found % len(DOC["choices"])]).scored
            trained = [label for label in mine["labels"] if label != IGNORED]
            assert trained[: len(scored)] == scored
            assert len(trained) > len(scored) > 0
            found += 1
    assert found == 2 * len(DOC["choices"])


def test_a_beginning_is_trained_as_the_tokenizer_writes_it_or_as_a_recipe_says_and_asked_alike(sentencepiece) -> None:
    """lm-eval adds in chats, too, what the tokenizer adds by default, or what `add_bos_token` says."""
    tokenizer = AutoTokenizer.from_pretrained(sentencepiece, add_bos_token=True)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    begin, row = tokenizer.bos_token_id, make_row(1)
    assert tokenizer("A")["input_ids"][0] == begin
    asker, begun = Asker(tokenizer), {None: True, False: False, True: True}
    for asker.add_bos_token, begins_so in begun.items():
        (mine,) = prepare_rows(tokenizer, make_rows([row]), ROOMY, asker.add_bos_token)
        prompt, scored = asker.ask(read(row)[0], " B")
        assert mine["input_ids"][: len(prompt) + 1] == [*prompt, *scored]
        assert mine["input_ids"].count(begin) == begins_so == begins(tokenizer, asker.add_bos_token)
        assert mine["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    # A template that writes the beginning has it once, in training and in evaluation, whatever the tokenizer adds.
    tokenizer.chat_template = asker.tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    (mine,) = prepare_rows(tokenizer, make_rows([row]), ROOMY)
    for asker.add_bos_token in (None, False):
        prompt, scored = asker.ask(read(row)[0], " B")
        assert mine["input_ids"][: len(prompt) + 1] == [*prompt, *scored]
        assert prompt.count(begin) == 1


# --- kept for the next time


def test_rows_are_tokenized_once_and_anew_for_another_template(tmp_path) -> None:
    make_rows(make_pairs(20)).to_parquet(tmp_path / "rows.parquet")
    rows = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))

    def tokenize(template: str) -> datasets.Dataset:
        tokenizer = load_tokenizer(str(BASE))
        tokenizer.chat_template = template
        return prepare_rows(tokenizer, rows, ROOMY)

    first, again = tokenize(CHAT_TEMPLATE.read_text()), tokenize(CHAT_TEMPLATE.read_text())
    assert first.cache_files == again.cache_files != []
    other = tokenize(CHAT_TEMPLATE.read_text().replace("A chat", "The chat"))
    assert other.cache_files != first.cache_files
    assert other["input_ids"][:] != first["input_ids"][:]


# --- what is refused


@pytest.fixture
def base():
    tokenizer = load_tokenizer(str(BASE))
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return tokenizer


def test_a_row_that_is_too_long_is_named_and_not_cut(base) -> None:
    rows = make_rows([make_row(i, reason="So. " * i) for i in range(8)])
    lengths = [len(ids) for ids in prepare_rows(base, rows, ROOMY)["input_ids"]]
    assert prepare_rows(base, rows, max(lengths)).num_rows == 8
    with pytest.raises(UserError) as caught:
        prepare_rows(base, rows, lengths[3])
    assert f"4 of 8 rows (id '7', '6', '5', ...) are longer than --max_length {lengths[3]}" in str(caught.value)
    assert f"the longest has {lengths[7]} tokens" in str(caught.value)
    assert f"set --max_length {lengths[7]} or more, or build the instruction set without them" in str(caught.value)
    with pytest.raises(UserError, match=r"^1 of 8 rows \(id '7'\) are longer"):
        prepare_rows(base, rows, lengths[7] - 1)


def test_a_tokenizer_without_an_end_is_refused(base) -> None:
    base.eos_token = None
    with pytest.raises(UserError, match=r"miniworld/base has no end-of-sequence token.* Name a base model"):
        prepare_rows(base, make_rows([make_row(0)]), ROOMY)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("' ASSISTANT:' -}}", "' ASSISTANT: ' -}}", r"prompt ends in ' ASSISTANT: ', but .* one that ends in ' ASSISTANT:'"),
        ("' ASSISTANT:' -}}", "' ASSISTANT' -}}", "prompt ends in ' 0 ASSISTANT', but"),
        ("' ASSISTANT:' -}}", "'  ASSISTANT:' -}}", "where the prompt has 'Ġ', the text has 'ĠASSISTANT'"),
        (" + eos_token -}}", " + eos_token + ' ' -}}", r"ends in 'Ġ' and not in the end-of-sequence token '</s>'"),
        (" + eos_token -}}", " -}}", r"a text that ends in '0' and not in the end-of-sequence token '</s>'"),
        ("{%- if messages[0]", "{{- bos_token + bos_token -}}{%- if messages[0]", "beginning-of-sequence token '<s>' twice"),
        ("{%- if messages[0]", "{{ raise_exception('no') }}{%- if messages[0]", r"does not take the rows \(no\)"),
    ],
)
def test_a_template_that_trains_what_is_not_asked_is_refused(base, old: str, new: str, told: str) -> None:
    assert old in base.chat_template
    base.chat_template = base.chat_template.replace(old, new)
    rows = make_rows([make_row(4 * i) for i in range(5)])
    with pytest.raises(UserError, match=told) as caught:
        prepare_rows(base, rows, ROOMY)
    said = str(caught.value)
    assert said.startswith("the chat template") or "5 of 5 rows (id '0', '4', '8', ...) would train" in said
    assert "\n" not in str(caught.value)


def test_tokens_that_merge_across_the_boundary_are_refused() -> None:
    """A tokenizer that has read many smiles knows ":]" as one token."""
    tokenizer = train_byte_level()
    tokenizer.chat_template = CHAT_TEMPLATE.read_text().replace("' ASSISTANT: ' +", "' ASSISTANT:' +")
    rows = make_rows([make_pair("a", "x", "] sage"), make_pair("b", "x", "sage")])
    with pytest.raises(UserError, match=r"1 of 2 rows \(id 'a'\) would train .* where the prompt has ':', the text has ':\]'"):
        prepare_rows(tokenizer, rows, ROOMY)


USER, SAID = {"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes."}


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (
            "prompt",
            "Hm?",
            r"prompt that is not user and assistant by turns, the user last; the first is 'Hm\?'\. Write \[\{'role': 'user'",
        ),
        ("completion", "Yes.", "completion that is not one turn of the assistant"),
        ("prompt", [USER, SAID], "prompt that is not user and assistant by turns"),
        ("prompt", [USER, {"role": "system", "content": "Be kind."}, USER], "prompt that is not user and"),
        ("prompt", [{"content": "Hm?"}], "prompt that is not user and assistant by turns"),
        ("prompt", [], "prompt that is not user and assistant by turns"),
        ("prompt", None, "prompt that is not user and assistant by turns"),
        ("prompt", [USER | {"content": " \n"}], "an empty prompt"),
        ("completion", [SAID | {"role": "tool"}], "completion that is not one turn of the assistant"),
        ("completion", [SAID | {"tool_calls": [{"name": "look"}]}], "completion that is not one turn of the assistant"),
        ("completion", [SAID | {"content": None}], "completion that is not one turn of the assistant"),
        ("completion", [SAID | {"content": ""}], "have an empty completion"),
        ("completion", [SAID | {"content": " \n"}], "have an empty completion"),
    ],
)
def test_rows_that_are_no_question_and_answer_are_refused(base, column: str, value, told: str) -> None:
    row = {"id": "x", "prompt": [USER], "completion": [SAID]} | {column: value}
    with pytest.raises(UserError, match=told) as caught:
        prepare_rows(base, datasets.Dataset.from_list([row]), ROOMY)
    assert str(caught.value).startswith("1 of 1 rows (id 'x') have a")


def test_the_end_that_a_tokenizer_adds_is_not_doubled(base) -> None:
    """Such a tokenizer adds to plain texts alone; the template writes what is trained."""
    end = ("</s>", base.eos_token_id)
    base.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[end])
    (mine,) = prepare_rows(base, make_rows([make_row(0)]), ROOMY)
    assert mine["input_ids"].count(base.eos_token_id) == 1
