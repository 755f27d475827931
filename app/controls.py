"""What the tabs share: checks of what a visitor gives, and a button pair that starts and stops a run."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import gradio as gr
from gradio.context import Context

import calm

from . import render
from .registry import VISITORS

REFRESH = 0.06  # seconds between two updates of the page while text streams
LATE = 0.4  # seconds within which what was under way has arrived
MAX_PROMPT = 4000  # characters
MAX_TOKENS = 512

Value = TypeVar("Value")
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def whole(value: Any, name: str) -> int:
    """A whole number from a number box, which may be empty or hold a fraction. Raises CalmError."""
    try:
        if isinstance(value, bool) or not float(value).is_integer():
            raise ValueError
    except (TypeError, ValueError):
        raise calm.CalmError(f"{name} must be a whole number.") from None
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
    """Of values that come quickly those that are worth showing: the first, and one in ``REFRESH`` seconds, or fewer
    where Gradio takes long to send one, so that sending takes no more than a third of the time."""
    shown = cost = 0.0
    for value in values:
        begin = time.monotonic()
        if begin - shown >= max(REFRESH, 2 * cost):
            yield value
            shown = time.monotonic()
            cost = shown - begin


def busy() -> tuple[Any, Any]:
    """Updates of a start and a stop button while a run goes on; ``idle`` undoes them."""
    return gr.update(visible=False), gr.update(visible=True)


def idle() -> tuple[Any, Any]:
    return gr.update(visible=True), gr.update(visible=False)


def runs(
    starts: list[tuple[list, Callable, list]],
    outputs: list,
    go: gr.Button,
    stop: gr.Button,
    status: gr.HTML,
    js: str | None = None,
) -> None:
    """Wires streaming runs with the resident models: each of ``starts`` is triggers, function and inputs; ``stop``
    cancels whichever runs. ``js`` changes the inputs in the browser before they are sent."""
    # Gradio takes an event with a script of its own for still pending after it was cancelled; its button is hidden.
    how: dict[str, Any] = {**PRIVATE, "js": js, "trigger_mode": "multiple" if js else "once"}
    started = [
        gr.on(triggers, run, inputs, outputs, concurrency_id="model", concurrency_limit=VISITORS, **how)
        for triggers, run, inputs in starts
    ]
    told = render.note("Stopped; what was written stays.")

    def tell_again() -> str:
        time.sleep(LATE)
        return told

    stopped = stop.click(lambda: (*idle(), told), None, [go, stop, status], cancels=started, queue=False, **PRIVATE)
    # An update that was on its way when the run was cancelled may still arrive and say that it goes on. What is queued
    # comes to the page behind it, however busy the page is.
    stopped.then(tell_again, None, status, concurrency_limit=VISITORS, **PRIVATE)


def script(call: str, arguments: str = "...values") -> str:
    """A handler in the browser that waits for the page's scripts."""
    return f"""async ({arguments}) => {{
  while (!(window.CALM && CALM.savedTab)) await new Promise((done) => setTimeout(done, 30));
  return {call};
}}"""


def remembered(inputs: dict[str, Any]) -> None:
    """Keeps inputs in the address of the page, each under its name, so that it survives a reload and can be shared."""
    names, parts = json.dumps(list(inputs)), list(inputs.values())
    gr.on([part.change for part in parts], None, parts, None, js=script(f"CALM.saveInputs({names}, values)"))
    page = Context.root_block
    assert page
    page.load(None, parts, parts, js=script(f"CALM.restoreInputs({names}, values)"))
