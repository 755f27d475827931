"""UMAP fits of vectors, in this process or in a subprocess that reports its progress.

Shapes: n vectors, L latent.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..errors import CalmError, reason_of
from .positions import NEIGHBOURS

METRICS = ("euclidean", "cosine", "manhattan", "correlation")


@dataclass(frozen=True)
class FitSettings:
    """Parameters of a UMAP fit, with the meaning that umap-learn gives them."""

    neighbours: int = NEIGHBOURS
    min_dist: float = 0.15
    metric: str = "euclidean"
    dimensions: int = 2
    seed: int = 0

    def check(self, points: int) -> None:
        """Raises CalmError for settings that do not fit ``points`` vectors."""
        if points < 20:
            raise CalmError(f"A map needs at least 20 vectors; there are {points}.")
        if not 2 <= self.neighbours < points:
            raise CalmError(f"Neighbours must be from 2 to {points - 1}, one less than there are vectors.")
        if not 0 <= self.min_dist <= 1:
            raise CalmError("The minimum distance must be from 0 to 1.")
        if self.metric not in METRICS:
            raise CalmError(f"The metric {self.metric!r} is not known; use {', '.join(METRICS)}.")
        if self.dimensions not in (2, 3):
            raise CalmError(f"The map has 2 or 3 dimensions, not {self.dimensions!r}.")


def fit(vectors: np.ndarray, settings: FitSettings, progress: Any = None) -> np.ndarray:
    """UMAP of vectors [n, L] -> positions [n, dimensions]. ``progress`` is a file for the text of a progress bar."""
    with _stored_code():
        import umap

        return umap.UMAP(
            n_components=settings.dimensions,
            n_neighbors=settings.neighbours,
            min_dist=settings.min_dist,
            metric=settings.metric,
            random_state=settings.seed,
            n_jobs=1,
            verbose=progress is not None,
            tqdm_kwds={"file": progress, "mininterval": 0.2} if progress is not None else None,
        ).fit_transform(vectors)


@contextmanager
def _stored_code() -> Iterator[None]:
    """Stores the code that numba compiles for UMAP in this context beside the CPU kernels.

    UMAP stores only some of it, and compiling the rest takes several times as long as a fit of a thousand vectors.
    """
    import numba

    from ..engine.ops.cpu.cache import store

    njit = numba.njit

    def stored_njit(*arguments: Any, **options: Any) -> Any:
        compiled = njit(*arguments, **options)
        return keep(compiled) if hasattr(compiled, "py_func") else lambda function: keep(compiled(function))

    def keep(dispatcher: Any) -> Any:
        if not dispatcher.targetoptions.get("cache") and not dispatcher.signatures:
            store(dispatcher)
        return dispatcher

    numba.njit = stored_njit
    try:
        yield
    finally:
        numba.njit = njit


class _ProgressFile:
    """A file object that sends the percentages of a progress bar through a pipe."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def write(self, text: str) -> None:
        if percentage := re.search(r"(\d+)%", text):
            self.pipe.send(int(percentage[1]))

    def flush(self) -> None:
        pass


def _fit_in_subprocess(pipe: Connection, vectors: np.ndarray, settings: Sequence[FitSettings]) -> None:
    os.nice(10)  # generation has priority
    with open(os.devnull, "w") as devnull, redirect_stdout(devnull):
        try:
            for one in settings:
                pipe.send(fit(vectors, one, _ProgressFile(pipe)))
        except Exception as error:  # UMAP raises many kinds for unusual settings
            pipe.send(CalmError(f"UMAP could not be fitted: {reason_of(error)}"))


def stream_fit(vectors: np.ndarray, *settings: FitSettings) -> Generator[int | np.ndarray, None, None]:
    """``fit`` for each of the settings, one after another in a subprocess: yields the percentage done of a fit several
    times a second, then its positions [n, dimensions].

    Closing the generator ends the subprocess. Raises CalmError for settings that cannot be fitted.
    """
    for one in settings:
        one.check(len(vectors))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_fit_in_subprocess, args=(sender, vectors, settings), daemon=True)
    process.start()
    sender.close()  # so that the end of the process ends the pipe, also within a message
    message: int | np.ndarray | CalmError = 0
    missing = len(settings)
    try:
        while missing:
            if receiver.poll(0.3):
                try:
                    message = receiver.recv()
                except EOFError as error:  # the system killed the process
                    raise CalmError("The fit ended without a map; try again.") from error
            if isinstance(message, CalmError):
                raise message
            yield message
            if not isinstance(message, int):
                message, missing = 0, missing - 1
    finally:
        process.kill()
        process.join()
