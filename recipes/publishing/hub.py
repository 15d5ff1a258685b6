"""Publish a finished run on the Hub: model, tokenizer, card, manifest, log and figure, in one commit tagged with its run.

The trainer's own way of pushing is not used: it sends checkpoints while it trains, and a card that says little.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import FIT, MANIFEST, hash_path
from lm_eval_tasks.contracts.manifest import read_manifest
from lm_eval_tasks.contracts.public import check_paths, check_secrets, make_public

if TYPE_CHECKING:
    from trl import SFTConfig

CARD = "README.md"
STAGE = "train"
# All that is published of a folder: what else lies there, such as checkpoints and pickled arguments, stays.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
MODEL = (*WEIGHTS, "config.json", "generation_config.json", "adapter_config.json", "chat_template.jinja", "tokenizer*.json")
MODEL += ("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt")
RECORD = (CARD, MANIFEST, "training_log.csv", "loss.png", FIT)
FILES = ("name_or_path", "_file", "_dir", "_path")  # how settings end that name one
NO_TOKEN = "there is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN, to one that may write."
REASONS = {
    401: "the Hub does not know the token; make one that may write, and log in with `hf auth login` or set HF_TOKEN",
    403: "the token may not write there; use one that may, or name a repository of your own (--hub_model_id)",
    404: "there is no such repository that the token can see",
}


def check_push(training: "SFTConfig") -> list[str]:
    """What keeps a run from being pushed, as far as it is known without asking the Hub; best called before training.

    A token is taken from the environment or from `hf auth login` alone: a command line is seen by others on the machine, and
    launchers and trackers record it.
    """
    from huggingface_hub import get_token
    from huggingface_hub.constants import is_offline_mode

    problems = []
    if training.hub_token:
        problems.append(
            "--hub_token: leave it out, as command lines are recorded. Log in with `hf auth login`, or set HF_TOKEN."
        )
    if training.push_to_hub:
        if not _is_repository(training.hub_model_id):
            problems.append("--push_to_hub needs --hub_model_id USER/NAME, the repository that is to hold the model.")
        if is_offline_mode():
            problems.append("HF_HUB_OFFLINE is set: unset it, or leave out --push_to_hub.")
        if not get_token():
            problems.append(NO_TOKEN)
    return problems


def _is_repository(name: str | None) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return False
    return name.count("/") == 1


def push_run(folder: str | Path, repository: str, private: bool | None = None) -> str:
    """Publish a run folder as a model of the Hub. What is there already is not sent twice.

    Args:
        folder: that of a finished run.
        repository: `user/name`; made where it does not exist. One that holds another run gets this one as its next commit.
        private: make it private; a public one that exists is an error then.

    Returns:
        A sentence that says where it stands.

    Raises:
        UserError: the folder is no finished run or not as it was written, or the Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars, logging

    folder = Path(folder)
    if not (token := get_token()):
        raise UserError(NO_TOKEN)
    manifest, files = read_run(folder, token)
    run = manifest["run"]
    logging.set_verbosity_error()  # its warnings may repeat what the server says
    if not sys.stderr.isatty():
        disable_progress_bars()
    with _explain_errors(folder, repository, token):
        api = HfApi(token=token)
        api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.repo_info(repository)
        if private and not info.private:
            raise UserError(f"{repository} exists and is public. Make it private in its settings, or name another.")
        present = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
        if present - {CARD} and MANIFEST not in present:
            raise UserError(f"{repository} holds {min(present)}, which selfalign did not push. Name another --hub_model_id.")
        # What an earlier run left, such as more shards or the base model's other tokenizer files.
        stale = [name for name in present - files.keys() if _is_listed(name, (*MODEL, *RECORD))]
        operations = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
        commit = api.create_commit(repository, operations=operations, commit_message=f"selfalign run {run}")
        api.create_tag(repository, tag=run, revision=commit.oid, exist_ok=True)
    return f"{api.endpoint}/{repository} holds this run: revision {run}"


def read_run(folder: Path, token: str | None = None) -> tuple[Mapping[str, Any], dict[str, str | bytes]]:
    """A finished run's manifest, and what of its folder is published: path in the repository -> path here, or bytes.

    Args:
        folder: the run folder.
        token: must not stand in any text that is published.

    Raises:
        UserError: it is no finished run, its parts are not of one run, or a text holds a token or names a path of this machine.
    """
    again = "Push a folder as recipes/sft.py left it."
    manifest = read_manifest(folder)
    if manifest is None or manifest["stage"] != STAGE:
        found = f"{MANIFEST} is missing" if manifest is None else f"it is of stage {manifest['stage']!r}"
        raise UserError(f"{folder} holds no finished training run ({found}). {again}")
    run = manifest["run"]
    card = (folder / CARD).read_text() if (folder / CARD).is_file() else ""
    if run not in card:
        raise UserError(f"{folder / CARD} is not the card of run {run}, which {MANIFEST} names. {again}")
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and _is_listed(file.name, (*MODEL, *RECORD)))
    if not any(fnmatch(name, WEIGHTS[0]) for name in names):
        raise UserError(f"{folder} holds no weights (*.safetensors). {again}")
    for name in names:
        if fnmatch(name, WEIGHTS[0]) and hash_path(folder / name) not in card:
            raise UserError(f"{folder / name} is not what run {run} wrote: its hash is not in {CARD}. {again}")
    files: dict[str, str | bytes] = {name: str(folder / name) for name in names}
    files[MANIFEST] = _write_json(make_public(manifest))
    for name in {"config.json", "adapter_config.json", "tokenizer_config.json"} & files.keys():
        settings = json.loads((folder / name).read_text())
        # What names a file says where the base model was; the rest (tokens, templates) is what the model is.
        shown = {key: make_public(value) if key.endswith(FILES) else value for key, value in settings.items()}
        if shown != settings:
            files[name] = _write_json(shown)
    check_secrets(folder / MANIFEST, json.dumps(manifest), token)
    check_secrets(folder / CARD, card, token)
    check_paths(folder / CARD, card)
    return manifest, files


def _write_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _is_listed(name: str, patterns: tuple[str, ...]) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


@contextmanager
def _explain_errors(folder: Path, repository: str, token: str) -> Iterator[None]:
    """Raise what the Hub's client raises as a `UserError` of one line, without the token, that says where the model is."""
    from huggingface_hub.errors import HfHubHTTPError

    stands = f"The model stands in {folder}, and the same command pushes it again without training."
    try:
        yield
    except UserError as error:
        raise UserError(f"{error} {stands}") from error
    except Exception as error:  # whatever the client raises, its text may repeat the token
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # so says a failed upload
        if isinstance(cause, HfHubHTTPError):
            said = REASONS.get(cause.response.status_code, "the Hub refused") + f" ({cause.response.status_code})"
        else:
            said = f"{type(cause).__name__}: {make_public(str(cause).replace(token, '...'), keep_paths=True)}"
        raise UserError(f"{repository} was not pushed: {' '.join(said.split())[:300]}. {stands}") from error
