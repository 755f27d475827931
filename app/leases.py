"""Leases: a model that a request uses stays in memory. Other models leave it when a new one needs room."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from copy import copy
from threading import Lock
from weakref import WeakSet

import calm
from calm.hub.memory import gigabytes, memory_limit

_lock = Lock()


class Lease:
    """Keeps a model in memory for as long as it lives, so a request cannot forget to return it.

    A request holds its lease through its ``LoadedModel``. A generator that is closed or garbage collected, for example
    because its visitor left, drops the lease with its other variables.
    """

    def __init__(self, name: str):
        self.name = name
        with _lock:
            _leases.add(self)


_leases: WeakSet[Lease] = WeakSet()


def leased() -> set[str]:
    """The names of all models that a request uses or waits for."""
    with _lock:
        return {lease.name for lease in _leases}


class NoRoomError(calm.CalmError):
    """There is no memory for a model as long as requests use others."""


class DownloadCancelled(calm.CalmError):
    """No request waited for a download. A request that came before its end starts it again."""


def models_to_unload(name: str, needed: int, free: int | None, sizes: Mapping[str, int]) -> list[str]:
    """The models to unload so that ``needed`` bytes for a model fit into ``CALM_MEMORY`` and the ``free`` bytes of the
    device, if these are known.

    ``sizes`` are the bytes of the loaded models in the order of their last use; a model with a lease stays. Raises
    NoRoomError if the model would fit without them, and CalmError if it would not.
    """
    limit, in_use, chosen = memory_limit(), leased(), list[str]()
    rooms = [] if free is None else [free]
    rooms += [] if limit is None else [limit - sum(sizes.values())]
    room = min(rooms, default=needed)
    for other, size in sizes.items():
        if room < needed and other not in in_use:
            chosen.append(other)
            room += size
    if room >= needed:
        return chosen
    figures, rest = f"{name} needs {gigabytes(needed)} of memory", gigabytes(max(0, room))
    if limit is not None and needed > limit:
        raise calm.CalmError(f"{figures} and CALM_MEMORY allows {gigabytes(limit)}.")
    used = [other for other in sizes if other in in_use]
    if not used:
        raise calm.CalmError(f"{figures} and {rest} can be freed; choose a smaller model.")
    raise NoRoomError(
        f"{figures} and {rest} can be freed while requests use {', '.join(used)}; try again when they have ended, "
        "or choose fewer models."
    )


def forget_variables(error: BaseException | None) -> None:
    """Clears the variables that the traceback of an error keeps alive: they may hold a large part of a model."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def anew(error: BaseException) -> BaseException:
    """A copy of an error for one of the requests that share it. If all of them raised the same object, its traceback
    would keep their variables, and with these their leases."""
    fresh = copy(error).with_traceback(error.__traceback__)
    fresh.__cause__ = error.__cause__
    return fresh
