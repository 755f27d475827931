"""The map of each loaded model: one of the assets, or one that this user has stored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from calm.vector_map import VectorMap, map_path, read, stored_map_path

from . import zero_gpu
from .files import ASSETS

if TYPE_CHECKING:
    from calm import LanguageModel

logger = logging.getLogger(__name__)

_maps: WeakKeyDictionary[LanguageModel, VectorMap | None] = WeakKeyDictionary()


def map_of(name: str, lm: LanguageModel) -> VectorMap | None:
    """The map of a model, which is read once."""
    if lm not in _maps:
        try:
            _maps[lm] = read(path) if (path := map_file(name, lm)) else None
        except (OSError, ValueError, KeyError) as error:  # a stored file is damaged
            logger.warning("The map of %s cannot be read, so it is fitted again (%s).", name, error)
            _maps[lm] = None
    return _maps[lm]


def map_file(name: str, lm: LanguageModel) -> Path | None:
    """The file of a model's map: one of the assets, or a stored one; None if there is neither."""
    path = map_path(name, ASSETS)
    if not path.is_file() and lm.is_calm and has_weights(name, lm):
        path = stored_map_path(lm)
    return path if path.is_file() else None


def has_weights(name: str, lm: LanguageModel) -> bool:
    """Whether this process can compute with a model: its weights are not in a cluster or in a worker of ZeroGPU."""
    return lm.device.type != "meta" and zero_gpu.model(name) is None


def set_map(lm: LanguageModel, vector_map: VectorMap) -> None:
    """Gives a model another map. Requests that have the model keep the earlier one."""
    _maps[lm] = vector_map
