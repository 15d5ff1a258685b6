"""Publish a data set folder on the Hub: what `package` lets through, in one commit, tagged with its run."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intervention.publishing.licences import choose_strictest, needs_acceptance
from intervention.publishing.package import CARD, STAGES, Package, read_package
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import MANIFEST
from lm_eval_tasks.contracts.public import make_public


def check_acceptance(package: Package, accept: bool) -> None:
    """Raise a `UserError` that lists every part's terms where one asks for more than its source's name, and nobody accepted."""
    strict = [term for term in package.terms if needs_acceptance(term.licence)]
    if strict and not accept:
        listed = "; ".join(
            f"{term.part} of {term.source}: {term.licence}{f' ({term.note})' if term.note else ''}" for term in package.terms
        )
        raise UserError(
            f"parts of this set have restrictive or unknown terms: {listed}. Whether you may publish it is yours to find out; "
            f"if you may, as {choose_strictest(package.terms)}, add --accept-licence."
        )


def push_folder(folder: str | Path, repo: str, private: bool = False, accept: bool = False) -> list[str]:
    """Publish a question set, an instruction set or instruction data with verdicts as a data set of the Hub.

    Everything that can be checked here is checked before anything is sent. One repository holds one set: parquet files of an
    earlier push go with the same commit, and stay under its tag.

    Args:
        folder: what `questions`, `build` or `agree --action` wrote.
        repo: `user/name` or `organization/name`; made where it does not exist.
        private: make it private; a public one that exists is an error then.
        accept: the user accepts the terms of all parts.

    Returns:
        Sentences that say what was done.

    Raises:
        UserError: the folder is not as it was written, the terms are not accepted, no token, or the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars, logging

    package = read_package(folder)
    check_acceptance(package, accept)
    check_name(repo)
    token = get_token()
    if not token:
        raise UserError("there is no token for the Hub. Log in with `hf auth login`, or set HF_TOKEN, to one that may write.")
    if found := [name for name in (CARD, MANIFEST) if token.encode() in package.files[name]]:
        raise UserError(f"{Path(folder) / found[0]} holds your access token. Remove it, and revoke it.")
    logging.set_verbosity_error()  # its warnings may repeat what the server says
    if not sys.stderr.isatty():
        disable_progress_bars()
    kind = {"repo_id": repo, "repo_type": "dataset"}
    with explain_errors(repo, token):
        api = HfApi(token=token)
        api.create_repo(**kind, private=private or None, exist_ok=True)
        info = api.repo_info(**kind)
        if private and not info.private:
            raise UserError(f"{repo} exists and is public. Make it private in its settings, or leave out --private.")
        present = {file.rfilename for file in info.siblings or ()}
        _check_target(api, kind, present, package)
        tags = {tag.name for tag in api.list_repo_refs(**kind).tags}
        if package.run in tags:
            _check_tag(api, kind, package)
        operations = [CommitOperationAdd(name, content) for name, content in package.files.items()]
        operations += [CommitOperationDelete(name) for name in _list_stale(present, package)]
        commit = api.create_commit(**kind, operations=operations, commit_message=f"selfalign {package.stage} {package.run}")
        if package.run not in tags:
            api.create_tag(**kind, tag=package.run, revision=commit.oid)
    same = info.sha == commit.oid and package.run in tags
    done = "holds this set already; nothing was changed" if same else f"holds {STAGES[package.stage]} now"
    return [
        f"{api.endpoint}/datasets/{repo} {done}: revision {package.run}",
        *([f"left out, as they belong to no config: {', '.join(package.left_out)}"] if package.left_out else []),
    ]


def check_name(repo: str) -> None:
    """Raise a `UserError` unless `repo` is `user/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        wrong = "" if repo.count("/") == 1 else "it has no user or organization before a '/'"
    except HFValidationError as error:
        wrong = str(error).splitlines()[0]
    if wrong:
        raise UserError(f"--repo {repo!r} does not name a repository ({wrong}). Write user/name, such as anna/herbs.")


@contextmanager
def explain_errors(repo: str, token: str) -> Iterator[None]:
    """Turn what the Hub's client raises into a `UserError` of one line in which the token does not stand."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except UserError:
        raise
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it to push.") from error
    except Exception as error:  # whatever the client raises, its text may repeat the token
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # so says a failed upload
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            said = scrub(cause.server_message or cause.response.reason_phrase, token)
            raise UserError(f"{_explain_status(status, repo)} The Hub said ({status}): {said}") from error
        said = scrub(f"{type(cause).__name__}: {cause}", token)
        raise UserError(f"pushing to {repo} failed: {said}. See whether the Hub can be reached, and push again.") from error


def scrub(text: str, token: str) -> str:
    """One short line of a server's or a library's text, without tokens and without the signatures of addresses."""
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text.replace(token, "..."))
    return " ".join(make_public(text, keep_paths=True).split())[:300]


def _explain_status(status: int, repo: str) -> str:
    if status == 401:
        return "the Hub does not know the token. Make one that may write, and log in with `hf auth login` or set HF_TOKEN."
    if status == 403:
        return f"the token may not write to {repo}. Use one with write access there, or name a repository of your own."
    if status == 404:
        return f"{repo} is no data set that this token can see. See whether its name is taken, or name another repository."
    if status >= 500:
        return f"the Hub failed while {repo} was being pushed. Push again later; what is there already is not sent twice."
    return f"the Hub refused to take {repo}."


def _list_stale(present: set[str], package: Package) -> list[str]:
    return sorted(name for name in present if name.endswith(".parquet") and name not in package.files)


def _check_target(api: Any, kind: dict[str, str], present: set[str], package: Package) -> None:
    """Raise a `UserError` where the repository holds what selfalign did not write, or a set of the other kind."""
    if MANIFEST in present:
        stage = json.loads(_fetch(api, kind, "main", MANIFEST)).get("stage")
        if stage == package.stage:
            return
        found, own = STAGES.get(stage, f"a folder of stage {stage!r}"), STAGES[package.stage]
        raise UserError(f"{kind['repo_id']} holds {found}, and this is {own}. Name another repository.")
    if strangers := sorted(present - {".gitattributes", CARD}):
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise UserError(f"{kind['repo_id']} holds {strangers[0]}{more}, which selfalign did not push. Name another repository.")


def _check_tag(api: Any, kind: dict[str, str], package: Package) -> None:
    """Raise a `UserError` where the tag of this run stands on another content: another card, which has the tables' hashes."""
    if _fetch(api, kind, package.run, CARD) != package.files[CARD]:
        raise UserError(
            f"{kind['repo_id']} has the tag {package.run} of this run already, on other files or another card. Push to another "
            "repository, or delete the tag there if it is not to be kept."
        )


def _fetch(api: Any, kind: dict[str, str], revision: str, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(api.hf_hub_download(**kind, filename=name, revision=revision, local_dir=folder)).read_bytes()
