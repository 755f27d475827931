"""Faults of the Hub, one by one: each ends in a sentence of its own, and a complete download follows a cut one."""

import json
import resource
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants as constants
import pytest

from calm import CalmError
from calm.hub import folders
from calm.hub.folders import download

FILES = {"config.json": b'{"patch_size": 4}', "model.safetensors": b"w" * 100_000}
COMMIT = "1" * 40
CODES = {"gated": (403, "GatedRepo"), "missing": (404, "RepoNotFound"), "private": (401, "RepoNotFound")}


class Handler(BaseHTTPRequestHandler):
    """A Hub of repositories that are named by their fault; the repository ``faults/cut`` loses its first connection."""

    protocol_version = "HTTP/1.1"
    released: threading.Event
    requests: list[str]

    def log_message(self, *arguments: object) -> None:
        pass

    def _reply(self, body: bytes, status: int = 200, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])

    def do_GET(self) -> None:
        fault = self.path.removeprefix("/api/models").split("/")[2]
        self.requests.append(self.path)
        if fault in CODES:
            status, code = CODES[fault]
            return self._reply(b"", status, X_Error_Code=code)
        if fault == "broken":
            return self._reply(b"", 500)
        if fault == "slow":
            self.released.wait(60)
            return None
        if "/revision/" in self.path and not self.path.endswith(("/main", COMMIT)):
            return self._reply(b"", 404, X_Error_Code="RevisionNotFound")
        if "/tree/" in self.path:
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in FILES.items()]
            return self._reply(json.dumps(tree).encode(), Content_Type="application/json")
        if self.path.startswith("/api/models"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": f"faults/{fault}", "sha": COMMIT, "siblings": siblings, "tags": []})
            return self._reply(body.encode(), Content_Type="application/json")
        name = self.path.rpartition("/")[2]
        cut = fault == "cut" and self.command == "GET" and name == "model.safetensors"
        is_first = sum("model.safetensors" in path for path in self.requests) <= 2  # a HEAD and a GET
        sent = 1000 if cut and is_first else None
        self._reply(FILES[name], sent=sent, ETag=f'"{name}"', X_Repo_Commit=COMMIT)
        if sent:
            self.close_connection = True

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The Hub's address; downloads go to a folder of this test."""
    released = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (Handler,), {"released": released, "requests": []}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
    yield monkeypatch
    released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def use(monkeypatch, endpoint: str) -> None:
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def sentence(name: str, revision: str | None = None) -> str:
    with pytest.raises(CalmError) as raised:
        download(name, revision)
    return str(raised.value)


def test_a_repository_is_downloaded(hub):
    folder = download("faults/none")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_a_download_reports_its_bytes_and_continues_after_it_was_cancelled(hub):
    seen: list[tuple[int, int]] = []

    def cancel(arrived: int, size: int) -> None:
        raise CalmError("Nobody waits for it.")

    with pytest.raises(CalmError, match="Nobody waits for it"):
        download("faults/none", report=cancel)
    folder = download("faults/none", report=lambda arrived, size: seen.append((arrived, size)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert max(seen) == (sum(map(len, FILES.values())),) * 2


def test_each_refusal_has_its_own_sentence(hub):
    assert "needs permission: accept its terms on the Hub" in sentence("faults/gated")
    for name in ("faults/missing", "faults/private"):
        assert "does not exist on the Hugging Face Hub, or needs a login" in sentence(name)
    assert "does not exist on the Hugging Face Hub at revision 'v9'" in sentence("faults/none", "v9")
    assert "the Hugging Face Hub answered with an error" in sentence("faults/broken")


def test_a_hub_that_is_down_is_one_sentence(hub):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        use(hub, f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "the Hugging Face Hub cannot be reached" in sentence("faults/none")


def test_a_hub_that_does_not_answer_is_one_sentence(hub):
    hub.setattr(folders, "HUB_TIMEOUT", 0.3)
    assert "the Hugging Face Hub cannot be reached" in sentence("faults/slow")


def test_a_full_disk_is_named(hub):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        message = sentence("faults/none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message.startswith("The model 'faults/none' could not be downloaded from the Hugging Face Hub")
    assert (download("faults/none") / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_download_that_is_cut_off_is_completed(hub):
    folder = download("faults/cut")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
