"""Rounds in which contestants take turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")


def medians(contestants: Mapping[Name, Callable[[int], float]], rounds: int) -> dict[Name, float]:
    """The median of what each contestant measures. Calls have the number of the round; round 0 does not count."""
    values: dict[Name, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, measure in contestants.items():
            value = measure(number)
            if number:
                values[name].append(value)
    return {name: statistics.median(measured) for name, measured in values.items()}


def seconds(run: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
