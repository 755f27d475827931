"""The thread on which an engine runs its steps."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Output = TypeVar("Output")


class ComputeThread(ThreadPoolExecutor):
    """An executor of one thread, which several engines can share."""

    def __init__(self, name: str = "compute"):
        super().__init__(1, name, self._store_thread)
        self._thread_id: int | None = None

    def _store_thread(self) -> None:
        self._thread_id = threading.get_ident()

    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return threading.get_ident() == self._thread_id

    def run(self, function: Callable[P, Output], /, *args: P.args, **kwargs: P.kwargs) -> Output:
        """The result of a call on this thread; raises what the call raises. On this thread it is a plain call."""
        return function(*args, **kwargs) if self.is_current() else self.submit(function, *args, **kwargs).result()
