"""A Hub on this machine, as far as pushing a data set or a model and loading it back can tell."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "SecretOfTheTests" * 2
LARGE = (".parquet", ".safetensors")  # kept by LFS
ROUTES = {
    r"GET /api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/([^/]+))?": "tell_info",
    r"GET /api/(?:datasets|models)/([^/]+/[^/]+)/refs": "list_refs",
    r"GET /api/(?:datasets|models)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+))?": "list_tree",
    r"(?:GET|HEAD) /(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)": "give_file",
    r"POST /api/repos/create": "create",
    r"POST /api/validate-yaml": "validate",
    r"POST /api/(?:datasets|models)/([^/]+/[^/]+)/preupload/main": "preupload",
    r"POST /(?:datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch": "plan_uploads",
    r"POST /api/(?:datasets|models)/([^/]+/[^/]+)/commit/main": "commit",
    r"POST /api/(?:datasets|models)/([^/]+/[^/]+)/tag/([^/]+)": "tag",
    r"PUT /store/(\w+)": "store",
}


@dataclass
class Repo:
    """A data set or a model: its commits, oldest first, each a mapping of paths to bytes."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str | None = None) -> str:
        return self.tags.get(revision, revision) if revision not in (None, "main") else list(self.commits)[-1]

    def read(self, revision: str | None = None) -> dict[str, bytes]:
        return self.commits[self.find(revision)]


class Hub(ThreadingHTTPServer):
    """`failures` maps what is asked for to the status with which that fails; the message of a failure repeats the token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.failures: dict[str, int] = {}
        self.calls: list[tuple[str, str | None]] = []  # what was asked for, and the Authorization that came with it
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {unquote(urlsplit(self.path).path)}"
        matches = ((re.fullmatch(route, asked), name) for route, name in ROUTES.items())
        match, name = next((found for found in matches if found[0]), (None, asked))
        said = self.headers.get("Authorization")
        self.server.calls.append((name, said))
        if name in self.server.failures or match is None:
            self.reply({"error": f"not with {said},\nsorry"}, self.server.failures.get(name, 404))
        elif match.groups() and name != "store" and match[1] not in self.server.repos:
            self.reply({}, 404, X_Error_Code="RepoNotFound")
        else:
            self.repo = self.server.repos.get(match[1]) if match.groups() else None
            getattr(self, name)(*match.groups())

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def reply(self, body: object, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content if self.command != "HEAD" else b"")

    def create(self) -> None:
        asked = json.loads(self.body)
        new = Repo(asked.get("visibility") == "private", {"0" * 40: {".gitattributes": b""}})
        name = f"{asked['organization']}/{asked['name']}"
        known = self.server.repos.setdefault(name, new) is not new
        self.reply({"url": f"{self.server.address}/datasets/{name}"}, 409 if known else 200)

    def validate(self) -> None:
        self.reply({"errors": [], "warnings": []})

    def tell_info(self, name: str, revision: str | None) -> None:
        siblings = [{"rfilename": path} for path in self.repo.read(revision)]
        self.reply({"id": name, "sha": self.repo.find(revision), "private": self.repo.private, "siblings": siblings})

    def list_refs(self, _: str) -> None:
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in self.repo.tags.items()]
        self.reply({"branches": [], "converts": [], "tags": tags})

    def preupload(self, _: str) -> None:
        files, present = [file["path"] for file in json.loads(self.body)["files"]], self.repo.read()
        modes = [{"path": p, "uploadMode": "lfs" if p.endswith(LARGE) else "regular", "shouldIgnore": False} for p in files]
        self.reply({"files": [mode | {"oid": _hash(mode["path"], present.get(mode["path"]))} for mode in modes]})

    def plan_uploads(self, _: str) -> None:
        objects = json.loads(self.body)["objects"]
        for thing in objects:
            thing["actions"] = {"upload": {"href": f"{self.server.address}/store/{thing['oid']}"}}
        self.reply({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        self.server.blobs[oid] = self.body
        self.reply({})

    def commit(self, name: str) -> None:
        files = dict(self.repo.read())
        for value, key in ((line["value"], line["key"]) for line in map(json.loads, self.body.splitlines())):
            if key == "deletedFile":
                del files[value["path"]]
            elif key != "header":
                files[value["path"]] = base64.b64decode(value["content"]) if key == "file" else self.server.blobs[value["oid"]]
        self.repo.commits[sha := f"{len(self.repo.commits):040x}"] = files
        self.reply({"commitUrl": f"{self.server.address}/datasets/{name}", "commitOid": sha})

    def tag(self, _: str, revision: str) -> None:
        name = json.loads(self.body)["tag"]
        known = name in self.repo.tags
        self.repo.tags.setdefault(name, revision)
        self.reply({}, 409 if known else 200)

    def list_tree(self, _: str, revision: str, folder: str | None) -> None:
        files = {p: d for p, d in self.repo.read(revision).items() if p.startswith(f"{folder}/" if folder else "")}
        self.reply(
            [{"type": "file", "path": path, "oid": _hash(path, data), "size": len(data)} for path, data in files.items()]
        )

    def give_file(self, _: str, revision: str, path: str) -> None:
        if (data := self.repo.read(revision).get(path)) is None:
            self.reply({}, 404, X_Error_Code="EntryNotFound")
        else:
            self.reply(data, ETag=f'"{_hash(path, data)}"', X_Repo_Commit=self.repo.find(revision))

    def log_message(self, *_: object) -> None:
        pass


def _hash(path: str, data: bytes | None) -> str | None:
    """What git, or LFS where it keeps the file, calls a content."""
    git = hashlib.sha1(b"blob %d\0" % len(data or b"") + (data or b"")).hexdigest()
    return None if data is None else hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else git
