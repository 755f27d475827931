"""A stand-in for the Hugging Face Hub on loopback: enough of its API to create a Space or a model and to upload."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

REPOSITORIES = ("/api/spaces/", "/api/models/")


class FakeHub:
    """The data that a stand-in received: ``repositories`` maps OWNER/NAME to its files, variables and hardware."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.refuse = ""  # a sentence with which every creation is refused
        self.endpoint = ""

    def files(self, repository: str) -> dict[str, bytes]:
        return self.repositories[repository]["files"]


def is_binary(sample: bytes) -> bool:
    """The Hub's rule in short: what is not text must go through LFS or Xet."""
    try:
        sample[: len(sample) // 4 * 4].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return b"\0" in sample


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *arguments: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("X-Error-Message", value["error"])
        self.end_headers()
        self.wfile.write(body)

    def _repository(self) -> tuple[str, list[str]]:
        """OWNER/NAME of a path below /api/spaces or /api/models, and the parts after it."""
        _, _, _, owner, name, *rest = urlparse(self.path).path.split("/")
        return f"{owner}/{name}", rest

    def do_GET(self) -> None:
        if not self.path.startswith(REPOSITORIES):
            return self._reply({"name": "tester"})
        repository, rest = self._repository()
        stored = self.hub.repositories.get(repository)
        if stored is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
                for path, data in stored["files"].items()
            ]
            return self._reply(tree)
        if rest[:1] == ["runtime"]:
            hardware = {"current": stored["hardware"], "requested": stored["hardware"]}
            return self._reply({"stage": "RUNNING", "hardware": hardware})
        siblings = [{"rfilename": path} for path in stored["files"]]
        self._reply({"id": repository, "sha": "0" * 40, "siblings": siblings, "private": False, "tags": [], "likes": 0})

    def do_HEAD(self) -> None:
        """No file can be downloaded."""
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        self.hub.blobs[self.path.rpartition("/")[2]] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for entry in objects:
                entry["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{entry['oid']}"}}
            return self._reply({"transfer": "basic", "objects": objects})
        if not self.path.startswith(REPOSITORIES):
            return self._reply({})
        repository, rest = self._repository()
        stored = self.hub.repositories[repository]
        if rest[0] == "preupload":
            files = [
                {
                    "path": entry["path"],
                    "uploadMode": "lfs" if is_binary(base64.b64decode(entry["sample"])) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for entry in json.loads(body)["files"]
            ]
            return self._reply({"files": files})
        if rest[0] == "commit":
            self._commit(stored["files"], body)
            url = f"{self.hub.endpoint}/spaces/{repository}/commit/{'1' * 40}"
            return self._reply({"commitUrl": url, "commitOid": "1" * 40, "hookOutput": ""})
        if rest[0] == "variables":
            entry = json.loads(body)
            stored["variables"][entry["key"]] = entry["value"]
            return self._reply({entry["key"]: {"value": entry["value"], "key": entry["key"]}})
        if rest[0] == "hardware":
            stored["hardware"] = json.loads(body)["flavor"]
            hardware = {"current": stored["hardware"], "requested": stored["hardware"]}
            return self._reply({"stage": "RUNNING", "hardware": hardware})
        self._reply({"error": f"unexpected {self.path}"}, 400)

    def _create(self, request: dict[str, Any]) -> None:
        if self.hub.refuse:
            return self._reply({"error": self.hub.refuse}, 403)
        repository = f"{request.get('organization') or 'tester'}/{request['name']}"
        fresh = {"files": {}, "variables": {}, "hardware": request.get("hardware"), "sdk": request.get("sdk")}
        self.hub.repositories.setdefault(repository, fresh)
        kind = "spaces/" if request.get("type") == "space" else ""
        self._reply({"url": f"{self.hub.endpoint}/{kind}{repository}", "id": repository})

    def _commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                files.pop(value["path"], None)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A stand-in that serves until the block ends."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
