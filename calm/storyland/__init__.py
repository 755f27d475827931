"""Storyland: a small language of simple English stories, with a generator and a checker.

The bundled models speak it. Its grammar is the plain text in ``calm/storyland/grammar``.
"""

from .check import Check, check
from .generate import HELD_OUT, corpus, orders, primer, story

__all__ = ["HELD_OUT", "Check", "check", "corpus", "orders", "primer", "story"]
