"""The memory of a loaded model: its weights, and what its engine keeps beside them."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..hub.language_model import LanguageModel
from . import engine_for

Range = tuple[int, int]


def used_memory(lm: LanguageModel) -> int:
    """Bytes of a model's weights, of the copies that its engine has packed for compiled kernels, and of its key/value
    cache. Memory that several of them share counts once. An autoencoder alone has no engine."""
    engine = None if lm.is_autoencoder else engine_for(lm)
    steps = [vars(step) for step in (engine.backbone, engine.head) if step is not None] if engine else []
    return _covered([*_ranges(list(lm.model.parameters())), *_ranges(steps)])


def packed_memory(weights: int, device: torch.device) -> int:
    """The most bytes of the copies that an engine packs of ``weights`` bytes. On a GPU it uses the weights
    themselves. Its key/value cache, which grows with the texts, is not part of them."""
    return weights if device.type == "cpu" else 0


def _ranges(value: object) -> Iterator[Range]:
    """The addresses, first and end, of all tensors and arrays in nested containers."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    elif isinstance(value, np.ndarray):
        yield np.lib.array_utils.byte_bounds(value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _ranges(item)


def _covered(ranges: Iterable[Range]) -> int:
    """The number of addresses in the union of ranges."""
    total = reached = 0
    for first, end in sorted(ranges):
        total += max(0, end - max(first, reached))
        reached = max(reached, end)
    return total
