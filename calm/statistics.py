"""Counts the work of all engines in this process, for monitoring."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_CHUNK_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets, in seconds."""


@dataclass
class Statistics:
    """Totals since the process started. Methods may be called from any thread."""

    steps: int = 0
    """Chunks, or tokens of a token-by-token model, that were chosen."""
    tokens: int = 0
    draws: int = 0
    """Samples of the generative head."""
    first_chunk_counts: list[int] = field(default_factory=lambda: [0] * (len(FIRST_CHUNK_BOUNDS) + 1))
    """Requests by the time to their first chunk: one count for each of ``FIRST_CHUNK_BOUNDS``, then the longer ones."""
    first_chunk_seconds: float = 0.0
    """Sum of these times. They begin when the engine gets the request, so they include its queue."""
    on_first_chunk: list[Callable[[float], None]] = field(default_factory=list)
    """Called with each of these times, by the thread of the request."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_step(self, tokens: int, draws: int) -> None:
        with self._lock:
            self.steps += 1
            self.tokens += tokens
            self.draws += draws

    def add_first_chunk(self, seconds: float) -> None:
        bucket = sum(seconds > bound for bound in FIRST_CHUNK_BOUNDS)
        with self._lock:
            self.first_chunk_counts[bucket] += 1
            self.first_chunk_seconds += seconds
        for observe in self.on_first_chunk:
            observe(seconds)


STATISTICS = Statistics()
"""The totals of this process."""
