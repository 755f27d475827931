"""ZeroGPU Spaces: a forked worker process has a GPU for the duration of a call, and the main process has none.

The bundled models run on the CPU of the Space, because they finish there before a GPU call could start. The models
named in CALM_MODELS are loaded onto "cuda" before the page starts. The package ``spaces`` emulates "cuda" in the main
process. Only ``_in_worker`` runs them. The worker creates its own engine, without numba, because numba's threads do not
survive a fork. Arguments and results are plain values, because they are sent between processes.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import calm

if TYPE_CHECKING:
    from calm import LanguageModel

ENABLED = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
START_SECONDS = 20
"""GPU seconds requested for the start of a worker, which moves the weights to the GPU."""
TOKENS_PER_SECOND = 20
"""A cautious rate by which the requested GPU seconds grow. A request that takes less returns the rest."""

_models: dict[str, LanguageModel] = {}
_engine_process = 0


@dataclass(frozen=True)
class _Failure:
    """An exception in the worker."""

    sentence: str
    """The message of a CalmError; empty for any other exception."""
    traceback: str


def load(names: Sequence[str]) -> None:
    """Loads models onto the GPU. Call it on the main thread, before the page is launched."""
    for name in names:
        _models[name] = calm.load(name, device="cuda")


def model(name: str) -> LanguageModel | None:
    """The model of this name if it is loaded on the GPU."""
    return _models.get(name)


def stream(name: str, generate: Callable[..., Iterator[Any]], inputs: tuple[Any, ...], tokens: int) -> Iterator[Any]:
    """The items of ``generate(lm, *inputs)``, computed in a worker with the GPU.

    ``generate`` is a function of a module, and inputs and items can be pickled. ``tokens`` is the number of tokens at
    most. Raises CalmError if ``generate`` does or if there is no GPU time left, and RuntimeError with the
    worker's traceback for any other exception.
    """
    import gradio as gr

    try:
        for item in _in_worker(name, generate, inputs, tokens):
            if isinstance(item, _Failure):
                raise calm.CalmError(item.sentence) if item.sentence else RuntimeError(item.traceback)
            yield item
    except gr.Error as error:
        raise calm.CalmError(
            f"The GPU of this Space is not available ({error.message}); the bundled models need none."
        ) from error


def _seconds(name: str, generate: Callable[..., Iterator[Any]], inputs: tuple[Any, ...], tokens: int) -> float:
    return START_SECONDS + tokens / TOKENS_PER_SECOND


def _in_worker(
    name: str, generate: Callable[..., Iterator[Any]], inputs: tuple[Any, ...], tokens: int
) -> Iterator[Any]:
    try:
        yield from generate(_prepared(name), *inputs)
    except Exception as error:
        yield _Failure(str(error) if isinstance(error, calm.CalmError) else "", traceback.format_exc())


def _prepared(name: str) -> LanguageModel:
    """The model, in a worker that has created engines of its own."""
    global _engine_process
    from calm.engine import create_engine
    from calm.engine.ops.selection import FALLBACK

    if _engine_process != os.getpid():
        for lm in _models.values():
            create_engine(lm, backend=None if lm.device.type == "cuda" else FALLBACK)
        _engine_process = os.getpid()
    return _models[name]


if ENABLED:
    import spaces  # type: ignore[import-not-found]  # before anything that could initialise CUDA

    _in_worker = spaces.GPU(duration=_seconds)(_in_worker)
