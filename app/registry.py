"""The models of the page and their maps, each loaded once, when first asked for, and shared by all visitors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar

import calm
from calm.vector_map import VectorMap, map_path, read

from .components import ASSETS

if TYPE_CHECKING:
    from calm import LanguageModel
    from calm.engine import ComputeThread

CHECKPOINTS = ASSETS.parent / "checkpoints"
DEFAULT, BASELINE = "story-k4", "story-ar"
VISITORS = 24
"""Texts that are written or wait for a place in the engine at once; more wait in Gradio's own queue."""

Event = TypeVar("Event")

# OpenMP's threads wait for one another in a hurry only as long as there are no more of them than cores; else a step
# takes three times as long. So one thread computes on all cores, and every other one on a single core.
_creation = Lock()
_fetching = ThreadPoolExecutor(thread_name_prefix="fetch")


@dataclass(frozen=True)
class Facts:
    """What the page says of a model."""

    name: str
    parameters: int
    chunk_size: int
    latent_size: int
    """0 for a token-by-token model."""


@dataclass(frozen=True)
class Resident:
    """A model under its name in the menu, with the map of its chunk vectors, if there is one."""

    name: str
    lm: LanguageModel
    map: VectorMap | None

    def mapped(self) -> VectorMap:
        """The map. Raises CalmError where there is none."""
        if self.map is None:
            why = "build one with python -m calm map" if self.lm.is_calm else "a token-by-token model has no vectors"
            raise calm.CalmError(f"There is no map of {self.name}: {why}.")
        return self.map


def facts(name: str) -> Facts | None:
    """From the files of a bundled model, before it is loaded, else from the model itself, if it is resident."""
    if name in bundled():
        folder = CHECKPOINTS / name
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        parameters = index["metadata"]["total_parameters"]
        return Facts(name, parameters, config.get("patch_size", 1), config.get("latent_size", 0))
    if is_resident(name):
        lm = loading(name).result()
        return Facts(name, lm.num_parameters, lm.chunk_size, lm.calm.config.latent_size if lm.is_calm else 0)
    return None


@cache
def bundled() -> list[str]:
    """Names of the models that come with the page, without what it takes to load one; the default one first."""
    names = sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
    return sorted(names, key=lambda name: name != DEFAULT)


def offered() -> list[str]:
    """Names of the models in the menu: the bundled ones, and the folders and Hub ids, separated by commas, of the
    environment variable CALM_MODELS."""
    return [*bundled(), *(name.strip() for name in os.environ.get("CALM_MODELS", "").split(",") if name.strip())]


def _fetch(name: str) -> LanguageModel:
    """Loads a model once its files are here: texts go on while they come from the Hub."""
    from calm.hub.loading import fetch

    fetch(name)
    return compute(_load, name)


def _load(name: str) -> LanguageModel:
    try:
        lm = calm.load(name)
    except (OSError, RuntimeError) as error:  # what the libraries below say of damaged files or too little memory
        raise calm.CalmError(f"{name} could not be loaded: {str(error).splitlines()[0]}") from error
    import torch

    from calm.engine.warmup import warm_up_or_fall_back

    others = Thread(target=torch.set_num_threads, args=(1,))
    others.start()
    others.join()
    if not warm_up_or_fall_back(lm, _compute_thread()):
        _use_cores(compiling=True)
        Thread(target=_compile, args=(name, lm), daemon=True).start()
    return lm


@cache
def _cores() -> int:
    """Threads that PyTorch shares the work of the thread that computes among, as it first chose."""
    import torch

    return torch.get_num_threads()


def _use_cores(compiling: bool) -> None:
    """Has the thread that computes use all cores, but for one where another process compiles."""
    import torch

    torch.set_num_threads(max(1, _cores() - compiling))


_compiling = Lock()


def _compile(name: str, lm: LanguageModel) -> None:
    """Has the kernels of a model compiled, which writes without them meanwhile; for good, if that fails."""
    from calm.engine.warmup import compile_in_subprocess

    with _compiling:
        if compile_in_subprocess(name):
            compute(_replace_fallback, lm)


def _replace_fallback(lm: LanguageModel) -> None:
    from calm.engine import engine_for
    from calm.engine.warmup import replace_fallback

    replace_fallback(lm)
    loaded = [loading(name).result() for name in offered() if is_resident(name)]
    _use_cores(compiling=any(engine_for(lm).is_fallback for lm in loaded))


_loads: dict[str, Future[LanguageModel]] = {}
_lock = Lock()


def loading(name: str = DEFAULT) -> Future[LanguageModel]:
    """The load under way, begun by the first call: it imports torch, which takes longer than drawing the page.

    One that failed is begun anew. Raises CalmError for a model that is not in the menu.
    """
    if name not in offered():
        raise calm.CalmError(f"There is no model {name!r} here; choose one of {', '.join(offered())}.")
    with _lock:
        known = _loads.get(name)
        if known is None or (known.done() and known.exception()):
            _loads[name] = _fetching.submit(_fetch, name)
        return _loads[name]


def is_resident(name: str) -> bool:
    """Whether a model is loaded and ready."""
    known = _loads.get(name)
    return known is not None and known.done() and not known.exception()


@cache
def _map(name: str) -> VectorMap | None:
    path = map_path(name, ASSETS)
    return read(path) if path.is_file() else None


def maps() -> dict[str, Path]:
    """The files of the maps, by the names of their models."""
    return {name: map_path(name, ASSETS) for name in offered() if map_path(name, ASSETS).is_file()}


def resident(name: str = DEFAULT) -> Resident:
    """A model of the menu with its map; waits while it is being loaded. Raises CalmError if it cannot be."""
    return Resident(name, loading(name).result(), _map(name))


def _compute_thread() -> ComputeThread:
    with _creation:
        return _new_compute_thread()


@cache
def _new_compute_thread() -> ComputeThread:
    from calm.engine import ComputeThread

    return ComputeThread()


def compute(function: Callable[..., Event], *arguments: Any) -> Event:
    """What a function returns, computed by the thread that has all cores."""
    return _compute_thread().run(function, *arguments)


def computed(events: Generator[Event, None, None]) -> Iterator[Event]:
    """The same events, each computed by the thread that has all cores."""
    try:
        while (event := compute(next, events, None)) is not None:
            yield event
    finally:
        events.close()
