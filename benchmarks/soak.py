"""Soak test: many clients use the page at once, some leave early, and the helper processes of the page are killed.

    python -m benchmarks.soak --write

Texts of one seed must be equal, memory may grow by 5 % after the first fifth of the requests, and no thread, open file
or helper process may be left over. ``--write`` puts the figures into docs/reliability.md.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.documents import write_figures
from tests.running_page import running_page

MODEL = "story-k4"
CHUNK_SIZE, LATENT_SIZE = 4, 64
SEEDS = 16
TOKENS = 48
MAX_GROWTH = 0.05


def is_ready(address: str) -> bool:
    try:
        return json.loads(get(address, "/health")).get("status") in ("ready", "degraded")
    except (OSError, ValueError):
        return False


def _connect(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)


def get(address: str, path: str) -> str:
    connection = _connect(address)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def metric(address: str, name: str) -> float:
    """The value of a figure of ``/metrics`` that has no labels."""
    return float(next(line.split()[1] for line in get(address, "/metrics").splitlines() if line.startswith(name + " ")))


def call(address: str, endpoint: str, *inputs: Any, session: str | None = None) -> Iterator[tuple[str, Any]]:
    """The events of one call of an endpoint, as pairs of name and data. Closing the iterator closes the connection.
    Without the name of a ``session``, the page makes a new one."""
    connection = _connect(address)
    try:
        body = json.dumps({"data": inputs, "session_hash": session})
        connection.request("POST", f"/gradio_api/call/{endpoint}", body, {"Content-Type": "application/json"})
        event_id = json.loads(connection.getresponse().read())["event_id"]
        connection.request("GET", f"/gradio_api/call/{endpoint}/{event_id}")
        name = ""
        for line in connection.getresponse():
            key, _, value = line.decode().strip().partition(": ")
            if key == "event":
                name = value
            elif key == "data" and name != "heartbeat":
                yield name, json.loads(value)
    finally:
        connection.close()


def fit(address: str, seed: int) -> dict[str, Any]:
    """Fits a map to random vectors through the hidden event of the page; the last message of its queue."""
    event = next(d for d in json.loads(get(address, "/config"))["dependencies"] if d["api_name"] == "_fit")
    vectors = np.random.default_rng(seed).standard_normal((20, LATENT_SIZE)).round(3).tolist()
    own = [{"run_id": "soak", "prompt": "", "vectors": vectors, "chunks": [[5] * CHUNK_SIZE] * len(vectors)}]
    session = f"soak{seed}-{time.monotonic_ns()}"
    inputs = [MODEL, own, 15, 0.15, "euclidean", 2, seed]
    body = json.dumps({"data": inputs, "fn_index": event["id"], "session_hash": session})
    connection = _connect(address)
    try:
        connection.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
        for line in connection.getresponse():
            key, _, value = line.decode().strip().partition(": ")
            if key == "data" and (message := json.loads(value))["msg"] == "process_completed":
                return message
        raise RuntimeError("the fit ended without a message")
    finally:
        connection.close()


@dataclass
class Soak:
    """A run in progress and its figures."""

    address: str
    process: subprocess.Popen
    first_chunks: list[float] = field(default_factory=list)
    """Seconds from the request to its first chunk."""
    texts: dict[int, set[str]] = field(default_factory=dict)
    """The complete texts of each seed."""
    done: int = 0
    left: int = 0
    killed: int = 0
    fits: int = 0
    """Fits that ended with a map; those whose process was killed end with a sentence."""
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, number: int) -> None:
        """One request: every fifth closes its connection after the first chunk, every tenth reconstructs a text, and
        every fiftieth fits a map."""
        seed, start = number % SEEDS, time.monotonic()
        leaves, reconstructs = number % 5 == 1, number % 10 == 2
        try:
            if number % 50 == 3:
                self.fit(seed)
                return
            if reconstructs:
                events = call(self.address, "reconstruct", "Once upon a time.", 0, seed, MODEL)
            else:
                events = call(self.address, "generate", "Once upon a time", 0.5, TOKENS, seed, "auto", 200, MODEL)
            name, data = "", None  # type: str, Any
            for count, event in enumerate(events):
                name, data = event
                if not count and not reconstructs:
                    self.first_chunks.append(time.monotonic() - start)
                if leaves and not reconstructs:
                    events.close()  # type: ignore[attr-defined]
                    self.left += 1
                    return
            if name != "complete":
                raise RuntimeError(f"the last event was {name!r} with {data!r}")
            if not reconstructs:
                with self.lock:
                    self.texts.setdefault(seed, set()).add(data[0]["text"])
            self.done += 1
        except Exception as error:
            self.failures.append(f"request {number}: {type(error).__name__}: {error}")

    def fit(self, seed: int) -> None:
        message = fit(self.address, seed)
        self.fits += message["success"]
        self.done += 1
        if not message["success"] and not message["output"].get("error"):
            raise RuntimeError(f"the fit failed without a sentence: {message}")

    def usage(self) -> dict[str, float]:
        folder = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        return {
            "megabytes": int(status["VmRSS"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "files": len(list((folder / "fd").iterdir())),
            "children": len(self.children()),
        }

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for path in tasks.glob("*/children") for pid in path.read_text().split()]

    def kill_helpers(self, stop: threading.Event) -> None:
        """Kills the helper processes of the page now and then: those of fits, and the one that compiles kernels."""
        while not stop.wait(20):
            for pid in self.children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1

    def run(self, clients: int, requests: int) -> dict[str, Any]:
        """The figures of a complete run."""
        stop = threading.Event()
        killer = threading.Thread(target=self.kill_helpers, args=(stop,))
        killer.start()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.request, range(requests // 5)))
            before = self.usage()
            start = time.monotonic()
            list(pool.map(self.request, range(requests // 5, requests)))
            seconds = time.monotonic() - start
        stop.set()
        killer.join()
        while metric(self.address, "calm_active_slots"):
            time.sleep(0.2)
        time.sleep(5)  # Gradio notices closed connections after some seconds
        after = self.usage()
        return {
            "clients": clients, "requests": requests, "finished": self.done, "left_early": self.left,
            "failed": len(self.failures), "helpers_killed": self.killed, "maps_fitted": self.fits,
            "different_texts_of_a_seed": max(map(len, self.texts.values()), default=0),
            "first_chunk_median": float(np.median(self.first_chunks)),
            "first_chunk_95": float(np.quantile(self.first_chunks, 0.95)),
            "requests_a_second": (requests - requests // 5) / seconds,
            "growth": after["megabytes"] / before["megabytes"] - 1, "before": before, "after": after,
        }  # fmt: skip


def problems(figures: dict[str, Any]) -> list[str]:
    """What breaks a promise."""
    before, after = figures["before"], figures["after"]
    checks = {
        f"{figures['failed']} requests failed": figures["failed"] > 0,
        "texts of one seed differ": figures["different_texts_of_a_seed"] != 1,
        f"memory grew by {figures['growth']:.1%}": figures["growth"] >= MAX_GROWTH,
        "threads are left over": after["threads"] > before["threads"],
        "open files are left over": after["files"] > before["files"],
    }
    return [text for text, broken in checks.items() if broken]


def table(figures: dict[str, Any], machine: str) -> str:
    after = figures["after"]
    rows = {
        "clients, requests": f"{figures['clients']}, {figures['requests']:,}",
        "finished, left early, failed": f"{figures['finished']}, {figures['left_early']}, {figures['failed']}",
        "helper processes killed, maps fitted": f"{figures['helpers_killed']}, {figures['maps_fitted']}",
        "first chunk, median and 95th percentile": f"{figures['first_chunk_median']:.2f} s, "
        f"{figures['first_chunk_95']:.2f} s",
        "requests a second": f"{figures['requests_a_second']:.1f}",
        "growth of memory": f"{figures['growth']:.1%} of {figures['before']['megabytes']:.0f} MB",
        "threads and open files, before and after": f"{figures['before']['threads']} and {figures['before']['files']}, "
        f"{after['threads']} and {after['files']}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join([f"Measured on {machine}.", "", "| figure | value |", "| --- | --- |", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    with running_page() as (address, process):
        while not is_ready(address):
            time.sleep(0.3)
        soak = Soak(address, process)
        figures = soak.run(arguments.clients, arguments.requests)
    print(json.dumps(figures, indent=2))
    for failure in soak.failures[:10]:
        print(failure)
    broken = problems(figures)
    print("\n".join(broken) or "All promises held.")
    if arguments.write and not broken:
        write_figures("docs/reliability.md", "soak", table(figures, f"{os.cpu_count()} CPU cores"))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
