"""glibc's memory allocator: keeps a server with many short-lived threads from growing, and returns free memory."""

import ctypes
import os
from typing import Any

M_ARENA_MAX = -8  # the option's number in malloc.h of glibc
MAX_ARENAS = 2


def limit_arenas() -> None:
    """Lets all threads share two arenas of glibc's malloc. Other C libraries have no such option.

    By default glibc gives threads arenas of their own, and a thread cannot use the free memory of another arena. A
    server whose threads come and go then grows with the number of requests. ``MALLOC_ARENA_MAX`` in the environment has
    priority.
    """
    mallopt = _function("mallopt")
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(M_ARENA_MAX, MAX_ARENAS)


def return_free_memory() -> None:
    """Gives memory that this process has freed back to the system."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    """A function of the C library; None if it does not have it."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
