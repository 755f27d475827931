"""What the tabs share: checks of what a visitor gives, and a button pair that starts and stops a run."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import gradio as gr

import calm

from . import render
from .models import VISITORS

REFRESH = 0.06  # seconds between two updates of the page while text streams
MAX_PROMPT = 4000  # characters
MAX_TOKENS = 512

Value = TypeVar("Value")
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def whole(value: Any, name: str) -> int:
    """A whole number from a number box, which may be empty or hold a fraction. Raises CalmError."""
    if value is None or isinstance(value, bool) or not float(value).is_integer():
        raise calm.CalmError(f"{name} must be a whole number.")
    return int(value)


def check_length(value: Any) -> int:
    tokens = whole(value, "Length")
    if not 1 <= tokens <= MAX_TOKENS:
        raise calm.CalmError(f"Length must be between 1 and {MAX_TOKENS} tokens.")
    return tokens


def check_prompt(prompt: str | None) -> str:
    prompt = prompt or ""
    if len(prompt) > MAX_PROMPT:
        raise calm.CalmError(f"The prompt has {len(prompt):,} characters; the page takes up to {MAX_PROMPT:,}.")
    return prompt


def paced(values: Iterable[Value]) -> Iterator[Value]:
    """Of values that come quickly those that are worth showing: the first, and one in ``REFRESH`` seconds."""
    shown = 0.0
    for value in values:
        if time.monotonic() - shown >= REFRESH:
            shown = time.monotonic()
            yield value


def busy() -> tuple[Any, Any]:
    """Updates of a start and a stop button while a run goes on; ``idle`` undoes them."""
    return gr.update(visible=False), gr.update(visible=True)


def idle() -> tuple[Any, Any]:
    return gr.update(visible=True), gr.update(visible=False)


def runs(starts: list[tuple[list, Callable, list]], outputs: list, go: gr.Button, stop: gr.Button, status: gr.HTML):
    """Wires streaming runs with the resident models: each of ``starts`` is triggers, function and inputs; ``stop``
    cancels whichever runs."""
    started = [
        gr.on(triggers, run, inputs, outputs, concurrency_id="model", concurrency_limit=VISITORS, **PRIVATE)
        for triggers, run, inputs in starts
    ]
    stop.click(
        lambda: (*idle(), render.note("Stopped; what was written stays.")),
        None,
        [go, stop, status],
        cancels=started,
        queue=False,
        **PRIVATE,
    )
