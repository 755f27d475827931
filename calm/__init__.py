"""Continuous Autoregressive Language Models (arXiv 2510.27688): loading, generation, evaluation and training.

import calm

lm = calm.load("story-k4")
for step in calm.generate(lm, "Once upon a time", temperature=0.5):
    print(step.text, end="")
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# GNU OpenMP reads this when torch loads it: the checks before a waiting thread sleeps, some 50 microseconds. By default
# threads spin for milliseconds after each kernel, time that a busy machine then takes from their next kernels.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

if TYPE_CHECKING:
    from .errors import CalmError
    from .evaluation.brier import BrierDifference, BrierLM, brier_difference, brier_lm, stream_brier_lm
    from .generation import Candidate, GenerationOptions, Queued, Step, draw_pool, draw_vectors, generate, stream
    from .hub.folders import bundled
    from .hub.language_model import LanguageModel
    from .hub.loading import load
    from .hub.saving import save
    from .modeling.temperature import temper
    from .reconstruction import Encoding, ReconstructedChunk, Reconstruction, decode, encode, reconstruct, robustness

_HOMES = {
    "evaluation.brier": ["BrierDifference", "BrierLM", "brier_difference", "brier_lm", "stream_brier_lm"],
    "errors": ["CalmError"],
    "generation": [
        "Candidate",
        "GenerationOptions",
        "Queued",
        "Step",
        "draw_pool",
        "draw_vectors",
        "generate",
        "stream",
    ],
    "hub.folders": ["bundled"],
    "hub.language_model": ["LanguageModel"],
    "hub.loading": ["load"],
    "reconstruction": [
        "Encoding",
        "ReconstructedChunk",
        "Reconstruction",
        "decode",
        "encode",
        "reconstruct",
        "robustness",
    ],
    "hub.saving": ["save"],
    "modeling.temperature": ["temper"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BrierDifference",
    "BrierLM",
    "CalmError",
    "Candidate",
    "Encoding",
    "GenerationOptions",
    "LanguageModel",
    "Queued",
    "ReconstructedChunk",
    "Reconstruction",
    "Step",
    "brier_difference",
    "brier_lm",
    "bundled",
    "decode",
    "draw_pool",
    "draw_vectors",
    "encode",
    "generate",
    "load",
    "reconstruct",
    "robustness",
    "save",
    "storyland",
    "stream",
    "stream_brier_lm",
    "temper",
]


def __getattr__(name: str) -> object:
    """Imports the module of a public name at its first use, so that ``import calm`` does not import torch."""
    if name == "storyland":
        return import_module(".storyland", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
