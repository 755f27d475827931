"""CALM, Continuous Autoregressive Language Models (arXiv 2510.27688): a small, exact library.

lm = calm.load("story-k4")
for step in calm.generate(lm, "Once upon a time", temperature=0.5):
    print(step.text, end="")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import CalmError
    from .evaluation.brier import BrierDifference, BrierLM, brier_difference, brier_lm, follow_brier_lm
    from .generation import Candidate, GenerationOptions, Queued, Step, draw_pool, draw_vectors, generate, stream
    from .hub.language_model import LanguageModel
    from .hub.loading import bundled, load
    from .hub.saving import save
    from .modeling.temperature import temper
    from .reconstruction import Chunk, Reconstruction, decode, reconstruct, robustness

_HOMES = {
    "evaluation.brier": ["BrierDifference", "BrierLM", "brier_difference", "brier_lm", "follow_brier_lm"],
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
    "hub.language_model": ["LanguageModel"],
    "hub.loading": ["bundled", "load"],
    "reconstruction": ["Chunk", "Reconstruction", "decode", "reconstruct", "robustness"],
    "hub.saving": ["save"],
    "modeling.temperature": ["temper"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BrierDifference",
    "BrierLM",
    "CalmError",
    "Candidate",
    "Chunk",
    "GenerationOptions",
    "LanguageModel",
    "Queued",
    "Reconstruction",
    "Step",
    "brier_difference",
    "brier_lm",
    "bundled",
    "decode",
    "draw_pool",
    "draw_vectors",
    "follow_brier_lm",
    "generate",
    "load",
    "reconstruct",
    "robustness",
    "save",
    "storyland",
    "stream",
    "temper",
]


def __getattr__(name: str) -> object:
    """Imports what a name needs when it is first used, so that a page can be drawn before torch is there."""
    if name == "storyland":
        return import_module(".storyland", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
