"""What leaves this machine names none of its paths and holds no secret: one filter for cards, manifests, trackers and pages."""

from pathlib import Path

import pytest

from lm_eval_tasks.contracts.markdown import Markdown, make_environment, quote_code
from lm_eval_tasks.contracts.public import find_secret, make_public

# Made up, and put together here so that no scanner of secrets takes them for real ones.
HEX = "0123456789abcdef" * 2 + "01234567"
HUB = "hf_" + "SecretOfTheTests" * 2
OPENAI = "sk-" + "proj-Abc123" * 4
GITHUB = "ghp_" + "Secret0fTests" * 3
FINE = "github_pat_" + "11ABCDEFG0_secret" * 3
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----"

PATHS = [
    ("/home/anna/x.jsonl", "x.jsonl"),
    ("/home/anna/My Documents/x.jsonl", "x.jsonl"),
    ("/home/anna/x/", "x"),
    ("~/x/y", "y"),
    ("~anna/base", "base"),
    (r"C:\Users\anna\x", "x"),
    ("C:/Users/anna/x", "x"),
    (r"D:\My Documents\anna\x.csv", "x.csv"),
    (r"\\?\C:\Users\anna\x", "x"),
    (r"see C:\Users\Anna Muster\x.csv, please", "see x.csv, please"),
    (r"\\srv\share\anna\x", "x"),
    ("//srv/share/anna/x", "x"),
    (r"see \\srv\share\anna\x now", "see x now"),
    ("smb://srv/home/anna/x", "x"),
    ("sftp://srv/home/anna/x and y", "x and y"),
    ("file:///home/anna/q", "q"),
    ("file:/home/anna/q", "q"),
    ("file://localhost/home/anna/q", "q"),
    ("file:///C:/Users/anna/q", "q"),
    ("--dir=/home/anna/my models/x", "--dir=x"),
    (r"--dir=C:\Users\anna\my models\x", "--dir=x"),
    (r"--dir=\\srv\share\anna\my models\x", "--dir=x"),
    ("HF_HOME=/home/anna/hf", "HF_HOME=hf"),
    ("PYTHONPATH=/home/anna/a:/home/anna/b", "PYTHONPATH=a:b"),
    ("pretrained=/home/anna/m,dtype=auto", "pretrained=m,dtype=auto"),
    ("pretrained=/home/anna/my models/m,peft=/home/anna/a,dtype=auto", "pretrained=m,peft=a,dtype=auto"),
    ('{"questions": "/home/anna/q"}', '{"questions": "q"}'),
    ('{"questions": "/home/anna muster/my set"}', '{"questions": "my set"}'),
    (r'{"path": "C:\\Users\\anna\\m", "n": 1}', '{"path": "m", "n": 1}'),
    ("/home/anna/a:/home/anna/b", "a:b"),
    ("host:/home/anna/b", "host:b"),
    ("/home/anna/a /home/anna/b", "b"),
    ("from /home/anna/a, and (/home/anna/b)", "from a, and (b)"),
    ("`/home/anna/x`", "`x`"),
    ("/home/anna/übung/ä.txt", "ä.txt"),
    ("one\n/home/anna/x", "one\nx"),
    ("/home/anna/x\nand another line", "x\nand another line"),
]
SECRETS = [
    (f"--x={HUB}", "--x=hf_..."),
    (f"it is {OPENAI}.", "it is sk-...."),
    (f"https://{GITHUB}@github.com/anna/m", "https://...@github.com/anna/m"),
    (f"remote {GITHUB}", "remote ghp_..."),
    (f"remote {FINE}", "remote github_pat_..."),
    (f"AWS_ACCESS_KEY_ID={AWS}", "AWS_ACCESS_KEY_ID=..."),
    (f"the key {AWS} of anna", "the key AKIA... of anna"),
    (f"wandb login {HEX}", "wandb login ..."),
    (f"key: {HEX}", "key: ..."),
    (f"WANDB_API_KEY={HEX}", "WANDB_API_KEY=..."),
    ("MY_SERVICE_TOKEN=abc", "MY_SERVICE_TOKEN=..."),
    ("export DB_PASSWORD='a b c'; run", "export DB_PASSWORD=...; run"),
    ("LICENCE_KEY=aaaa-bbbb-cccc", "LICENCE_KEY=..."),
    ('{"hub_token": "abc", "n": 1}', '{"hub_token": ..., "n": 1}'),
    ("a: 1\napi_key: abc\nb: 2", "a: 1\napi_key: ...\nb: 2"),
    ("sft.py --hub_token abc --seed 1", "sft.py --hub_token ... --seed 1"),
    ("pretrained=anna/m,token=abc,dtype=auto", "pretrained=anna/m,token=...,dtype=auto"),
    ("http://anna:word@proxy.org:3128", "http://...@proxy.org:3128"),
    ("HTTPS_PROXY=http://anna:w@rd@10.0.0.1:80/", "HTTPS_PROXY=http://...@10.0.0.1:80/"),
    ("anna:word@proxy.org:3128", "...@proxy.org:3128"),
    ("https://store.org/a?X-Amz-Signature=abc&x=1", "https://store.org/a?X-Amz-Signature=...&x=1"),
    ("Authorization: Bearer abc.d3f-ghi", "Authorization: Bearer ..."),
    ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "ey..."),
    (f"{PEM}\nabc\n{PEM.replace('BEGIN', 'END')}\n", f"{PEM}...\n"),
    ("Anna Muster <anna@work.org>", "Anna Muster <...>"),
    ("user.email=anna.muster+git@mail.work.org", "user.email=..."),
]  # fmt: skip
PUBLIC = [
    "https://huggingface.co/anna/m",
    "see https://huggingface.co/anna/m, and s3://bucket/anna",
    "https://medium.com/@anna/x",
    "git@github.com:anna/m.git",
    "ssh://git@github.com/anna/m.git",
    "meta-llama/Llama-2-7b-hf",
    "anna/m@main",
    "recipes/miniworld/base",
    "../shared/q",
    "./q",
    "a / b",
    "and/or, 1/2",
    "joined by '/' or '//'",
    "<s></s>",
    r"\n is a new line",
    "sk-learn-is-a-library-of-python",
    "add_bos_token=False,eos_token=</s>",
    "--eos_token <|im_end|> --pad_token <pad>",
    "pretrained=m,max_tokens=256,tokenizer=m",
    "the token: make one that may write; a token: B",
    "export HF_TOKEN=$HF_TOKEN",
    "token=None, password=null, use_auth_token=True",
    f"revision {HEX}",
    "2.0 nats a trained token ([training_log.csv](training_log.csv))",
]


@pytest.mark.parametrize(("text", "shown"), [*PATHS, *SECRETS, *((text, text) for text in PUBLIC)])
def test_of_paths_the_last_part_is_shown_and_of_secrets_nothing(text: str, shown: str) -> None:
    assert make_public({"x": [text, 1, None]}) == {"x": [shown, 1, None]}
    assert make_public({text: 0}) == {shown: 0}
    assert make_public(shown) == shown


@pytest.mark.parametrize("text", [text for text, _ in PATHS])
def test_paths_stay_on_this_machine(text: str) -> None:
    assert make_public(text, keep_paths=True) == text
    assert find_secret(text) is None


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_secrets_are_found_and_stay_nowhere(text: str, shown: str) -> None:
    assert make_public(text, keep_paths=True) == shown
    assert (find_secret(text) is None) == ("mail" in text or "<" in shown)  # an address is no secret
    assert find_secret(shown) is None


def test_the_names_of_a_structure_tell_its_secrets() -> None:
    words = ["sft.py", "--hub_token", "a", "--hub_token=b", "--trackio_token=c", "--tokenizer", "d", "--eos_token", "e"]
    shown = ["sft.py", "--hub_token", "...", "--hub_token=...", "--trackio_token=...", "--tokenizer", "d", "--eos_token", "e"]
    assert make_public(words) == shown
    assert make_public(["--password", "--seed", "1"]) == ["--password", "--seed", "1"]
    settings = {"hub_token": "a", "eos_token": "</s>", "api_key": "", "password": None, "where": Path("/home/anna/x")}
    assert make_public(settings) == {"hub_token": "...", "eos_token": "</s>", "api_key": "", "password": None, "where": "x"}
    assert make_public(({"/home/anna/x"}, ("~/y",))) == [["x"], ["y"]]


def test_the_home_of_who_runs_it_may_have_a_name_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna muster")
    assert make_public("see /home/anna muster/study/x and y") == "see x and y"
    assert make_public("/home/anna muster/x") == "x"


def test_no_value_of_a_card_passes_the_filter_by(tmp_path: Path) -> None:
    """Whatever a template shows, plain, as code, as a block or as ready markdown."""
    shown = "{{ a }} {{ a|code }} {{ a|code(cell=true) }} {{ a|markdown }} {{ b }}\n{{ a|block('sh') }}"
    (tmp_path / "card.md").write_text(shown)
    card = make_environment(tmp_path, quote_code).get_template("card.md")
    text = card.render(a=f"/home/anna muster/x {HUB}", b=Markdown("| `/home/anna/y` |"))
    assert text == "`x hf_...` `x hf_...` `x hf_...` x hf_... | `y` |\n```sh\nx hf_...\n```"
