"""A stand-in of the Hugging Face Hub's HTTP API: a real server on a thread, its repositories in memory.

It speaks what `huggingface_hub` asks for when models are pushed and pulled: repositories, settings,
validation of cards, preupload, Git LFS (batch, upload, verify), commits, trees, and files with ETag,
X-Repo-Commit and, for LFS, a redirect to another path. It has no xet, so a client has to have it switched off
(HF_HUB_DISABLE_XET).
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, READER = "hf_writer", "hf_reader"
LFS_SUFFIX = ".safetensors"
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """Its commits, oldest first: files by name. Branches and tags name a commit."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]
        told = json.dumps([len(self.commits), message, content])
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.commits[oid] = files
        self.refs["main"] = oid
        self.messages.append(message)
        return oid

    def at(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class FakeHub:
    """`endpoint` is what a client is given."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fails: dict[str, int] = {}  # a path's beginning and the status it is answered with
        self._server: ThreadingHTTPServer | None = None

    @property
    def endpoint(self) -> str:
        assert self._server is not None, "it is stopped"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["FakeHub"]:
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.fake.requests.append(f"{self.command} {path}")
        self.body = self._read()
        for beginning, status in self.fake.fails.items():
            if path.startswith(beginning):
                return self._answer(status, {"error": "as the test asks"})
        for method, pattern, handle in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                return handle(self, **match.groupdict())
        return self._answer(HTTPStatus.NOT_FOUND, {"error": f"no route for {self.command} {path}"})

    def _read(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch  # noqa: N815

    @property
    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _may_not(self, *, write: bool) -> bool:
        """Whether an answer has been given already: a token it does not know, or one that may only read."""
        if self._token not in (None, TOKEN, READER) or (write and self._token is None):
            said = "Invalid credentials in Authorization header"
            self._answer(HTTPStatus.UNAUTHORIZED, {"error": said}, {"X-Error-Message": said})
            return True
        if write and self._token == READER:
            self._answer(HTTPStatus.FORBIDDEN, {"error": "this token only reads"})
            return True
        return False

    def _repo(self, name: str) -> Repo | None:
        """None after it was answered that there is none: a private one hides itself."""
        repo = self.fake.repos.get(name)
        if repo is None or (repo.private and self._token is None):
            missing = {"error": "Repository not found"}
            self._answer(HTTPStatus.NOT_FOUND, missing, {"X-Error-Code": "RepoNotFound"})
            return None
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        oid = repo.at(revision)
        if oid is None:
            missing = {"error": "Invalid rev id"}
            self._answer(HTTPStatus.NOT_FOUND, missing, {"X-Error-Code": "RevisionNotFound"})
        return oid

    def create(self) -> None:
        if self._may_not(write=True):
            return
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.fake.endpoint}/{name}"}
        if name in self.fake.repos:
            self._answer(HTTPStatus.CONFLICT, url | {"error": "You already created this model repo"})
            return
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = self.fake.repos[name] = Repo(private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self._answer(HTTPStatus.OK, url)

    def settings(self, repo: str) -> None:
        if self._may_not(write=True) or (found := self._repo(repo)) is None:
            return
        found.private = json.loads(self.body)["visibility"] == "private"
        self._answer(HTTPStatus.OK, {})

    def info(self, repo: str, revision: str = "main") -> None:
        if self._may_not(write=False) or (found := self._repo(repo)) is None:
            return
        if (oid := self._commit_of(found, revision)) is None:
            return
        files = [{"rfilename": name} for name in found.commits[oid]]
        self._answer(HTTPStatus.OK, {"id": repo, "sha": oid, "private": found.private, "siblings": files})

    def tree(self, repo: str, revision: str) -> None:
        if self._may_not(write=False) or (found := self._repo(repo)) is None:
            return
        if (oid := self._commit_of(found, revision)) is None:
            return
        self._answer(HTTPStatus.OK, [_entry(name, data) for name, data in found.commits[oid].items()])

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        data = yaml.safe_load(match[1]) if match else {}
        if not isinstance(data.get("license"), str) or data["license"] != data["license"].lower():
            wrong = [{"message": '"license" must be one of the known ones'}]
            return self._answer(HTTPStatus.BAD_REQUEST, {"errors": wrong, "warnings": []})
        return self._answer(HTTPStatus.OK, {"errors": [], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        if self._may_not(write=True) or self._repo(repo) is None:
            return
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIX) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._answer(HTTPStatus.OK, {"files": modes})

    def batch(self, repo: str) -> None:
        if self._may_not(write=True):
            return
        objects = []
        for asked in json.loads(self.body)["objects"]:
            known = asked["oid"] in self.fake.blobs
            verify = {"href": f"{self.fake.endpoint}/lfs/verify"}
            upload = {"href": f"{self.fake.endpoint}/lfs/{asked['oid']}"}
            objects.append(asked | ({} if known else {"actions": {"upload": upload, "verify": verify}}))
        self._answer(HTTPStatus.OK, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._answer(HTTPStatus.BAD_REQUEST, {"error": "the bytes are others"})
        self.fake.blobs[oid] = self.body
        return self._answer(HTTPStatus.OK, {})

    def verify(self) -> None:
        asked = json.loads(self.body)
        kept = self.fake.blobs.get(asked["oid"], b"")
        self._answer(HTTPStatus.OK if len(kept) == asked["size"] else HTTPStatus.NOT_FOUND, {})

    def commit(self, repo: str, revision: str) -> None:
        if self._may_not(write=True) or (found := self._repo(repo)) is None:
            return
        head, *operations = [json.loads(line) for line in self.body.splitlines()]
        if head["value"].get("parentCommit") not in (None, found.at(revision)):
            self._answer(HTTPStatus.PRECONDITION_FAILED, {"error": "A commit has happened since"})
            return
        files = dict(found.commits[found.refs["main"]])
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.fake.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = found.commit(files, head["value"]["summary"])
        told = {"commitUrl": f"{self.fake.endpoint}/{repo}/commit/{oid}", "commitOid": oid}
        self._answer(HTTPStatus.OK, told | {"success": True})

    def resolve(self, repo: str, revision: str, name: str) -> None:
        if self._may_not(write=False) or (found := self._repo(repo)) is None:
            return
        if (oid := self._commit_of(found, revision)) is None:
            return
        told = {"X-Repo-Commit": oid}
        if (data := found.commits[oid].get(name)) is None:
            told["X-Error-Code"] = "EntryNotFound"
            self._answer(HTTPStatus.NOT_FOUND, {"error": "Entry not found"}, told)
            return
        if not name.endswith(LFS_SUFFIX):
            self._answer(HTTPStatus.OK, data, told | {"ETag": f'"{_entry(name, data)["oid"]}"'})
            return
        sha = hashlib.sha256(data).hexdigest()
        self.fake.blobs.setdefault(sha, data)
        told |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha}"'}
        # Another host, as the Hub's store is: a client follows no further when it only asks.
        elsewhere = self.fake.endpoint.replace("127.0.0.1", "localhost")
        self._answer(HTTPStatus.FOUND, b"", told | {"Location": f"{elsewhere}/blob/{sha}"})

    def blob(self, oid: str) -> None:
        self._answer(HTTPStatus.OK, self.fake.blobs[oid], {"ETag": f'"{oid}"'})


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """As in a tree; a regular file's name is Git's, sha1 of a header and the bytes."""
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": oid}
    if name.endswith(LFS_SUFFIX):
        sha = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 134}
    return entry


ROUTES = (
    ("POST", r"/api/repos/create", _Handler.create),
    ("PUT", rf"/api/models/{REPO}/settings", _Handler.settings),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.upload),
    ("POST", r"/lfs/verify", _Handler.verify),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>.+)", _Handler.commit),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", rf"/api/models/{REPO}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/models/{REPO}", _Handler.info),
    ("HEAD", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
    ("GET", r"/blob/(?P<oid>[0-9a-f]{64})", _Handler.blob),
)
