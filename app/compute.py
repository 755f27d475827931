"""The compute thread: it uses all cores, and runs the engines of all models and every other slow computation.

OpenMP threads spin while they wait for one another. With more of them than cores, a step takes three times as long. So
only the compute thread uses all cores. Every other thread uses a single core.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import cache
from itertools import islice
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from calm.engine import ComputeThread

Result = TypeVar("Result")

_creation = Lock()


def executor() -> ComputeThread:
    """The compute thread. The first call imports torch."""
    with _creation:
        return _create_executor()


@cache
def _create_executor() -> ComputeThread:
    from calm.engine import ComputeThread

    return ComputeThread()


_closed: list[Exception] = []


def run(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of ``function(*arguments)``, computed on the compute thread in the caller's context, which has the
    request id of log lines and the active span. After ``close``, raises its error."""
    check_open()
    return executor().run(copy_context().run, function, *arguments)


def close(error: Exception) -> None:
    """Makes ``run`` and ``check_open`` raise an error from now on, because the page stops."""
    _closed.append(error)


def check_open() -> None:
    """Raises the error of ``close`` once it has been called."""
    if _closed:
        raise _closed[0]


def is_closed() -> bool:
    return bool(_closed)


def iterate(items: Generator[Result, None, None]) -> Iterator[Result]:
    """The items of a generator, each computed on the compute thread. Closing the iterator closes the generator."""
    try:
        while (item := run(next, items, None)) is not None:
            yield item
    finally:
        items.close()


def side_by_side(
    generators: Sequence[Generator[Result, None, None]],
) -> Generator[tuple[Result | None, ...], None, None]:
    """The next item of each generator, None for one that has ended or has not started.

    At most ``CLIENT_SLOTS`` run at a time, because more would only fill the engine's queue.
    Their first items are requested at once, so that the engine generates all texts in the same steps.
    """
    from calm.engine.scheduler import CLIENT_SLOTS

    waiting = iter(range(len(generators)))
    running = list(islice(waiting, CLIENT_SLOTS))
    items: list[Result | None] = [None] * len(generators)
    try:
        with ThreadPoolExecutor(len(running)) as threads:
            contexts = [copy_context() for _ in running]  # two threads cannot share one
            items[: len(running)] = threads.map(Context.run, contexts, [_next] * len(contexts), generators)
        while running:
            yield tuple(items)
            for i in list(running):
                items[i] = _next(generators[i])
                if items[i] is None:
                    running.remove(i)
                    running += islice(waiting, 1)
    finally:
        for generator in generators:
            generator.close()


def _next(items: Generator[Result, None, None]) -> Result | None:
    return next(items, None)


def use_one_core_elsewhere() -> None:
    """Limits every other thread to a single core, and numpy's matrix products on all threads. The caller must be the
    compute thread."""
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")  # its threads would spin after each product, and take the cores from the engine
    setter = Thread(target=torch.set_num_threads, args=(1,))
    setter.start()
    setter.join()


def use_cores(leave_one: bool) -> None:
    """Lets the compute thread use all cores, or all but one. The caller must be the compute thread."""
    import torch

    torch.set_num_threads(max(1, _all_cores() - leave_one))


@cache
def _all_cores() -> int:
    """The number of threads that PyTorch chose for the compute thread."""
    import torch

    return torch.get_num_threads()
