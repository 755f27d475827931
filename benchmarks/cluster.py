"""Simulates 1 to 64 replicas of a model: throughput, time to the first chunk, and cost.

    python -m benchmarks.cluster [--write]

Service times are measured ones: the total tokens per second of 1 to 8 texts at once, from the table of
``python -m benchmarks.concurrency`` in docs/performance.md (column T = 0.5). Texts on one replica share it equally, up
to eight; more wait in order. A request goes to the replica with the fewest requests. Arrivals are a Poisson process
whose rate is multiplied during bursts. ``--write`` puts the table into docs/deploy.md.
"""

from __future__ import annotations

import argparse
import heapq
import random
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.documents import ROOT, write_figures

SOURCE = ROOT / "docs/performance.md"
SLOTS = 8
CHUNK = 4
TOKENS = 160
"""Tokens of a text, as in the measurement."""
BURST_FACTOR, BURST_SECONDS, CALM_SECONDS = 3.0, 10.0, 50.0
"""In a burst the rate of arrivals is that many times the rate outside it."""
LOAD = 0.5
"""Mean share of the capacity that the arrivals of the table use."""
VISITORS, THINK_SECONDS = 10_000, 60.0
"""Visitors at once, and the mean seconds between two texts of one visitor."""
WANTED_SECONDS = 1.0
"""95th percentile of the time to the first chunk."""
REPLICAS = (1, 2, 4, 8, 16, 32, 64)
MACHINE, PRICE = "two vCPUs of an AMD EPYC (for example an AWS c7a.large)", 0.103
"""The machine of a replica, and an assumed price of it in dollars an hour."""


def measured_rates() -> dict[int, float]:
    """Tokens per second in all, by the number of texts at once, from the table of measurements."""
    table = SOURCE.read_text(encoding="utf-8").partition("## Several clients")[2]
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \|", table, re.MULTILINE)
    return {int(count): float(rate.replace(",", "")) for count, rate in rows if int(count) <= SLOTS}


def rates_of(measured: dict[int, float]) -> list[float]:
    """Tokens per second in all for 0 to ``SLOTS`` texts; between two measurements, the line through both."""
    known = sorted(measured)
    rates = [0.0]
    for count in range(1, SLOTS + 1):
        high = next(n for n in known if n >= count)
        low = max(n for n in known if n <= count)
        share = (count - low) / (high - low) if high > low else 0.0
        rates.append(measured[low] + share * (measured[high] - measured[low]))
    return rates


@dataclass
class Replica:
    """The texts of one replica. ``done`` is how many tokens a text has received that was there from the start."""

    rates: list[float]
    now: float = 0.0
    done: float = 0.0
    active: list[tuple[float, float]] = field(default_factory=list)
    """For each text the value of ``done`` at its end, and its arrival: a heap."""
    queue: deque[float] = field(default_factory=deque)
    """Arrival of each text that waits."""
    version: int = 0
    """Counts changes of the next end."""

    @property
    def load(self) -> int:
        return len(self.active) + len(self.queue)

    def speed(self) -> float:
        """Tokens per second of each active text."""
        return self.rates[len(self.active)] / len(self.active)

    def advance(self, time: float) -> None:
        if self.active:
            self.done += (time - self.now) * self.speed()
        self.now = time

    def start(self, arrival: float) -> float:
        """Starts a text; returns the seconds from its arrival to its first chunk."""
        heapq.heappush(self.active, (self.done + TOKENS, arrival))
        # The prompt is read with the step that is running, and the first chunk is chosen in the next one.
        return self.now - arrival + 2 * CHUNK / self.speed()

    def next_end(self) -> float:
        return self.now + (self.active[0][0] - self.done) / self.speed()


def arrivals(rate: float, seconds: float, generator: random.Random) -> Iterator[float]:
    """Times of requests with this mean rate, by thinning."""
    period = BURST_SECONDS + CALM_SECONDS
    base = rate * period / (CALM_SECONDS + BURST_FACTOR * BURST_SECONDS)
    time = 0.0
    while (time := time + generator.expovariate(base * BURST_FACTOR)) < seconds:
        in_burst = time % period >= CALM_SECONDS
        if in_burst or generator.random() < 1 / BURST_FACTOR:
            yield time


def simulate(replicas: int, rate: float, rates: list[float], requests: int = 20_000, seed: int = 0) -> dict[str, float]:
    """Serves requests that arrive with a mean ``rate`` per second. The time has at least three bursts."""
    generator, group = random.Random(seed), [Replica(rates) for _ in range(replicas)]
    seconds = max(requests / rate, 3 * (BURST_SECONDS + CALM_SECONDS))
    ends: list[tuple[float, int, int]] = []
    firsts: list[float] = []
    texts, last = 0, 0.0

    def schedule(number: int) -> None:
        replica = group[number]
        replica.version += 1
        if replica.active:
            heapq.heappush(ends, (replica.next_end(), number, replica.version))

    def finish_until(time: float) -> None:
        nonlocal texts, last
        while ends and ends[0][0] <= time:
            end, number, version = heapq.heappop(ends)
            replica = group[number]
            if version != replica.version:
                continue
            replica.advance(end)
            heapq.heappop(replica.active)
            texts, last = texts + 1, end
            if replica.queue:
                firsts.append(replica.start(replica.queue.popleft()))
            schedule(number)

    for time in arrivals(rate, seconds, generator):
        finish_until(time)
        number = min(range(replicas), key=lambda i: group[i].load)
        replica = group[number]
        replica.advance(time)
        if len(replica.active) < SLOTS:
            firsts.append(replica.start(time))
        else:
            replica.queue.append(time)
        schedule(number)
    finish_until(float("inf"))
    firsts.sort()
    return {"tokens_per_second": texts * TOKENS / last, "first_chunk_95": firsts[int(0.95 * (len(firsts) - 1))]}


def needed(rate: float, rates: list[float]) -> tuple[int, float]:
    """The smallest number of replicas whose 95th percentile is within ``WANTED_SECONDS``, and that percentile."""
    count = max(1, int(rate * TOKENS / rates[SLOTS]))
    while (first := simulate(count, rate, rates)["first_chunk_95"]) > WANTED_SECONDS:
        count += 1
    return count, first


def table() -> str:
    rates = rates_of(measured_rates())
    capacity = rates[SLOTS] / TOKENS
    lines = [
        "| replicas | requests per second | tokens/s | first chunk, 95th percentile | dollars per hour |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for count in REPLICAS:
        rate = LOAD * capacity * count
        result = simulate(count, rate, rates)
        cells = f"{rate:,.0f} | {result['tokens_per_second']:,.0f} | {result['first_chunk_95']:.3f} s"
        lines.append(f"| {count} | {cells} | {count * PRICE:.2f} |")
    count, first = needed(VISITORS / THINK_SECONDS, rates)
    lines += [
        "",
        f"{VISITORS:,} visitors at once, each with a text every {THINK_SECONDS:.0f} seconds, need {count} replicas for "
        f"a 95th percentile within {WANTED_SECONDS:g} s ({first:.3f} s): {count * PRICE:.2f} dollars per hour.",
        "",
        f"Assumptions: a text has {TOKENS} tokens; a replica is {MACHINE} at an assumed {PRICE} dollars per hour and "
        "computes as measured in [performance.md](performance.md#several-clients) at T = 0.5; arrivals are a Poisson "
        f"process with {BURST_FACTOR:g} times the rate for {BURST_SECONDS:.0f} of every "
        f"{BURST_SECONDS + CALM_SECONDS:.0f} seconds; the mean load is {LOAD:.0%} of the capacity; the network and the "
        "page take no time.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/deploy.md")
    text = table()
    if parser.parse_args().write:
        write_figures("docs/deploy.md", "cluster", text)
    print(text)


if __name__ == "__main__":
    main()
