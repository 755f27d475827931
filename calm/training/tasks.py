"""The four things that can be trained, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import tokenizer
from .autoencoder import AutoencoderSettings, AutoencoderTask
from .lm import CalmSettings, LanguageModelSettings, baseline_task, calm_task
from .loop import Task, run
from .recipe import settings_of

SETTINGS = {
    "tokenizer": tokenizer.TokenizerSettings,
    "autoencoder": AutoencoderSettings,
    "lm": CalmSettings,
    "baseline": LanguageModelSettings,
}
MODELS: dict[str, Callable[[Any], Task]] = {
    "autoencoder": AutoencoderTask,
    "lm": calm_task,
    "baseline": baseline_task,
}


def _settings(task: str, values: dict[str, Any]) -> Any:
    return settings_of(SETTINGS[task], {key: value for key, value in values.items() if key != "task"})


def make(task: str, values: dict[str, Any]) -> Task:
    """One of ``MODELS`` at its beginning, for the training loop. Raises CalmError for bad settings."""
    return MODELS[task](_settings(task, values))


def train(task: str, values: dict[str, Any]) -> Path:
    """Trains (or resumes) a task by its settings; returns the folder of what came out.

    Raises CalmError for bad settings.
    """
    return tokenizer.train(_settings(task, values)) if task == "tokenizer" else run(make(task, values))
