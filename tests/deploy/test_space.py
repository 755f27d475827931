"""A simulated Space: the files of an upload, user 1000, a read-only checkout and home, TLS and another host name."""

import json
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gradio_client import Client

from calm.hub import spaces

from ..browser.conftest import ARGUMENTS, run_and_open_map, running_browser
from ..proxy import ProxySettings, running_proxy
from .sandbox import Sandbox

ROOT = Path(__file__).parents[2]
HOST = "me-calm.hf.test"
APP = "/home/user/app"
HUB_ANSWER = {"id": "me/calm", "author": "me", "likes": 0, "private": False, "sdk": "gradio", "cardData": {}}


@dataclass
class Space:
    address: str
    """The public address: https, and a host name that leads to the proxy."""
    sandbox: Sandbox
    missing: list[str]
    """Paths that the page requested and the server did not find."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            return urllib.request.urlopen(address, timeout=2).close()
        except OSError:
            time.sleep(0.3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}"
    subprocess.run([*request.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def space(tmp_path_factory, certificate) -> Iterator[Space]:
    """The running page. On this machine its host name leads to the proxy as long as the tests run."""
    root = tmp_path_factory.mktemp("space")
    root.chmod(0o755)
    sandbox = Sandbox(root / "root", "/home/user", writable=["/tmp"])
    for name in spaces.plan("me/calm", "cpu", root=ROOT).files:
        target = sandbox.path(f"{APP}/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    port = free_port()
    variables = {
        "SYSTEM": "spaces",
        "SPACE_ID": "me/calm",
        "SPACE_HOST": HOST,
        "SPACE_AUTHOR_NAME": "me",
        "SPACE_REPO_NAME": "calm",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_NUM_PORTS": "1",
        "GRADIO_ALLOW_FLAGGING": "never",
        "HF_HUB_OFFLINE": "1",
    }
    process = sandbox.start(["python", "app.py"], APP, variables, root / "log")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}", process, root / "log")
        settings = ProxySettings(f"http://127.0.0.1:{port}", scheme="https")
        with running_proxy(settings, tls) as public, pytest.MonkeyPatch.context() as patch:
            lookup = socket.getaddrinfo
            patch.setattr(
                socket,
                "getaddrinfo",
                lambda host, *more, **options: lookup("127.0.0.1" if host == HOST else host, *more, **options),
            )
            yield Space(f"https://{HOST}:{public}", sandbox, settings.missing)
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_visitor_sees_a_text_and_the_map(space):
    with running_browser([*ARGUMENTS, f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]) as browser:
        page = browser.new_page(ignore_https_errors=True)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        # What Gradio fetches in a Space: its header, and fonts.
        page.route("https://huggingface.co/api/**", lambda route: route.fulfill(json=HUB_ANSWER))
        page.route("https://fonts.googleapis.com/**", lambda route: route.fulfill(content_type="text/css", body=""))
        page.goto(space.address)
        run_and_open_map(page, timeout=120_000)
    assert problems == [] and space.missing == []


def test_programs_use_the_api(space):
    client = Client(space.address, verbose=False, ssl_verify=False, httpx_kwargs={"timeout": 120})
    result = client.predict("Once upon a time", max_new_tokens=8, api_name="/generate")
    assert result["steps"] == 2 and result["text"].startswith("Once upon a time")


def ask_mcp(address: str, method: str, **parameters: object) -> dict:
    """The result of one request to the MCP server."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    accepted = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(f"{address}/gradio_api/mcp/", json.dumps(call).encode(), accepted)
    answer = urllib.request.urlopen(request, timeout=120, context=ssl._create_unverified_context()).read().decode()
    data = next(line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: "))
    return json.loads(data)["result"]


def test_programs_use_mcp(space):
    tools = [tool["name"] for tool in ask_mcp(space.address, "tools/list")["tools"]]
    name = next(name for name in tools if name.endswith("generate"))  # in a Space, its name comes first
    arguments = {"prompt": "Once upon a time", "max_new_tokens": 8}
    result = ask_mcp(space.address, "tools/call", name=name, arguments=arguments)
    assert not result.get("isError") and "Once upon a time" in result["content"][0]["text"]


def test_compiled_kernels_are_stored_where_the_user_can_write(space):
    deadline = time.monotonic() + 180
    while not list(space.sandbox.path("/tmp").glob("calm-kernels-*/**/*.nbc")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
