"""CALM, Continuous Autoregressive Language Models (arXiv 2510.27688): a small, exact library.

lm = calm.load("story-k4")
for step in calm.generate(lm, "Once upon a time", temperature=0.5):
    print(step.text, end="")
"""

from . import storyland
from .brier import BrierLM, brier_lm
from .errors import CalmError
from .generation import Candidate, Step, generate
from .loading import LanguageModel, bundled, load, save
from .reconstruction import Chunk, Reconstruction, reconstruct
from .temperature import temper

__all__ = [
    "BrierLM",
    "CalmError",
    "Candidate",
    "Chunk",
    "LanguageModel",
    "Reconstruction",
    "Step",
    "brier_lm",
    "bundled",
    "generate",
    "load",
    "reconstruct",
    "save",
    "storyland",
    "temper",
]
