"""Prompts that suit a model: examples, random ones, and whether a prompt is in the language of the model.

The bundled models were trained on Storyland alone. Any other model gets prompts in English.
"""

import random

import calm

from .registry import bundled

EXAMPLE_SEEDS = (1, 2, 3, 5, 8, 13)
SUGGESTION_SEEDS = (1, 5)
MIN_KNOWN_WORDS = 0.9
"""A prompt with a smaller share of Storyland's words is not in its language."""

ENGLISH = (
    "The history of the city begins in the",
    "In this paper, we propose a new method for",
    "The committee met on Monday to discuss",
    "Question: What is the capital of France?\nAnswer:",
    "The cell membrane consists of",
    "import numpy as np\n\ndef mean(values):",
    "Once upon a time",
)


def example_prompts(name: str) -> list[str]:
    """Prompts for a model. For Storyland: story prompts of different plots, without the end of their line, and one
    beginning of a text."""
    if name not in bundled():
        return list(ENGLISH)
    return [*_story_prompts(EXAMPLE_SEEDS), "Once upon a time"]


def prompt_hint(name: str) -> str:
    """What an empty prompt does, in words."""
    return "Empty: a random story" if name in bundled() else "Empty: one of the prompts to try"


def suited_prompt(name: str, prompt: str, first_prompt: str) -> str:
    """The prompt that a visitor has written, or the first example for a model in place of an example for other models.

    ``first_prompt`` is the prompt with which the page opens, in Storyland.
    """
    own = [*example_prompts(name), *([first_prompt] if name in bundled() else [])]
    examples = {*ENGLISH, *_story_prompts(EXAMPLE_SEEDS), first_prompt}
    return own[0] if prompt in examples and prompt not in own else prompt


def _story_prompts(seeds: tuple[int, ...]) -> list[str]:
    return [calm.storyland.prompt(seed).strip() for seed in seeds]


def random_prompt(name: str) -> str:
    """A story prompt for a model that was trained on Storyland; one of the English prompts for any other."""
    return calm.storyland.prompt(random.randrange(2**31)).strip() if name in bundled() else random.choice(ENGLISH)


def suggested_prompts(name: str, prompt: str) -> list[str]:
    """Two story prompts if the model was trained on Storyland and the prompt is not in its language; otherwise none."""
    if name not in bundled() or calm.storyland.vocabulary_share(prompt) >= MIN_KNOWN_WORDS:
        return []
    return _story_prompts(SUGGESTION_SEEDS)


def with_line_end(name: str, prompt: str) -> str:
    """Adds the newline that ends a story prompt, for a model that was trained on Storyland."""
    return calm.storyland.with_line_end(prompt) if name in bundled() else prompt
