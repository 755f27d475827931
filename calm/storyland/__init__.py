"""Storyland: a small language of simple English stories, with a generator and a checker.

The bundled models speak it. Its grammar is the plain text in ``calm/storyland/grammar``.
"""

from .check import Check, check, vocabulary_share
from .generate import corpus, primer, prompt, prompted_stories, story, with_line_end
from .splits import SPLITS, source, stories

__all__ = [
    "SPLITS",
    "Check",
    "check",
    "corpus",
    "primer",
    "prompt",
    "prompted_stories",
    "source",
    "stories",
    "story",
    "vocabulary_share",
    "with_line_end",
]
