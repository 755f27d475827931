"""What the kernels are compiled by, and how they share out their work among threads."""

from functools import partial
from importlib import import_module

import numpy as np
from numba import config, get_num_threads, njit, set_num_threads


def _several_threads_may_enter() -> bool:
    """Whether numba has a threading layer besides its own, which ends the process when two threads enter it."""
    for name in ("omppool", "tbbpool"):
        try:
            import_module(f"numba.np.ufunc.{name}")
        except ImportError:
            continue
        return True
    return False


# By numpy's rules a division is a division; by Python's each one looks first whether it is by zero.
_compiled = partial(njit, error_model="numpy", nogil=True)
_fast = partial(_compiled, fastmath=True)
_among_threads = partial(_fast, parallel=_several_threads_may_enter())
exact = _compiled()  # sums in the order in which they are written
serial, parallel = _fast(), _among_threads()
# What Python calls, numba keeps beside the sources, with all that it calls in turn. It does not notice when that has
# changed in another file; so each file with kept functions names those that it is compiled with.
kept, kept_parallel = _fast(cache=True), _among_threads(cache=True)

# Of few rows each thread computes some outputs of all, and waits for the others at every product; of many rows it
# computes its own, alone.
ALONE = 4  # rows that a thread computes alone at the least
# For each of Python's own, numba would compile a function anew.
YES, NO, ZERO, ONE = np.bool_(True), np.bool_(False), np.int64(0), np.int64(1)
Flag = bool | np.bool_
Share = tuple[int, int]


def use_threads(count: int) -> None:
    """How many threads the kernels called by this thread share their work among, as far as numba allows."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def shared(rows: int) -> Share:
    """How the kernels called by this thread should share out so many rows: in how many parts, each computed alone, and
    if that is one, among how many threads the outputs."""
    threads = get_num_threads()
    parts = max(1, min(rows // ALONE, threads))
    return parts, threads if parts == 1 else 1


@serial
def part_of(part, parts, rows):
    """First row of a part, and the one behind its last."""
    return part * rows // parts, (part + 1) * rows // parts
