"""How numba compiles the kernels, and how they split their work among threads."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numba import config, get_num_threads, njit, set_num_threads

from .cache import store


def _threads_may_enter_together() -> bool:
    """Whether several threads may run kernels at once. numba's own threading layer aborts the process then."""
    for name in ("omppool", "tbbpool"):
        try:
            import_module(f"numba.np.ufunc.{name}")
        except ImportError:
            continue
        return True
    return False


def _stored(decorator: Callable) -> Callable:
    """A decorator that also stores the compiled code of its functions."""

    def decorate(function: Callable) -> Any:
        dispatcher = decorator(function)
        store(dispatcher)
        return dispatcher

    return decorate


# numpy's error model: Python's would check each divisor for zero.
_compiled = partial(njit, error_model="numpy", nogil=True)
_fast = partial(_compiled, fastmath=True)
exact = _compiled()
"""Sums keep the order in which they are written."""
serial = _fast()
parallel = _fast(parallel=_threads_may_enter_together())
# Functions that Python calls. Their stored code contains all functions that they call.
stored, stored_parallel = _stored(serial), _stored(parallel)

# Few rows: each thread computes some outputs of all rows, and all threads meet after each product. Many rows: each
# thread computes its own rows from end to end.
MIN_ROWS_OF_A_PART = 4
# numba compiles a function anew for Python's own types; these constants have the types that arrays have.
TRUE, FALSE, ZERO, ONE = np.bool_(True), np.bool_(False), np.int64(0), np.int64(1)
Flag = bool | np.bool_
WorkSplit = tuple[int, int]
"""The number of parts of the rows, and the number of threads that share the outputs of each part."""


def use_threads(count: int) -> None:
    """Sets the number of threads of the kernels that this thread calls, up to numba's limit."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def split_work(rows: int) -> WorkSplit:
    """How a kernel call of this thread splits its rows."""
    threads = get_num_threads()
    parts = max(1, min(rows // MIN_ROWS_OF_A_PART, threads))
    return parts, threads if parts == 1 else 1


@serial
def part_bounds(part, parts, rows):
    """The first row of a part, and the row after its last."""
    return part * rows // parts, (part + 1) * rows // parts
