"""What a user's machine may be called and may be told, and nobody else is to read: paths and secrets for tests."""

from collections.abc import Iterable, Mapping

HOME = "/home/anna muster/study"
SHARE = r"\\nas7\annas\study"
WINDOWS = r"C:\Users\Anna Muster\study"
HUB = "hf_" + "SecretOfTheTests" * 2  # put together here, so that no scanner takes it for a real one
OPENAI = "sk-" + "proj-Abc123" * 4
# No text that leaves holds one of these.
PRIVATE = ("muster", "annas", "nas7", "/home/", "C:\\", HUB.lower(), OPENAI.lower(), "s3cret", "work.org")
COMMAND = [
    f"{HOME}/recipes/sft.py", "--config", f"{WINDOWS}\\full.yaml", f"--output_dir={SHARE}\\runs\\one",
    "--note", f"with {OPENAI}",
    "--hub_token", HUB, "--trackio_token=S3cret-of-mine", "--proxy", "http://anna:S3cret@proxy.example.org:3128",
    "--author", "Anna M. <anna@work.org>", "--env", "MY_API_KEY=S3cret", f"file://{HOME}/x",
]  # fmt: skip


def find_private(texts: Mapping[str, str | bytes], others: Iterable[object] = ()) -> list[tuple[str, str]]:
    """What of this stands in texts, and of other things that are not to be read, as (the text's name, what)."""
    words = [*PRIVATE, *(str(other).lower() for other in others)]
    found = {name: text if isinstance(text, str) else text.decode("utf-8", "ignore") for name, text in texts.items()}
    return [(name, word) for name, text in found.items() for word in words if word.lower() in text.lower()]
