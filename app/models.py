"""The resident models and their maps: each is loaded once and shared by all visitors."""

from dataclasses import dataclass
from functools import lru_cache

import calm
from calm.maps import VectorMap, path_of, read

from .components import ASSETS

DEFAULT = "story-k4"
VISITORS = 24
"""Texts that are written or wait for a place in the engine at once; more wait in Gradio's own queue."""


@dataclass(frozen=True)
class Resident:
    """A model with the map of its chunk vectors."""

    lm: calm.LanguageModel
    map: VectorMap


@lru_cache(maxsize=1)
def resident() -> Resident:
    """The bundled model, loaded on first use and warmed up with one step."""
    lm = calm.load(DEFAULT)
    for _ in calm.generate(lm, "Once upon a time", max_new_tokens=lm.chunk_size):
        pass
    return Resident(lm, read(path_of(lm.name, ASSETS)))
