"""Replicas on Ray: the overhead of the remote path, and requests while replicas are lost, replaced, added and removed.

    python -m benchmarks.replicas overhead [--rounds 5]
    python -m benchmarks.replicas faults [--requests 200] [--clients 16] [--seconds 5] [--pool-size 100] [--nodes]
    python -m benchmarks.replicas autoscale [--clients 16] [--pool-size 100]

``overhead`` compares story-k4 in this process with a single replica that has the same number of cores, in alternation:
tokens per second of eight clients, the CPU seconds of each part, and the time to the first chunk of one client alone;
all without and with the encoding of each chunk, which the page shows.

``faults`` requests texts of story-k4 from two replicas, twice. A replica is killed by SIGKILL every few seconds, as
soon as both are ready; the second time, rolling updates replace all replicas meanwhile. With ``--nodes``, each
replica runs on a node of its own, all on this machine, and nodes are lost instead.

``autoscale`` lets many clients request texts until Ray has added a second replica, and a few until it has removed it.

The last two fail if an error reaches a client or a text does not equal its solo run in this process.
"""

from __future__ import annotations

import argparse
import itertools
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
from functools import partial
from typing import Any

import calm
from app.backends import LoadedModel
from app.backends.ray import RayBackend, RemoteModel
from app.controls import UPDATE_INTERVAL
from app.registry import loaded
from benchmarks.generation import openings
from benchmarks.nodes import Nodes
from benchmarks.processes import cpu_seconds, ready_replicas
from calm.serving import deployment

MODEL = "story-k4"
TOKENS = 160
CLIENTS, REQUESTS = 8, 64
"""Of a measurement of the overhead."""
SOLO_REQUESTS, SOLO_TOKENS = 16, 32
"""Of a measurement of the first chunk."""
REPLICAS = 2
CHECK_SECONDS = 0.1
FEW_CLIENTS = 4
"""Fewer than the slots of a replica."""
SHARED_SECONDS = 15.0
"""For so long both replicas get requests."""
SCALING_LIMIT = 300.0
"""Seconds until the number of replicas must have changed."""

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


def lose_until(done: threading.Event, seconds: float, lose: Callable[[], None]) -> int:
    """Calls ``lose`` every few seconds when all replicas are ready. Returns how often."""
    lost, last = 0, time.monotonic()
    while not done.wait(CHECK_SECONDS):
        if time.monotonic() - last >= seconds and len(ready_replicas()) >= REPLICAS:
            lose()
            lost, last = lost + 1, time.monotonic()
    return lost


def kill_one() -> None:
    os.kill(random.choice(ready_replicas()), signal.SIGKILL)


def update_until(done: threading.Event) -> int:
    """Replaces all replicas again and again. Returns how often."""
    updates = 0
    while not done.is_set():
        cpus = (0.4, 0.5)[updates % 2]  # a change that needs new replicas
        deployment.start([MODEL], deployment.Scale(REPLICAS, REPLICAS, num_cpus=cpus, drain_seconds=1), "cpu")
        updates += 1
    return updates


def text_or_error(seed: int, model: LoadedModel, prompts: list[str], pool_size: int) -> Chunks | Exception:
    """A text of the faults and of autoscaling. Pooled steps make it long enough."""
    try:
        return request(model, seed, prompts, pool_size=pool_size, sampler="pooled")[0]
    except (calm.CalmError, RuntimeError) as error:
        return error


def compared(results: dict[int, Chunks | Exception], prompts: list[str], pool_size: int) -> dict[str, Any]:
    """How many texts equal their solo runs in this process, and all errors."""
    local = loaded(MODEL)
    return {
        "texts": len(results),
        "equal": sum(result == text_or_error(seed, local, prompts, pool_size) for seed, result in results.items()),
        "errors": [str(result) for result in results.values() if isinstance(result, Exception)],
    }


def faults(requests: int, clients: int, seconds: float, pool_size: int, nodes: Nodes | None) -> dict[str, Any]:
    prompts, figures = openings(), {}
    # Two replicas share a node of this machine, and each of several nodes has room for one.
    deployment.start([MODEL], deployment.Scale(REPLICAS, REPLICAS, num_cpus=1.0 if nodes else 0.5), "cpu")
    model = connect_to_replicas()
    kills: dict[str, Callable] = {"killed": partial(lose_until, seconds=seconds, lose=kill_one)}
    cases: dict[str, dict[str, Callable]] = {"kills": kills, "kills_and_updates": {**kills, "updates": update_until}}
    if nodes:
        cases = {"lost_nodes": {"lost": partial(lose_until, seconds=seconds, lose=nodes.replace_one)}}
    ask = partial(text_or_error, model=model, prompts=prompts, pool_size=pool_size)
    for name, some in cases.items():
        losses, start, done = model.client.losses, time.perf_counter(), threading.Event()
        with ThreadPoolExecutor(len(some)) as fault_threads, ThreadPoolExecutor(clients) as client_threads:
            running = {fault: fault_threads.submit(run, done) for fault, run in some.items()}
            try:
                results = dict(enumerate(client_threads.map(ask, range(requests))))
            finally:
                done.set()
        figures[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "losses": model.client.losses - losses,
            **{fault: future.result() for fault, future in running.items()},
            **compared(results, prompts, pool_size),
        }
        print(name, figures[name], file=sys.stderr)
    return figures


def autoscale(clients: int, pool_size: int) -> dict[str, Any]:
    """Seconds of load until Ray has added the second replica, and of little load until it has removed it."""
    prompts, seeds, results = openings(), itertools.count(), {}
    deployment.start([MODEL], deployment.Scale(1, REPLICAS, num_cpus=0.5, downscale_seconds=5), "cpu")
    model = connect_to_replicas()

    def ask_until(done: threading.Event) -> None:
        while not done.is_set():
            seed = next(seeds)
            results[seed] = text_or_error(seed, model, prompts, pool_size)

    def seconds_until(replicas: int, clients: int, more: float) -> float:
        """Requests texts until so many replicas are ready, and for some seconds more."""
        start, done = time.monotonic(), threading.Event()
        with ThreadPoolExecutor(clients) as threads:
            for _ in range(clients):
                threads.submit(ask_until, done)
            while len(ready_replicas()) != replicas and time.monotonic() < start + SCALING_LIMIT:
                time.sleep(CHECK_SECONDS)
            seconds = time.monotonic() - start
            time.sleep(more)
            done.set()
        return round(seconds, 1)

    scaling = {
        "seconds_until_added": seconds_until(REPLICAS, clients, SHARED_SECONDS),
        "seconds_until_removed": seconds_until(1, FEW_CLIENTS, 0.0),
        "losses": model.client.losses,
    }
    return {"autoscale": {**scaling, **compared(results, prompts, pool_size)}}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"overhead": overhead, "faults": faults, "autoscale": autoscale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    speed = commands.add_parser("overhead")
    speed.add_argument("--rounds", type=int, default=5)
    robust, scaling = commands.add_parser("faults"), commands.add_parser("autoscale")
    robust.add_argument("--requests", type=int, default=200)
    robust.add_argument("--seconds", type=float, default=5.0, help="between two losses, at least")
    robust.add_argument("--nodes", action="store_true", help="lose nodes, each with one replica, instead of replicas")
    for each in (robust, scaling):
        each.add_argument("--clients", type=int, default=16)
        each.add_argument("--pool-size", type=int, default=100, help="samples of a step, which make texts long enough")
    arguments = vars(parser.parse_args())
    name = arguments.pop("command")
    nodes = Nodes(REPLICAS) if arguments.get("nodes") else None
    if name == "faults":
        arguments["nodes"] = nodes
    deployment.connect(None)
    try:
        figures = COMMANDS[name](**arguments)
    finally:
        deployment.stop()
        if nodes:
            nodes.stop()
    print(json.dumps(figures))
    if name != "overhead" and any(part["errors"] or part["equal"] < part["texts"] for part in figures.values()):
        raise SystemExit("An error reached a client, or a text differs from its solo run.")


if __name__ == "__main__":
    main()
