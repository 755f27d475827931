"""Keeps the memory of a server with many short-lived threads from growing."""

import ctypes
import os

M_ARENA_MAX = -8  # the option's number in malloc.h of glibc
MAX_ARENAS = 2


def limit_arenas() -> None:
    """Lets all threads share two arenas of glibc's malloc. Other C libraries have no such option.

    By default glibc gives threads arenas of their own, and a thread cannot use the free memory of another arena. A
    server whose threads come and go then grows with the number of requests. ``MALLOC_ARENA_MAX`` in the environment has
    priority.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(M_ARENA_MAX, MAX_ARENAS)
