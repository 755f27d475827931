"""The resident model and its map, loaded once, in the background, and shared by all visitors."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import calm
from calm.maps import VectorMap, path_of, read

from .components import ASSETS

if TYPE_CHECKING:
    from calm import LanguageModel

CHECKPOINTS = ASSETS.parent / "checkpoints"
DEFAULT = "story-k4"
MAP = path_of(DEFAULT, ASSETS)
VISITORS = 24
"""Texts that are written or wait for a place in the engine at once; more wait in Gradio's own queue."""


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


def _load() -> Resident:
    lm = calm.load(DEFAULT)
    for _ in calm.generate(lm, "Once upon a time", max_new_tokens=4 * lm.chunk_size):
        pass  # the first steps are slow: memory is reserved, kernels are chosen
    return Resident(lm, read(MAP))


@cache
def loading() -> Future[Resident]:
    """The load under way, begun by the first call: it imports torch, which takes longer than drawing the page."""
    return ThreadPoolExecutor(1, "load").submit(_load)


def resident() -> Resident:
    """The resident model; waits while it is being loaded."""
    return loading().result()
