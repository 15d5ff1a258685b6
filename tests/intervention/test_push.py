"""A set is pushed, tagged and loaded back; what must not be published is not, and what goes wrong is said in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import polars as pl
import pytest
import yaml
from hub_server import ROUTES, TOKEN, Hub, Repo
from made_up import Study, make_rows, write_set

from intervention.publishing.folders import write_dataset
from intervention.publishing.licences import find_terms
from intervention.publishing.package import read_package
from intervention.publishing.push import check_acceptance, check_name, scrub
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import write_manifest

ROOT = Path(__file__).parents[2]
FREE = [find_terms("questions", "medmcqa")]
STRICT = [*FREE, find_terms("questions", "xiezhi"), find_terms("explanations", "llama-2-7b")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instruction set of two configs, of questions whose terms are unknown."""
    folder = tmp_path_factory.mktemp("built")
    Study(folder, make_rows(200)).build(conditions=["harmonious", "self_aligning"], size=10)
    return folder / "out"


def write_folder(folder: Path, terms: list, text: str = "one", **config: object) -> Path:
    """A question set of one row whose manifest and card name these terms."""
    folder.mkdir(parents=True)
    write_dataset(folder, {"herbs": {"train": pl.DataFrame({"id": [text]})}}, "citation.md", terms=terms)
    config |= {"terms": [vars(term) for term in terms]}
    write_manifest(folder, "questions", ["-m", "intervention", "--x=/home/anna/x"], config, {}, {})
    return folder


def push(hub: Hub | None, home: Path, *words: object, **env: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user who is logged in; an environment variable that is None is unset."""
    own = {"HF_ENDPOINT": hub.address if hub else "http://127.0.0.1:9", "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf")}
    own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": None, "HF_TOKEN_PATH": None, "OMP_NUM_THREADS": "1"} | env
    command = [sys.executable, "-m", "intervention", "push", *map(str, words)]
    variables = {name: value for name, value in (os.environ | own).items() if value is not None}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=variables)
    assert TOKEN not in done.stdout + done.stderr
    return done


def read_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def load(hub: Hub, home: Path, config: str, revision: str | None = None) -> tuple[list[dict], dict]:
    """What `load_dataset` gives a user: rows and features."""
    code = (
        "import datasets, json, sys; repo, config, revision = json.loads(sys.argv[1]);"
        "data = datasets.load_dataset(repo, config, revision=revision, split='train');"
        "print(json.dumps([data.to_list(), data.features.to_dict()]))"
    )
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home / "load"), "HF_HUB_DISABLE_XET": "1"}
    own["HF_DATASETS_CACHE"] = str(home / "load" / "datasets")
    variables = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")} | own
    command = [sys.executable, "-c", code, json.dumps(["anna/herbs", config, revision])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_a_set_comes_back_as_it_went(hub: Hub, built: Path, tmp_path: Path) -> None:
    done = push(hub, tmp_path, built, "--repo", "anna/herbs", "--accept-licence")
    assert done.returncode == 0, done.stderr
    run = json.loads((built / "manifest.json").read_text())["run"]
    assert done.stdout == f"{hub.address}/datasets/anna/herbs holds an instruction set now: revision {run}\n"
    repo = hub.repos["anna/herbs"]
    assert not repo.private
    assert repo.tags == {run: repo.find()}
    assert len(repo.commits) == 2  # the Hub's own first one, and all files at once
    files = {str(file.relative_to(built)): file.read_bytes() for file in built.rglob("*") if file.is_file()}
    assert {n: d for n, d in repo.read().items() if n not in (".gitattributes", "manifest.json")} == {
        n: d for n, d in files.items() if n != "manifest.json"
    }
    for config, revision in (("herbs_harmonious", None), ("herbs_self_aligning", run)):
        rows, features = load(hub, tmp_path, config, revision)
        local = datasets.load_dataset(str(built), config, cache_dir=str(tmp_path / "local"), split="train")
        assert rows == local.to_list()
        assert len(rows) == 20
        assert features == json.loads(json.dumps(local.features.to_dict()))


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, built: Path, tmp_path: Path) -> None:
    done = push(hub, tmp_path, built, "--repo", "anna/herbs", "--accept-licence", HF_DEBUG="1")  # sees that it is not printed
    assert done.returncode == 0, done.stderr
    said = {name: authorization for name, authorization in hub.calls if name in set(ROUTES.values()) - {"store"}}
    assert {"create", "commit", "tag"} <= said.keys()
    assert set(said.values()) == {f"Bearer {TOKEN}"}
    assert all(TOKEN.encode() not in data for data in hub.repos["anna/herbs"].read().values())
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


def test_the_published_manifest_names_no_path(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE, model="/home/anna/llama", note="https://x.org/a/b")
    assert push(hub, tmp_path, folder, "--repo", "anna/herbs").returncode == 0
    manifest = json.loads(hub.repos["anna/herbs"].read()["manifest.json"])
    assert manifest["command"] == ["-m", "intervention", "--x=x"]
    assert (manifest["config"]["model"], manifest["config"]["note"]) == ("llama", "https://x.org/a/b")
    assert manifest["published"]
    assert "/home/anna" in (folder / "manifest.json").read_text()  # the user's own stays as it is
    (folder / "manifest.json").write_bytes(hub.repos["anna/herbs"].read()["manifest.json"])
    assert push(hub, tmp_path, folder, "--repo", "anna/copy").returncode == 0  # what was downloaded can be pushed again


def test_private_is_passed_on_and_a_public_one_is_not_taken_for_it(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    assert push(hub, tmp_path, folder, "--repo", "anna/hidden", "--private").returncode == 0
    assert hub.repos["anna/hidden"].private
    assert push(hub, tmp_path, folder, "--repo", "anna/open").returncode == 0
    before = len(hub.repos["anna/open"].commits)
    assert "anna/open exists and is public" in read_error(push(hub, tmp_path, folder, "--repo", "anna/open", "--private"))
    assert len(hub.repos["anna/open"].commits) == before


def test_restrictive_terms_must_be_accepted(hub: Hub, built: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", STRICT)
    error = read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs"))
    for words in (
        "questions of medmcqa: apache-2.0;",
        "questions of xiezhi: cc-by-nc-sa-4.0;",
        "explanations of llama-2-7b: llama2 (Its licence forbids",
        "as cc-by-nc-sa-4.0, add --accept-licence",
    ):
        assert words in error
    error = read_error(push(hub, tmp_path, built, "--repo", "anna/herbs"))
    assert "questions of made_up: unknown" in error
    assert hub.calls == []
    assert push(hub, tmp_path, folder, "--repo", "anna/herbs", "--accept-licence").returncode == 0
    card = hub.repos["anna/herbs"].read()["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-sa-4.0"


def test_pushing_again_changes_nothing_and_another_set_takes_the_place(hub: Hub, tmp_path: Path) -> None:
    one, two = (write_folder(tmp_path / text, FREE, text, questions=text) for text in ("one", "two"))
    assert push(hub, tmp_path, one, "--repo", "anna/herbs").returncode == 0
    repo = hub.repos["anna/herbs"]
    (first,) = repo.tags
    done = push(hub, tmp_path, one, "--repo", "anna/herbs")
    assert done.returncode == 0, done.stderr
    assert "holds this set already; nothing was changed" in done.stdout
    assert len(repo.commits) == 2
    repo.commits[repo.find()]["old/train.parquet"] = b"of an earlier push"
    assert push(hub, tmp_path, two, "--repo", "anna/herbs").returncode == 0
    assert sorted(repo.read()) == [".gitattributes", "README.md", "herbs/train.parquet", "manifest.json"]
    assert len(repo.tags) == 2
    assert load(hub, tmp_path, "herbs")[0] == [{"id": "two"}]
    assert load(hub, tmp_path, "herbs", first)[0] == [{"id": "one"}]


def test_a_tag_stays_on_its_content(hub: Hub, tmp_path: Path) -> None:
    one, two = (write_folder(tmp_path / text, FREE, text) for text in ("one", "two"))  # one configuration, two contents
    assert push(hub, tmp_path, one, "--repo", "anna/herbs").returncode == 0
    error = read_error(push(hub, tmp_path, two, "--repo", "anna/herbs"))
    assert "anna/herbs has the tag" in error
    assert "Push to another repository, or delete the tag" in error
    assert len(hub.repos["anna/herbs"].commits) == 2


def test_an_interrupted_push_is_completed(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    hub.failures["tag"] = 500
    read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs"))
    assert not hub.repos["anna/herbs"].tags
    hub.failures.clear()
    assert push(hub, tmp_path, folder, "--repo", "anna/herbs").returncode == 0
    repo = hub.repos["anna/herbs"]
    assert list(repo.tags.values()) == [repo.find()]
    assert len(repo.commits) == 2


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ({"create": 401}, "the Hub does not know the token. Make one that may write"),
        ({"commit": 403}, "the token may not write to anna/herbs. Use one with write access there"),
        ({"tell_info": 404}, "anna/herbs is no data set that this token can see. See whether its name is taken"),
        ({"commit": 500}, "the Hub failed while anna/herbs was being pushed. Push again later"),
        ({"validate": 422}, "the Hub refused to take anna/herbs."),
        ({"store": 403}, "the token may not write to anna/herbs."),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(hub: Hub, tmp_path: Path, failures: dict, words: str) -> None:
    hub.failures |= failures
    error = read_error(push(hub, tmp_path, write_folder(tmp_path / "set", FREE), "--repo", "anna/herbs"))
    assert words in error
    assert "hf_Secret" not in error
    if "store" not in failures:  # the store is not told who asks
        assert f"The Hub said ({next(iter(failures.values()))}): not with Bearer ..., sorry" in error


def test_without_a_token_or_a_network_nothing_is_sent(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    error = read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs", HF_TOKEN=None))
    assert "there is no token for the Hub. Log in with `hf auth login`, or set HF_TOKEN" in error
    error = read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs", HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE is set" in error
    assert hub.calls == []
    error = read_error(push(None, tmp_path, folder, "--repo", "anna/herbs"))
    assert "pushing to anna/herbs failed: " in error
    assert "See whether the Hub can be reached" in error


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("herbs", "it has no user or organization before a '/'"),
        ("a/b/c", "Repo id must be in the form"),
        ("anna/my herbs", "Repo id must use alphanumeric"),
        ("", "Repo id must use alphanumeric"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, why: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--repo {name!r} does not name a repository ({why}")) as error:
        check_name(name)
    assert str(error.value).endswith("Write user/name, such as anna/herbs.")


def test_a_set_without_terms_is_taken_for_restricted(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_dataset(tmp_path / "set", {"herbs": {"train": pl.DataFrame({"id": ["1"]})}}, "citation.md")
    write_manifest(tmp_path / "set", "questions", [], {}, {}, {})
    with pytest.raises(UserError, match=r"all parts of set: unknown \(the manifest names no terms\)"):
        check_acceptance(read_package(tmp_path / "set"), accept=False)
    check_acceptance(read_package(tmp_path / "set"), accept=True)


def test_what_others_wrote_is_not_replaced(hub: Hub, tmp_path: Path, built: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    hub.repos["anna/theirs"] = Repo(commits={"a" * 40: {"data.csv": b"x", "more.csv": b"y"}})
    error = read_error(push(hub, tmp_path, folder, "--repo", "anna/theirs"))
    assert "anna/theirs holds data.csv and 1 more, which selfalign did not push. Name another repository." in error
    assert push(hub, tmp_path, folder, "--repo", "anna/herbs").returncode == 0
    error = read_error(push(hub, tmp_path, built, "--repo", "anna/herbs", "--accept-licence"))
    assert "anna/herbs holds a question set, and this is an instruction set. Name another repository." in error


def change_table(folder: Path) -> None:
    pl.DataFrame({"id": ["changed"]}).write_parquet(folder / "herbs/train.parquet")


def cut_table(folder: Path) -> None:
    (folder / "herbs/train.parquet").write_bytes((folder / "herbs/train.parquet").read_bytes()[:-9])


def change_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"medmcqa"', '"mmlu"'))


def change_licence(folder: Path) -> None:
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("license: apache-2.0", "license: mit"))


def name_other_file(folder: Path) -> None:
    shutil.move(folder / "herbs/train.parquet", folder.parent / "train.parquet")
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("herbs/train", "../train"))


def write_token(folder: Path) -> None:
    (folder / "README.md").write_text((folder / "README.md").read_text() + f"\nLoad with token={TOKEN}\n")


def write_path(folder: Path) -> None:
    (folder / "README.md").write_text((folder / "README.md").read_text() + f"\nMade in {folder.parent}\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "is not a folder"),
        (lambda folder: (folder / "manifest.json").unlink(), "neither a question set nor an instruction set (manifest.json is"),
        (lambda folder: write_manifest(folder, "train", [], {}, {}, {}), "(it is of stage 'train')"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not a manifest of selfalign"),
        (lambda folder: (folder / "README.md").unlink(), "README.md cannot be read"),
        (lambda folder: (folder / "README.md").write_text("# Mine\n"), "has no header that names the configs"),
        (lambda folder: (folder / "herbs/train.parquet").unlink(), "train.parquet cannot be read as parquet"),
        (cut_table, "train.parquet cannot be read as parquet"),
        (change_table, "herbs is not as it was written: its hash is not the one in README.md. Make it again"),
        (change_manifest, "manifest.json was changed: its run"),
        (change_licence, "README.md gives the licence 'mit', but the strictest of its parts' is 'apache-2.0'"),
        (name_other_file, "README.md names '../train.parquet' for the config 'herbs', which lies elsewhere."),
        (write_token, "README.md holds what looks like an access token (hf_Se...). Remove it, and revoke it."),
        (write_path, "a path on your machine. Take it out of the text, and push again."),
    ],
)
def test_a_folder_that_is_not_as_it_was_written_is_refused(tmp_path: Path, spoil: Callable, words: str) -> None:
    folder = write_folder(tmp_path / "some/where/set", FREE)
    assert sorted(read_package(folder).files) == ["README.md", "herbs/train.parquet", "manifest.json"]
    spoil(folder)
    with pytest.raises(UserError, match=re.escape(words)):
        read_package(folder)


def test_nothing_is_sent_of_a_folder_that_was_changed(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    change_table(folder)
    assert "is not as it was written" in read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs"))
    assert hub.calls == []


def test_a_manifest_with_the_token_in_use_is_refused(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE, note="of another form: S3cretS3cret")
    error = read_error(push(hub, tmp_path, folder, "--repo", "anna/herbs", HF_TOKEN="S3cretS3cret"))
    assert "manifest.json holds your access token. Remove it, and revoke it." in error
    assert "S3cret" not in error
    assert hub.calls == []


def test_a_message_shows_no_signature_of_an_address() -> None:
    text = f"PUT https://store.org/a?X-Signature=abc&x=1 failed\nwith {TOKEN} and hf_{'x' * 30}"
    assert scrub(text, TOKEN) == "PUT https://store.org/a failed with ... and hf_..."


def test_files_of_no_config_are_named_and_stay_here(hub: Hub, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set", FREE)
    (folder / "notes.txt").write_text("mine")
    done = push(hub, tmp_path, folder, "--repo", "anna/herbs")
    assert "left out, as they belong to no config: notes.txt" in done.stdout
    assert "notes.txt" not in hub.repos["anna/herbs"].read()


def test_a_question_set_of_the_command_is_pushed(hub: Hub, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", make_rows(6))
    done = push(hub, tmp_path, folder, "--repo", "anna/herbs", "--accept-licence")
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in load(hub, tmp_path, "herbs")[0]] == [f"train-{i}" for i in range(6)]
