"""Prompts that suit a model: examples, random ones, and whether a prompt is in the language of the model.

The bundled models were trained on Storyland alone: story-k8 on its first edition, the others on the present one. Any
other model gets prompts in English.
"""

import random

import calm

from .registry import bundled, storyland_models

EXAMPLE_SEEDS = (1, 2, 3, 5, 8, 13)
SUGGESTION_SEEDS = (1, 5)
MIN_KNOWN_WORDS = 0.9
"""A prompt with a smaller share of Storyland's words is not in its language."""

FIRST_EDITION = (
    "A story about a shy fox named Sam and a fear of deep water.",
    "This is a story about Tom, a shy kitten, and a squirrel stuck in the barrel.",
    "A story about a shy deer named Anna and a frog stuck in the big basket.",
    "A story about a shy bear named Sam and a strange whisper in the night.",
    "A story about a shy fox named Sam and a snowman with a sun hat.",
    "A story about a kind bear named Ben and a fear of high places.",
)
"""Story prompts for the bundled models of the first edition, whose grammar is in version 0.1.0."""
FIRST_OPENINGS = ("A story about ", "This is a story about ")
"""How every story prompt of the first edition begins."""

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
    stories = _story_prompts(EXAMPLE_SEEDS) if name in storyland_models() else FIRST_EDITION
    return [*stories, "Once upon a time"]


def prompt_hint(name: str) -> str:
    """What an empty prompt does, in words."""
    return "Empty: a random story" if name in bundled() else "Empty: one of the prompts to try"


def suited_prompt(name: str, prompt: str, first_prompt: str) -> str:
    """The prompt that a visitor has written, or the first example for a model in place of an example for other models.

    ``first_prompt`` is the prompt with which the page opens, in the present edition of Storyland.
    """
    own = [*example_prompts(name), *([first_prompt] if name in storyland_models() else [])]
    examples = {*ENGLISH, *FIRST_EDITION, *_story_prompts(EXAMPLE_SEEDS), first_prompt}
    return own[0] if prompt in examples and prompt not in own else prompt


def _story_prompts(seeds: tuple[int, ...]) -> list[str]:
    return [calm.storyland.prompt(seed).strip() for seed in seeds]


def random_prompt(name: str) -> str:
    """A story prompt for a model that was trained on Storyland; one of the English prompts for any other."""
    if name in storyland_models():
        return calm.storyland.prompt(random.randrange(2**31)).strip()
    return random.choice(FIRST_EDITION if name in bundled() else ENGLISH)


def suggested_prompts(name: str, prompt: str) -> list[str]:
    """Two story prompts if the model was trained on today's Storyland and the prompt is not in its language; otherwise
    none."""
    if name not in storyland_models() or calm.storyland.vocabulary_share(prompt) >= MIN_KNOWN_WORDS:
        return []
    return _story_prompts(SUGGESTION_SEEDS)


def with_line_end(name: str, prompt: str) -> str:
    """Adds the newline that ends a story prompt, for a model that was trained on Storyland."""
    if name not in bundled():
        return prompt
    if name in storyland_models():
        return calm.storyland.with_line_end(prompt)
    is_prompt = prompt.startswith(FIRST_OPENINGS) and prompt.endswith(".") and "\n" not in prompt
    return f"{prompt}\n" if is_prompt else prompt
