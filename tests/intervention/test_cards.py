"""A card shows text as text, what a set holds, where it comes from and what its parts are under."""

import re
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml
from made_up import Study, make_rows

from intervention.commands.build import build
from intervention.instructions import INSTRUCTION_SCHEMA
from intervention.publishing.cards import OPTIONS
from intervention.publishing.folders import write_dataset
from intervention.publishing.licences import find_terms
from lm_eval_tasks.contracts.markdown import Markdown, escape_text, format_table, quote_code

HOSTILE = "{{ 7 * 7 }} | <b onclick='x'> `code`\n# *no* [link](x) &amp; \x1b[31m"
CONFIG = {
    "domain": "herbs",
    "source": HOSTILE,
    "model": "/home/anna/models/Llama-2-7b-hf",
    "scoring": "letter",
    "response_format": "letter",
    "conditions": ["incompatible", "mix-0.05", "mix-0.4", "contextualized"],
    "threshold": 0.5,
    "size": 3,
    "general": 2,
    "general_share": 0.5,
    "explanations": "none",
    "match": "letter",
    "allow_missing": True,
    "keep_moved": False,
}
TERMS = [
    find_terms("questions", "xiezhi"),
    find_terms("general instructions", "vicgalle/alpaca-gpt4"),
    find_terms("explanations", "/home/anna/models/Llama-2-7b-hf"),
]


def write(folder: Path, **facts: object) -> str:
    table = pl.DataFrame({"id": ["1"]})
    balance = format_table(pl.DataFrame({"condition": [HOSTILE], "questions": [3]}))
    folder.mkdir()
    facts = {"config": CONFIG, "inputs": {"questions": "ab12"}, "seed": 4, "notes": [HOSTILE], "balance": balance} | facts
    write_dataset(folder, {"herbs_incompatible": {"train": table}}, "instructions.md.j2", **facts)
    return (folder / "README.md").read_text()


def test_todays_build_writes_the_whole_card(tmp_path: Path) -> None:
    study = Study(tmp_path, make_rows(200))
    study.build(conditions=["harmonious", "mix"], ratios=[0.1], size=10)
    card = (tmp_path / "out/README.md").read_text()
    for words in (
        "herbs_harmonious",
        "| mix-0.1    | 10 ",
        "`made_up`",
        "SHA-256",
        "@inproceedings{ren2024learning",
        "@software",
    ):
        assert words in card
    assert all(f"`{column}`" in card for column in INSTRUCTION_SCHEMA)
    assert (
        datasets.load_dataset(str(tmp_path / "out"), "herbs_mix-0.1", cache_dir=str(tmp_path / "cache"))["train"].num_rows == 20
    )


def test_the_header_is_what_the_hub_expects(tmp_path: Path) -> None:
    header = yaml.safe_load(write(tmp_path / "a", terms=TERMS).split("---\n")[1])
    assert header["license"] == "cc-by-nc-sa-4.0"
    assert header["task_categories"] == ["text-generation"]
    assert "instruction-tuning" in header["tags"]
    assert header["size_categories"] == ["n<1K"]
    assert "language" not in header  # of xiezhi there are versions in two languages
    header = yaml.safe_load(write(tmp_path / "b", terms=[find_terms("questions", "mmlu")]).split("---\n")[1])
    assert (header["license"], header["language"]) == ("mit", ["en"])
    header = yaml.safe_load(write(tmp_path / "c", licence="my-terms").split("---\n")[1])
    assert (header["license"], header["license_name"]) == ("other", "my-terms")
    assert "license" not in yaml.safe_load(write(tmp_path / "d").split("---\n")[1])


def test_the_card_gives_every_parts_terms(tmp_path: Path) -> None:
    card = write(tmp_path / "a", terms=TERMS)
    assert "| questions | xiezhi | cc-by-nc-sa-4.0 |" in card
    assert "| general instructions | vicgalle/alpaca-gpt4 | cc-by-nc-4.0 | Written by GPT-4:" in card
    assert "| explanations | Llama-2-7b-hf | llama2 | Its licence forbids" in card
    assert "restrictive of them, `cc-by-nc-sa-4.0`." in card
    assert "but llama2 asks for other terms" in card
    assert "were not recorded" in write(tmp_path / "b")


def test_differences_stand_before_and_after_matching(tmp_path: Path) -> None:
    before, after = (format_table(pl.DataFrame({"measure": [name], "d": [1.0]})) for name in ("long ago", "by now"))
    card = write(tmp_path / "a", differences=after, before=before)
    assert (
        card.index("after matching")
        < card.index("| by now ")
        < card.index("The same before matching")
        < card.index("| long ago")
    )
    card = write(tmp_path / "b", differences=after, before=None)
    assert "| by now " in card
    assert "matching" not in card.split("## Where")[0].split("## What differs")[1]


def test_text_from_data_stays_text(tmp_path: Path) -> None:
    text = write(tmp_path / "a", terms=TERMS).split("---\n", 2)[2]
    assert r"| {{ 7 \* 7 }} \| &lt;b onclick='x'&gt; \`code\` # \*no\* \[link\](x) &amp;amp; \[31m |" in text  # in a table
    assert r"- {{ 7 \* 7 }} \| &lt;b onclick" in text  # in a note
    assert (
        "| the train questions of `herbs` from ``{{ 7 * 7 }} \\| <b onclick='x'> `code` # *no* [link](x) &amp; [31m`` |" in text
    )
    assert "/home/anna" not in text + write(tmp_path / "b", notes=["1 text of /home/anna/log is missing."])
    assert "\x1b" not in text
    assert not re.search(r"(?<!`)<b", text.replace("``{{ 7 * 7 }} \\| <b onclick", ""))


def test_the_cards_command_has_the_options_of_build(tmp_path: Path) -> None:
    inputs = dict.fromkeys(("questions", "probes-1", "probes-2", "contexts", "context_probes"), "ab12")
    command = write(tmp_path / "a", inputs=inputs).split("```\n")[1:]
    (command,) = (block for block in command if block.startswith("python -m intervention build "))
    files = "--questions QUESTIONS --probes PROBES --contexts CONTEXTS --context-probes CONTEXT-PROBES --general GENERAL"
    assert command.startswith(f"python -m intervention build {files} \\\n  --domain herbs \\\n")
    for words in ("--conditions incompatible,mix,contextualized ", "--ratio 0.05 \\\n  --ratio 0.4 ", "--allow-missing \\\n"):
        assert words in command
    assert "keep-moved" not in command
    known = {name.replace("_", "-") for name in build.__annotations__}
    assert set(re.findall(r"--([a-z-]+)", command)) <= known
    assert {name.replace("_", "-") for name in OPTIONS} <= known


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("self_aligning and mix-0.1", "self_aligning and mix-0.1"),
        ("a | b", r"a \| b"),
        ("_so_ *so*", r"\_so\_ \*so\*"),
        ("1 < 2 & 3", "1 &lt; 2 & 3"),
        ("&lt;", "&amp;lt;"),
        ("two\nlines", "two lines"),
        ("C:\\x", r"C:\\x"),
    ],
)
def test_markdown_is_escaped(text: str, shown: str) -> None:
    assert escape_text(text) == shown
    assert escape_text(Markdown(text)) == text


def test_code_is_fenced_by_more_backticks_than_it_holds() -> None:
    assert quote_code("a|b") == "`a|b`"
    assert quote_code("a|b", cell=True) == r"`a\|b`"
    assert quote_code("``") == "``` `` ```"
