"""The models of the page and their maps. Each is loaded at its first request and shared by all visitors."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import calm
from calm.errors import short_repr
from calm.hub import folders
from calm.vector_map import VectorMap, map_path, read, summary_path

from . import backends, zero_gpu
from .backends import LoadedModel
from .backends.local import uses_fallback
from .files import ASSETS

if TYPE_CHECKING:
    from calm import LanguageModel
    from calm.engine import Engine

DEFAULT, BASELINE = "story-k4", "story-ar"


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model that the page shows."""

    name: str
    parameters: int
    chunk_size: int
    latent_size: int
    """0 for a token-by-token model."""


@cache
def bundled() -> list[str]:
    """Names of the models that come with the page, the default one first. Does not import torch."""
    return sorted(folders.bundled(), key=lambda name: name != DEFAULT)


def offered() -> list[str]:
    """Names in the menu: the bundled models, and the folders and Hub ids in the environment variable CALM_MODELS,
    separated by commas."""
    return [*bundled(), *(name.strip() for name in os.environ.get("CALM_MODELS", "").split(",") if name.strip())]


def facts(name: str) -> ModelFacts | None:
    """Facts of a bundled model whose files give its size, or of a loaded one; None for any other model."""
    if name in bundled() and (parameters := _total_parameters(folders.CHECKPOINTS / name)):
        config = json.loads((folders.CHECKPOINTS / name / "config.json").read_text(encoding="utf-8"))
        return ModelFacts(name, parameters, config.get("patch_size", 1), config.get("latent_size", 0))
    if is_loaded(name):
        lm = loading(name).result()
        return ModelFacts(name, lm.num_parameters, lm.chunk_size, lm.calm.config.latent_size if lm.is_calm else 0)
    return None


def _total_parameters(folder: Path) -> int | None:
    """The number of parameters in the index of sharded weights; None without one."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return None
    return json.loads(index.read_text(encoding="utf-8")).get("metadata", {}).get("total_parameters")


def check_name(name: object) -> str:
    """The name of a model. Raises CalmError for a model that is not in the menu."""
    if not isinstance(name, str) or name not in offered():
        raise calm.CalmError(f"There is no model {short_repr(name)} here; choose one of {', '.join(offered())}.")
    return name


_loads: dict[str, Future[LanguageModel]] = {}
_loads_lock = Lock()
_downloads = ThreadPoolExecutor(thread_name_prefix="download")


def loading(name: str = DEFAULT) -> Future[LanguageModel]:
    """The load of a model. The first call starts it; after a failure, the next call starts it again.

    Raises CalmError for a model that is not in the menu.
    """
    check_name(name)
    with _loads_lock:
        known = _loads.get(name)
        if known is None or (known.done() and known.exception()):
            _loads[name] = _downloads.submit(_load, name)
        return _loads[name]


def _load(name: str) -> LanguageModel:
    return backends.current().load(name)


def load_on_zero_gpu() -> None:
    """Loads every model that is not bundled, for the workers of a ZeroGPU Space. Call it on the main thread, before the
    page is launched."""
    zero_gpu.load([name for name in offered() if name not in bundled()])
    for name in offered():
        if (lm := zero_gpu.model(name)) is not None:
            _loads[name] = Future()
            _loads[name].set_result(lm)


def load_error(name: str) -> BaseException | None:
    """The exception of a model's last load; None if it succeeded or is still running."""
    known = _loads.get(name)
    return known.exception() if known is not None and known.done() else None


def is_loaded(name: str) -> bool:
    known = _loads.get(name)
    return known is not None and known.done() and not known.exception()


def loaded(name: str = DEFAULT) -> LoadedModel:
    """A model of the menu with its map; waits until it is loaded. Raises CalmError if it cannot be loaded."""
    return backends.current().model(name, loading(name).result(), _map(name))


@cache
def _map(name: str) -> VectorMap | None:
    path = map_path(name, ASSETS)
    return read(path) if path.is_file() else None


def map_files() -> dict[str, Path]:
    """The file of each map, by the name of its model. A map without a summary is left out."""
    return {name: map_path(name, ASSETS) for name in offered() if summary_path(name, ASSETS).is_file()}


def _loaded_here() -> dict[str, LanguageModel]:
    """The loaded models that run in this process, by name."""
    here = [name for name in offered() if is_loaded(name) and zero_gpu.model(name) is None]
    return {name: loading(name).result() for name in here}


def engines() -> list[Engine]:
    """The engines of all loaded models in this process."""
    from calm.engine import engine_for

    return [engine_for(lm) for lm in _loaded_here().values()]


def on_fallback() -> list[str]:
    """The loaded models that generate without their kernels."""
    return [name for name, lm in _loaded_here().items() if uses_fallback(lm)]
