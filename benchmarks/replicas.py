"""Two replicas on Ray under faults, and the overhead of the remote path.

    python -m benchmarks.replicas [--requests 200] [--clients 16] [--seconds 5]

Clients request texts of story-k4 from two replicas. Meanwhile a replica is killed by SIGKILL every few seconds, and a
rolling update replaces all of them. Every text must equal its solo run. Before that, eight clients measure tokens per
second and the first chunk in this process and on a single replica, which has the same number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import calm
from app.backends import LocalModel
from app.backends.ray import RayBackend
from benchmarks.generation import openings
from calm.engine import ComputeThread, create_engine

MODEL = "story-k4"
TOKENS = 96
CLIENTS = 8
OVERHEAD_REQUESTS = 64

Stream = Callable[[str, calm.GenerationOptions], Generator[Any, None, None]]


def request(stream: Stream, seed: int, prompts: list[str]) -> tuple[list[list[int]], float]:
    """The chunks of one text, and the seconds to its first one."""
    start, first, chunks = time.perf_counter(), 0.0, []
    options = calm.GenerationOptions(0.5, TOKENS, seed=seed)
    for event in stream(prompts[seed % len(prompts)], options):
        if isinstance(event, calm.Step):
            first = first or time.perf_counter() - start
            chunks.append(event.token_ids)
    return chunks, first


def speed(stream: Stream, seeds: Iterable[int], prompts: list[str]) -> dict[str, float]:
    """Tokens per second of eight clients, and the median time to the first chunk of one client alone."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        results = list(threads.map(lambda seed: request(stream, seed, prompts)[0], seeds))
    seconds = time.perf_counter() - begin
    first = statistics.median(request(stream, seed, prompts)[1] for seed in range(9))
    return {"tokens_per_second": sum(map(len, results)) * 4 / seconds, "first_chunk": first}


def processes() -> list[int]:
    """The ids of the replicas' processes, by the titles that Ray gives them."""
    titles = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/cmdline")}
    found = []
    for number, path in titles.items():
        try:
            if b"ServedReplica" in path.read_bytes():
                found.append(number)
        except OSError:  # it has ended meanwhile
            continue
    return found


def kill_until(done: threading.Event, seconds: float, killed: list[int]) -> None:
    while not done.wait(seconds):
        if running := processes():
            killed.append(random.choice(running))
            os.kill(killed[-1], signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="between two kills")
    arguments = parser.parse_args()
    from calm.serving import deployment

    prompts, lm = openings(), calm.load(MODEL, device="cpu")
    create_engine(lm, ComputeThread())
    local = LocalModel(MODEL, lm, None)
    seeds = range(OVERHEAD_REQUESTS)
    speed(local.stream, range(CLIENTS), prompts)  # warm-up
    figures: dict[str, Any] = {"local": speed(local.stream, seeds, prompts)}
    expected = [request(local.stream, seed, prompts)[0] for seed in range(arguments.requests)]

    deployment.connect(None)
    try:
        deployment.start([MODEL], deployment.Scale(), "cpu")
        backend = RayBackend()
        remote = backend.model(MODEL, backend.load(MODEL, lambda needed, free: None, lambda arrived, size: None), None)
        speed(remote.stream, range(CLIENTS), prompts)
        figures["remote"] = speed(remote.stream, seeds, prompts)

        deployment.start([MODEL], deployment.Scale(2, 2, num_cpus=0.5), "cpu")
        done, killed = threading.Event(), list[int]()
        killer = threading.Thread(target=kill_until, args=(done, arguments.seconds, killed))
        update = threading.Thread(
            target=deployment.start, args=([MODEL], deployment.Scale(2, 2, num_cpus=0.4, drain_seconds=1), "cpu")
        )
        killer.start()
        update.start()
        with ThreadPoolExecutor(arguments.clients) as threads:
            texts = list(threads.map(lambda seed: request(remote.stream, seed, prompts)[0], range(arguments.requests)))
        done.set()
        killer.join()
        update.join()
        same = sum(text == other for text, other in zip(texts, expected, strict=True))
        figures["faults"] = {"texts": len(texts), "equal": same, "killed": len(killed)}
    finally:
        deployment.stop()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
