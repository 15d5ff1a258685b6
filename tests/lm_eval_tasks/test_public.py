"""What leaves this machine names none of its paths and holds no token: one filter for every card, manifest and page."""

import pytest

from lm_eval_tasks.contracts.public import hide_tokens, shorten_paths

TOKEN = "hf_" + "SecretOfTheTests" * 2
PATHS = [
    ("/home/anna/x.jsonl", "x.jsonl"),
    ("/home/anna/My Documents/x.jsonl", "x.jsonl"),
    ("/home/anna/x/", "x"),
    ("~/x/y", "y"),
    ("~anna/base", "base"),
    (r"C:\Users\anna\x", "x"),
    ("C:/Users/anna/x", "x"),
    (r"D:\My Documents\anna\x.csv", "x.csv"),
    (r"\\srv\share\anna\x", "x"),
    ("//srv/share/anna/x", "x"),
    (r"see \\srv\share\anna\x now", "see x now"),
    ("file:///home/anna/q", "q"),
    ("file:/home/anna/q", "q"),
    ("file://localhost/home/anna/q", "q"),
    ("--dir=/home/anna/my models/x", "--dir=x"),
    (r"--dir=C:\Users\anna\my models\x", "--dir=x"),
    (r"--dir=\\srv\share\anna\my models\x", "--dir=x"),
    ("HF_HOME=/home/anna/hf", "HF_HOME=hf"),
    ("pretrained=/home/anna/m,dtype=auto", "pretrained=m,dtype=auto"),
    ("pretrained=/home/anna/my models/m,peft=/home/anna/a,dtype=auto", "pretrained=m,peft=a,dtype=auto"),
    ('{"questions": "/home/anna/q"}', '{"questions": "q"}'),
    (r'{"path": "C:\\Users\\anna\\m", "n": 1}', '{"path": "m", "n": 1}'),
    ("/home/anna/a:/home/anna/b", "a:b"),
    ("host:/home/anna/b", "host:b"),
    ("/home/anna/a /home/anna/b", "b"),
    ("from /home/anna/a, and (/home/anna/b)", "from a, and (b)"),
    ("`/home/anna/x`", "`x`"),
    ("/home/anna/übung/ä.txt", "ä.txt"),
    ("one\n/home/anna/x", "one\nx"),
    # What is no path of this machine stays.
    ("https://huggingface.co/anna/m", "https://huggingface.co/anna/m"),
    ("see https://huggingface.co/anna/m, and s3://bucket/anna", "see https://huggingface.co/anna/m, and s3://bucket/anna"),
    ("git@github.com:anna/m.git", "git@github.com:anna/m.git"),
    ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
    ("recipes/miniworld/base", "recipes/miniworld/base"),
    ("../shared/q", "../shared/q"),
    ("./q", "./q"),
    ("a / b", "a / b"),
    ("and/or, 1/2", "and/or, 1/2"),
    ("<s></s>", "<s></s>"),
    (r"\n is a new line", r"\n is a new line"),
]


@pytest.mark.parametrize(("text", "shown"), PATHS)
def test_of_an_absolute_path_the_last_part_is_shown(text: str, shown: str) -> None:
    assert shorten_paths({"x": [text, 1, None]}) == {"x": [shown, 1, None]}
    assert shorten_paths({text: 0}) == {shown: 0}
    assert shorten_paths(shown) == shown


def test_the_values_of_token_options_are_hidden() -> None:
    words = ["sft.py", "--hub_token", "a", "--hub_token=b", "--trackio_token=c", "--tokenizer", "d", f"--x={TOKEN}"]
    shown = ["sft.py", "--hub_token", "...", "--hub_token=...", "--trackio_token=...", "--tokenizer", "d", "--x=hf_..."]
    assert hide_tokens(words) == shown
