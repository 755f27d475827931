"""Storyland: a small language of simple English stories, with a generator and a checker.

The bundled models speak it. Its grammar is the plain text in ``calm/storyland/grammar``.
"""

from .check import Check, check, vocabulary_share
from .generate import corpus, primer, prompt, prompted_stories, story, with_line_end
from .splits import SPLITS, source, stories

EDITION = 2
"""The edition of the language. A model of another edition knows other words, plots and story prompts, and its figures
do not compare with those of this one."""

__all__ = [
    "EDITION",
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
