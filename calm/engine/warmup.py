"""Kernels that numba has not compiled on this machine before: to notice it, and to have another process do it.

Compiling takes up to a minute, once; numba keeps the result beside the sources.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..generation import generate
from ..hub.language_model import LanguageModel
from .scheduler import Engine


@contextmanager
def noticing(lm: LanguageModel, tell: Callable[[], None]) -> Iterator[None]:
    """Calls ``tell`` when this thread is about to compile a first kernel of a model on a CPU, elsewhere never; what it
    raises goes through."""
    if lm.device.type != "cpu":
        yield
        return
    try:
        from numba.core import event
    except ImportError:
        yield
        return

    class Listener(event.Listener):
        here, told = threading.get_ident(), False

        def on_start(self, event: object) -> None:
            if not self.told and threading.get_ident() == self.here:
                self.told = True
                tell()

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


class _NotCompiled(Exception):
    pass


def _refuse() -> None:
    raise _NotCompiled


def warm(lm: LanguageModel) -> None:
    """Writes a few chunks, as the first steps are slow: memory is reserved, kernels are compiled or read."""
    for _ in generate(lm, "Once upon a time", max_new_tokens=4 * lm.chunk_size):
        pass


def warm_unless_compiling(lm: LanguageModel) -> bool:
    """``warm``; whether it went without compiling. If it does not, the model gets an engine for the interim, which
    writes by PyTorch's operators and is warm as well."""
    try:
        with noticing(lm, _refuse):
            warm(lm)
    except _NotCompiled:
        lm.engine = Engine(lm, interim=True)
        warm(lm)
    return not lm.engine.interim


def compile_apart(name: str) -> bool:
    """Has another process write with the model of a name, so that its kernels are compiled and kept; whether it did."""
    command = [sys.executable, "-m", "calm", "generate", "--model", name, "--device", "cpu", "--max-new-tokens", "16"]
    return not subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True).returncode


def end_interim(lm: LanguageModel) -> None:
    """Gives a model an engine with its kernels; the one for the interim writes what it has begun to the end."""
    engine = Engine(lm)
    engine.submit = lm.engine.submit
    lm.engine = engine
    warm(lm)
