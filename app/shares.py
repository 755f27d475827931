"""The share of the machine that one visitor may use, so that the others do not wait for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import calm

from . import limits


class Share:
    """Counts the work of each visitor that runs now, and of all visitors together."""

    def __init__(self, what: str, per_visitor: int, in_all: int | None = None):
        self.what, self.per_visitor, self.in_all = what, per_visitor, in_all
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, visitor: str) -> Iterator[None]:
        """Counts one piece of work while it runs. Raises CalmError beyond the share. A call in Python, which has no
        visitor, does not count."""
        if not visitor:
            yield
            return
        with self._lock:
            if self._running[visitor] >= self.per_visitor:
                raise calm.CalmError(
                    f"You have {self.per_visitor} {self.what} running, which is the limit: wait until one ends."
                )
            if self.in_all is not None and self._running.total() >= self.in_all:
                raise calm.CalmError(
                    f"All visitors together have {self.in_all} {self.what} running, which is the limit: try again in "
                    "a few seconds."
                )
            self._running[visitor] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[visitor] -= 1
                self._running += Counter()  # forgets visitors without work


REQUESTS = Share("requests", limits.MAX_REQUESTS_PER_VISITOR)
DRAWS = Share("draws", limits.MAX_DRAWS_PER_VISITOR, limits.MAX_DRAWS_AT_ONCE)
LOOKUPS = Share("lookups", limits.MAX_LOOKUPS_PER_VISITOR, limits.MAX_LOOKUPS_AT_ONCE)
