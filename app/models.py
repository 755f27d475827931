"""The resident model and its map, loaded once, in the background, and shared by all visitors."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import calm
from calm.maps import VectorMap, path_of, read

from .components import ASSETS

if TYPE_CHECKING:
    from calm import LanguageModel

CHECKPOINTS = ASSETS.parent / "checkpoints"
DEFAULT, BASELINE = "story-k4", "story-ar"
MAP = path_of(DEFAULT, ASSETS)
VISITORS = 24
"""Texts that are written or wait for a place in the engine at once; more wait in Gradio's own queue."""

Event = TypeVar("Event")

# OpenMP's threads wait for one another in a hurry only as long as there are no more of them than cores; else a step
# takes three times as long. So one thread computes on all cores, and every other one on a single core.
_thread = ThreadPoolExecutor(1, "model")


@dataclass(frozen=True)
class Facts:
    """What the page says of a model before it is loaded."""

    name: str
    parameters: int
    chunk_size: int
    latent_size: int


@dataclass(frozen=True)
class Resident:
    """A model with the map of its chunk vectors."""

    lm: LanguageModel
    map: VectorMap


def facts() -> Facts:
    """The default model's, from its files alone."""
    folder = CHECKPOINTS / DEFAULT
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    return Facts(DEFAULT, index["metadata"]["total_parameters"], config["patch_size"], config["latent_size"])


def bundled() -> list[str]:
    """Names of the models that come with the page, without what it takes to load one; the default one first."""
    names = sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
    return sorted(names, key=lambda name: name != DEFAULT)


def _load(name: str) -> LanguageModel:
    lm = calm.load(name)
    for _ in calm.generate(lm, "Once upon a time", max_new_tokens=4 * lm.chunk_size):
        pass  # the first steps are slow: memory is reserved, kernels are compiled
    import torch

    others = Thread(target=torch.set_num_threads, args=(1,))
    others.start()
    others.join()
    return lm


@cache
def loading(name: str = DEFAULT) -> Future[LanguageModel]:
    """The load under way, begun by the first call: it imports torch, which takes longer than drawing the page."""
    return _thread.submit(_load, name)


@cache
def _map() -> VectorMap:
    return read(MAP)


def resident() -> Resident:
    """The default model with its map; waits while it is being loaded."""
    return Resident(loading().result(), _map())


def compute(function: Callable[..., Event], *arguments: Any) -> Event:
    """What a function returns, computed by the thread that has all cores."""
    return _thread.submit(function, *arguments).result()


def computed(events: Generator[Event, None, None]) -> Iterator[Event]:
    """The same events, each computed by the thread that has all cores."""
    try:
        while (event := compute(next, events, None)) is not None:
            yield event
    finally:
        events.close()
