"""Prompts in the language of the bundled models: examples, random ones, and whether a prompt is in that language."""

import random

import calm

from .registry import bundled

EXAMPLE_SEEDS = (1, 2, 3, 5, 8, 13)
SUGGESTION_SEEDS = (1, 5)
MIN_KNOWN_WORDS = 0.9
"""A prompt with a smaller share of Storyland's words is not in its language."""


def example_prompts() -> list[str]:
    """Six story prompts of different plots, without the end of their line, and one beginning of a text."""
    return [*_story_prompts(EXAMPLE_SEEDS), "Once upon a time"]


def _story_prompts(seeds: tuple[int, ...]) -> list[str]:
    return [calm.storyland.prompt(seed).strip() for seed in seeds]


def random_prompt(name: str) -> str:
    """A story prompt for a model that was trained on Storyland; none for any other."""
    return calm.storyland.prompt(random.randrange(2**31)).strip() if name in bundled() else ""


def suggested_prompts(name: str, prompt: str) -> list[str]:
    """Two story prompts if the model knows only Storyland and the prompt is not in its language; otherwise none."""
    if name not in bundled() or calm.storyland.vocabulary_share(prompt) >= MIN_KNOWN_WORDS:
        return []
    return _story_prompts(SUGGESTION_SEEDS)


def with_line_end(name: str, prompt: str) -> str:
    """Adds the newline that ends a story prompt, for a model that was trained on Storyland."""
    return calm.storyland.with_line_end(prompt) if name in bundled() else prompt
