"""The processes of a Ray cluster that this process has started, by the titles that Ray gives them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
"""Of the kernel's clock per second."""


class Process(NamedTuple):
    id: int
    parent: int
    title: bytes
    cpu_seconds: float

    @property
    def is_replica(self) -> bool:
        return self.title.startswith(b"ray::ServeReplica:")


def _processes() -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, line = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        fields = line[line.rindex(")") + 2 :].split()  # the name before may contain spaces
        yield Process(int(folder.name), int(fields[1]), title, (int(fields[11]) + int(fields[12])) / TICKS)


def ready_replicas() -> list[int]:
    """The ids of the replicas' processes that have loaded their model."""
    return [process.id for process in _processes() if process.is_replica and b"initialize" not in process.title]


def cpu_seconds() -> dict[str, float]:
    """CPU seconds since their start of this process, of its replicas, and of the other processes of Ray."""
    processes = list(_processes())
    ours, size = {os.getpid()}, 0
    while len(ours) > size:
        size = len(ours)
        ours |= {process.id for process in processes if process.parent in ours}
    totals: dict[str, float] = defaultdict(float)
    for process in processes:
        if process.id in ours:
            part = "replica" if process.is_replica else "this process" if process.id == os.getpid() else "ray"
            totals[part] += process.cpu_seconds
    return totals
