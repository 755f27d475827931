"""Replicas on Ray: the overhead of the remote path, and requests while replicas are killed and replaced.

    python -m benchmarks.replicas overhead [--rounds 5]
    python -m benchmarks.replicas faults [--requests 200] [--clients 16] [--seconds 5] [--pool-size 100]

``overhead`` compares story-k4 in this process with a single replica that has the same number of cores, in alternation:
tokens per second of eight clients, the CPU seconds of each part, and the time to the first chunk of one client alone;
all without and with the encoding of each chunk, which the page shows.

``faults`` requests texts of story-k4 from two replicas, twice. A replica is killed by SIGKILL every few seconds, as
soon as both are ready; the second time, rolling updates replace all replicas meanwhile. The program fails if an error
reaches a client or a text does not equal its solo run in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import calm
from app.backends import LoadedModel
from app.backends.ray import RayBackend, RemoteModel
from app.controls import UPDATE_INTERVAL
from app.registry import loaded
from benchmarks.generation import openings
from benchmarks.processes import cpu_seconds, ready_replicas
from calm.serving import deployment

MODEL = "story-k4"
TOKENS = 160
CLIENTS, REQUESTS = 8, 64
"""Of a measurement of the overhead."""
SOLO_REQUESTS, SOLO_TOKENS = 16, 32
"""Of a measurement of the first chunk."""
REPLICAS = 2
KILL_CHECK_SECONDS = 0.1

Chunks = list[list[int]]


def request(
    model: LoadedModel, seed: int, prompts: list[str], encode: bool = False, tokens: int = TOKENS, **options: Any
) -> tuple[Chunks, float]:
    """The chunks of one text, and the seconds to its first one, with the encodings of the chunks or without.

    The chunks are encoded as the page does it: the first one at once, later ones together at each update of the page.
    """
    start, first, steps, encoded, encoded_at = time.perf_counter(), 0.0, [], 0, 0.0
    settings = calm.GenerationOptions(0.5, tokens, seed=seed, **options)
    for event in model.stream(prompts[seed % len(prompts)], settings, encodings=encode):
        if isinstance(event, calm.Step):
            steps.append(event)
            if encode and time.perf_counter() - encoded_at >= UPDATE_INTERVAL:
                model.encoded(steps[encoded:])
                encoded, encoded_at = len(steps), time.perf_counter()
            first = first or time.perf_counter() - start
    if encode and steps[encoded:]:
        model.encoded(steps[encoded:])
    return [step.token_ids for step in steps], first


def throughput(model: LoadedModel, prompts: list[str], encode: bool) -> tuple[float, dict[str, float]]:
    """Tokens per second of all clients, and CPU seconds per 1,000 tokens of this process, the replica and Ray."""
    start, before = time.perf_counter(), cpu_seconds()
    with ThreadPoolExecutor(CLIENTS) as threads:
        texts = list(threads.map(lambda seed: request(model, seed, prompts, encode)[0], range(REQUESTS)))
    seconds, after = time.perf_counter() - start, cpu_seconds()
    tokens = sum(len(chunk) for chunks in texts for chunk in chunks)
    return tokens / seconds, {part: 1000 * (total - before[part]) / tokens for part, total in after.items()}


def first_chunk(model: LoadedModel, prompts: list[str], encode: bool) -> float:
    """Median seconds to the first chunk of one client alone."""
    return statistics.median(request(model, seed, prompts, encode, SOLO_TOKENS)[1] for seed in range(SOLO_REQUESTS))


def connect_to_replicas() -> RemoteModel:
    def ignore(*_: Any) -> None: ...

    return RemoteModel(MODEL, RayBackend().load(MODEL, ignore, ignore), None)


def overhead(rounds: int) -> dict[str, Any]:
    """Medians over rounds, and the differences of the medians."""
    prompts = openings()
    deployment.start([MODEL], deployment.Scale(num_cpus=float(os.cpu_count() or 1)), "cpu")
    models = {"local": loaded(MODEL), "remote": connect_to_replicas()}
    figures: dict[str, Any] = {}
    for title, encode in {"texts": False, "texts_and_encodings": True}.items():
        rates: dict[str, list[float]] = {name: [] for name in models}
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in models}
        firsts: dict[str, list[float]] = {name: [] for name in models}
        for number in range(rounds + 1):
            for name, model in models.items():
                rate, cost = throughput(model, prompts, encode)
                first = first_chunk(model, prompts, encode)
                if number:  # the first round warms up
                    rates[name].append(rate)
                    costs[name].append(cost)
                    firsts[name].append(first)
        rate_medians = {name: statistics.median(rates[name]) for name in models}
        first_medians = {name: statistics.median(firsts[name]) for name in models}
        figures[title] = {
            "tokens_per_second": rate_medians,
            "throughput_overhead": 1 - rate_medians["remote"] / rate_medians["local"],
            "cpu_seconds_per_1000_tokens": {name: _medians(costs[name]) for name in models},
            "first_chunk": first_medians,
            "first_chunk_overhead": first_medians["remote"] - first_medians["local"],
        }
    return figures


def _medians(costs: list[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(cost.get(part, 0.0) for cost in costs) for part in sorted(set().union(*costs))}


def kill_until(done: threading.Event, seconds: float) -> int:
    """Kills a random replica every few seconds when all are ready. Returns how many."""
    killed, last = 0, time.monotonic()
    while not done.wait(KILL_CHECK_SECONDS):
        if time.monotonic() - last >= seconds and len(ready := ready_replicas()) >= REPLICAS:
            os.kill(random.choice(ready), signal.SIGKILL)
            killed, last = killed + 1, time.monotonic()
    return killed


def update_until(done: threading.Event) -> int:
    """Replaces all replicas again and again. Returns how often."""
    updates = 0
    while not done.is_set():
        cpus = (0.4, 0.5)[updates % 2]  # a change that needs new replicas
        deployment.start([MODEL], deployment.Scale(REPLICAS, REPLICAS, num_cpus=cpus, drain_seconds=1), "cpu")
        updates += 1
    return updates


def run_under(
    faults: dict[str, Callable[[threading.Event], int]], ask: Callable[[int], Chunks], requests: int, clients: int
) -> tuple[list[Chunks | calm.CalmError | RuntimeError], dict[str, int]]:
    """The text or the error of each request, and how often each fault occurred. Raises what a fault raises."""

    def text_or_error(seed: int) -> Chunks | calm.CalmError | RuntimeError:
        try:
            return ask(seed)
        except (calm.CalmError, RuntimeError) as error:
            return error

    done = threading.Event()
    with ThreadPoolExecutor(len(faults)) as fault_threads, ThreadPoolExecutor(clients) as client_threads:
        running = {name: fault_threads.submit(fault, done) for name, fault in faults.items()}
        try:
            results = list(client_threads.map(text_or_error, range(requests)))
        finally:
            done.set()
        return results, {name: future.result() for name, future in running.items()}


def faults(requests: int, clients: int, seconds: float, pool_size: int) -> dict[str, Any]:
    prompts, local = openings(), loaded(MODEL)
    options: dict[str, Any] = {"pool_size": pool_size, "sampler": "pooled"}
    expected = [request(local, seed, prompts, **options)[0] for seed in range(requests)]
    deployment.start([MODEL], deployment.Scale(REPLICAS, REPLICAS, num_cpus=0.5), "cpu")
    model = connect_to_replicas()
    kills = {"killed": lambda done: kill_until(done, seconds)}
    figures: dict[str, Any] = {}
    for name, some in {"kills": kills, "kills_and_updates": {**kills, "updates": update_until}}.items():
        losses, start = model.client.losses, time.perf_counter()
        results, counts = run_under(some, lambda seed: request(model, seed, prompts, **options)[0], requests, clients)
        figures[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "texts": len(results),
            "equal": sum(result == text for result, text in zip(results, expected, strict=True)),
            "errors": [str(result) for result in results if isinstance(result, Exception)],
            "losses": model.client.losses - losses,
            **counts,
        }
        print(name, figures[name], file=sys.stderr)
    return figures


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"overhead": overhead, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    speed = commands.add_parser("overhead")
    speed.add_argument("--rounds", type=int, default=5)
    robust = commands.add_parser("faults")
    robust.add_argument("--requests", type=int, default=200)
    robust.add_argument("--clients", type=int, default=16)
    robust.add_argument("--seconds", type=float, default=5.0, help="between two kills, at least")
    robust.add_argument("--pool-size", type=int, default=100, help="samples of a step, which make texts long enough")
    arguments = vars(parser.parse_args())
    command = COMMANDS[arguments.pop("command")]
    deployment.connect(None)
    try:
        figures = command(**arguments)
    finally:
        deployment.stop()
    print(json.dumps(figures))
    if command is faults and any(part["errors"] or part["equal"] < part["texts"] for part in figures.values()):
        raise SystemExit("An error reached a client, or a text differs from its solo run.")


if __name__ == "__main__":
    main()
