"""The one thread that computes with all cores.

OpenMP threads spin while they wait for one another. With more of them than cores, a step takes three times as long. So
one thread, the compute thread, uses all cores, and every other thread uses a single core.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Thread, current_thread
from typing import Any, TypeVar

Result = TypeVar("Result")

_NAME = "compute"
_executor = ThreadPoolExecutor(1, _NAME)


def on_compute_thread() -> bool:
    """Whether the caller runs on the compute thread."""
    return current_thread().name.startswith(_NAME)


def run(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of ``function(*arguments)``, computed on the compute thread."""
    if on_compute_thread():
        return function(*arguments)
    return _executor.submit(function, *arguments).result()


def iterate(items: Generator[Result, None, None]) -> Iterator[Result]:
    """The items of a generator, each computed on the compute thread. Closing the iterator closes the generator."""
    try:
        while (item := run(next, items, None)) is not None:
            yield item
    finally:
        items.close()


def submit() -> Callable[..., object] | None:
    """How the engine hands work to the compute thread: ``Executor.submit``, or None on the compute thread itself,
    which runs its work at once."""
    return None if on_compute_thread() else _executor.submit


def use_one_core_elsewhere() -> None:
    """Gives every thread that starts from now on a single core; the compute thread keeps its own setting."""
    import torch

    setter = Thread(target=torch.set_num_threads, args=(1,))
    setter.start()
    setter.join()


def use_cores(leave_one: bool) -> None:
    """Lets the compute thread, which must be the caller, use all cores, or all but one."""
    import torch

    torch.set_num_threads(max(1, _all_cores() - leave_one))


@cache
def _all_cores() -> int:
    """The number of threads that PyTorch chose for itself."""
    import torch

    return torch.get_num_threads()
