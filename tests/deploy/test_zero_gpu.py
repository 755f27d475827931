"""A simulated ZeroGPU Space: the package ``spaces``, a stand-in for the platform's device API, CPU torch behind it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError

import calm
from calm.engine import create_engine
from calm.engine.ops.selection import FALLBACK

ROOT = Path(__file__).parents[2]
PROMPT, OPTIONS = "Once upon a time", {"temperature": 1.0, "max_new_tokens": 24, "seed": 3}


class DeviceApi(BaseHTTPRequestHandler):
    """Schedules every call on one GPU, until the quota is used up."""

    calls: list[str]
    page: str
    page_was_up: list[bool]
    quota_is_used: threading.Event

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        call = self.path.partition("?")[0].strip("/")
        self.calls.append(call)
        if call == "startup-report":
            self.page_was_up.append(_answers(self.page))
        status, body = 200, b"{}"
        if call == "schedule":
            body = json.dumps({"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}).encode()
            if self.quota_is_used.is_set():
                status, body = 429, json.dumps({"left": 0, "wait": "P1D"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _client(page: str) -> Client:
    return Client(page, verbose=False, httpx_kwargs={"timeout": 120})  # the CPU kernels may be compiling meanwhile


@pytest.fixture(scope="module")
def official_folder(tmp_path_factory, tokenizer) -> Path:
    from tests.conftest import fixed_weights, tiny_config

    model = calm.modeling.calm.EnergyTransformer(tiny_config(4, len(tokenizer))).eval()
    fixed_weights(model)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    calm.save(calm.LanguageModel("tiny", model, tokenizer), folder)
    return folder


@pytest.fixture(scope="module")
def space(tmp_path_factory, official_folder):
    """The running page, the folder of its model, and the device API."""
    scratch = tmp_path_factory.mktemp("space")
    (scratch / "cgroup").write_text("0::/space\n")
    page = f"http://127.0.0.1:{_free_port()}"
    state = {"calls": [], "page": page, "page_was_up": [], "quota_is_used": threading.Event()}
    api = ThreadingHTTPServer(("127.0.0.1", 0), type("Api", (DeviceApi,), state))
    threading.Thread(target=api.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{api.server_address[1]}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(scratch / "cgroup"),
        "ZEROGPU_OFFLOAD_DIR": str(scratch / "tensors"),
        "CALM_MODELS": str(official_folder),
        "GRADIO_SERVER_PORT": page.rpartition(":")[2],
        "HF_HUB_OFFLINE": "1",
    }
    log = (scratch / "log").open("w+")
    command = [sys.executable, "-m", "tests.deploy.on_zero_gpu"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while not _answers(page):
            assert process.poll() is None and time.monotonic() < deadline, (scratch / "log").read_text()
            time.sleep(0.3)
        yield page, official_folder, state
    finally:
        process.terminate()
        process.wait(timeout=30)
        api.shutdown()


def test_the_start_is_reported_once_before_the_page_answers(space):
    _, _, state = space
    assert state["calls"].count("startup-report") == 1 and state["page_was_up"] == [False]


def test_a_worker_generates_the_text_that_the_cpu_generates(space):
    page, folder, state = space
    lm = calm.load(folder, "cpu", torch.bfloat16)  # as the page loads it for a GPU
    create_engine(lm, backend=FALLBACK)
    expected = PROMPT + "".join(step.text for step in calm.generate(lm, PROMPT, **OPTIONS))
    client = _client(page)
    before = len(state["calls"])
    result = client.predict(PROMPT, model=str(folder), **OPTIONS, api_name="/generate")
    assert result["text"] == expected and result["steps"] == 6
    assert state["calls"][before:] == ["schedule", "allow", "release"]


def test_an_error_in_the_worker_is_the_sentence_of_the_library(space):
    page, folder, _ = space
    with pytest.raises(AppError, match="temperature must be"):
        _client(page).predict(PROMPT, 7.0, model=str(folder), api_name="/generate")


def test_a_bundled_model_needs_no_gpu(space):
    page, _, state = space
    before = len(state["calls"])
    result = _client(page).predict(PROMPT, max_new_tokens=8, model="story-ar", api_name="/generate")
    assert result["steps"] == 8 and len(state["calls"]) == before


def test_a_used_quota_is_reported_in_one_sentence(space):
    page, folder, state = space
    state["quota_is_used"].set()
    try:
        with pytest.raises(AppError, match=r"GPU of this Space is not available .* bundled models need none"):
            _client(page).predict(PROMPT, model=str(folder), api_name="/generate")
    finally:
        state["quota_is_used"].clear()
