"""The first steps of a model: they reserve memory and compile kernels.

numba compiles the CPU kernels once for a machine, which takes up to a minute, and stores the result. Meanwhile a
fallback engine can run the steps by PyTorch. As a program this module compiles them ahead of time:

    python -m calm.engine.warmup MODEL...
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..hub.language_model import LanguageModel
from ..hub.loading import load
from . import create_engine, engine_for
from .executor import ComputeThread
from .ops.selection import FALLBACK
from .requests import Request
from .samplers import ChunkSampler, TokenSampler

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 4
ATTEMPTS = 2  # to compile the kernels in a subprocess


@contextmanager
def on_compile(lm: LanguageModel, callback: Callable[[], None]) -> Iterator[None]:
    """Calls ``callback`` once, when this thread starts to compile a kernel for a model on a CPU.

    An exception of the callback reaches the caller of the kernel.
    """
    if lm.device.type != "cpu":
        yield
        return
    try:
        from numba.core import event
    except ImportError:
        yield
        return

    class Listener(event.Listener):
        thread, called = threading.get_ident(), False

        def on_start(self, event: object) -> None:
            if not self.called and threading.get_ident() == self.thread:
                self.called = True
                callback()

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


class _NotCompiled(BaseException):
    """Ends a warm-up that would compile. It is not an ``Exception``, so that no request receives it."""


def _raise_not_compiled() -> None:
    raise _NotCompiled


def warm_up(lm: LanguageModel) -> None:
    """Generates a few chunks with a model's engine."""
    engine, prompt = engine_for(lm), [lm.text_format.start_id] * (2 * lm.chunk_size)
    samplers: list[ChunkSampler | TokenSampler] = [TokenSampler(0.5, 0)]
    if lm.is_calm:
        # A CALM has runs of several steps at T = 1 alone: only there is their graph captured or their kernel compiled.
        temperatures = (0.5, 1.0) if engine.run_steps else (0.5,)
        samplers = [ChunkSampler(temperature, 200, "auto", 0, lm.device) for temperature in temperatures]
    for sampler in samplers:
        for _ in engine.stream(Request(prompt, WARM_UP_STEPS, sampler)):
            pass


def warm_up_or_fall_back(lm: LanguageModel, executor: ComputeThread | None = None) -> bool:
    """Creates the engine of a model and warms it up. Returns whether it is the fastest one.

    If that would compile kernels, the model gets a fallback engine instead. With an executor, call this on its thread.
    """
    create_engine(lm, executor)
    try:
        with on_compile(lm, _raise_not_compiled):
            warm_up(lm)
    except _NotCompiled:
        create_engine(lm, executor, FALLBACK)
        warm_up(lm)
    return not engine_for(lm).is_fallback


_compilers: list[subprocess.Popen] = []
_stopping = threading.Event()


def stop_compilers() -> None:
    """Ends the subprocesses that compile kernels, because this process ends. No other one starts."""
    _stopping.set()
    for process in list(_compilers):
        process.terminate()


def compile_in_subprocess(name: str) -> bool:
    """Compiles and stores the kernels of a bundled model or a folder in another process; returns whether it succeeded.

    A process that fails, for example because the system kills it, is started a second time, except after
    ``stop_compilers``.
    """
    name = str(Path(name).resolve()) if Path(name).is_dir() else name
    command = [sys.executable, "-m", "calm.engine.warmup", name]
    for _ in range(ATTEMPTS):
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) as process:
            _compilers.append(process)
            if _stopping.is_set():  # since before the process was in the list
                process.terminate()
            errors = process.communicate()[1]
            _compilers.remove(process)
        if not process.returncode:
            return True
        if _stopping.is_set():
            return False
        reason = next(reversed(errors.splitlines()), f"exit code {process.returncode}")
        logger.warning("The kernels of %s could not be compiled (%s), so PyTorch computes.", name, reason)
    return False


def replace_fallback(lm: LanguageModel) -> bool:
    """Creates the fastest engine of a model, on the same executor. The earlier engine finishes its requests.

    Returns False, and leaves a fallback engine, if the kernels are not stored, for example because the disk is full.
    """
    return warm_up_or_fall_back(lm, engine_for(lm).executor)


if __name__ == "__main__":
    for model in sys.argv[1:]:
        warm_up(load(model, "cpu"))
