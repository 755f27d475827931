"""The page in a process of its own, for tests, screenshots and benchmarks."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[1]
PATIENCE = 180
"""Seconds until the page must answer."""


class RunningPage(NamedTuple):
    address: str
    process: subprocess.Popen


@contextmanager
def running_page(log: IO | None = None, /, **variables: str) -> Iterator[RunningPage]:
    """Starts ``python app.py`` on a free port, with more environment variables, and waits until it answers. Its models
    may still be loading. At the end the page and the helpers that it has started are stopped. Its log lines go to
    ``log``, or to the standard error of this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", **variables}
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            assert process.poll() is None, "the page ended before it answered"
            assert time.monotonic() < deadline, f"the page did not answer within {PATIENCE} seconds"
            time.sleep(0.02)
        yield RunningPage(address, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).read()
    except OSError:
        return False
    return True
