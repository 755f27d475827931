"""The four things that can be trained, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import autoencoder, lm, recipe, tokenizer

TASKS: dict[str, tuple[type, Callable[[Any], Path]]] = {
    "tokenizer": (tokenizer.TokenizerSettings, tokenizer.train),
    "autoencoder": (autoencoder.AutoencoderSettings, autoencoder.train),
    "lm": (lm.CalmSettings, lm.train_calm),
    "baseline": (lm.LanguageModelSettings, lm.train_baseline),
}


def train(task: str, settings: dict[str, Any]) -> Path:
    """Trains a task by its settings; returns the folder of what came out. Raises CalmError for bad settings."""
    kind, run = TASKS[task]
    values = {key: value for key, value in settings.items() if key != "task"}
    return run(recipe.settings_of(kind, values))
