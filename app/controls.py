"""Parts that the tabs share: throttling, common inputs and buttons, status lines, tables, URL state."""

import html
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import gradio as gr
from gradio.context import Context

from .files import IMPORT
from .limits import MAX_NEW_TOKENS, TEMPERATURE_DEFAULT, TEMPERATURE_MAX, TEMPERATURE_MIN

UPDATE_INTERVAL = 0.1  # seconds between two updates of the page while a result grows
SETTLE_TIME = 0.4  # seconds within which updates that were sent before a stop have arrived

Value = TypeVar("Value")
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Arguments of the page's own events, which are not public endpoints."""
CHECKED: dict[str, Any] = {**PRIVATE, "preprocess": False}
"""Arguments of events whose handler checks the values that the browser sends (``app.validation.validated``)."""
FALLBACK_NOTE = "slower for now: kernels are being compiled"


def throttle(values: Iterable[Value], keep_last: bool = True) -> Iterator[Value]:
    """The first value, in between at most one per ``UPDATE_INTERVAL``, and the last one.

    If Gradio takes long to send a value, the pause grows, so that sending takes at most a third of the time. A value
    that is held back when an error is raised is still yielded before the error. Without ``keep_last``, a value that is
    held back at the end is left out, because the caller goes on with a result that holds it.
    """
    shown_at = cost = 0.0
    held_back: list[Value] = []

    def flush() -> Iterator[Value]:
        while keep_last and held_back:
            yield held_back.pop()

    try:
        for value in values:
            start = time.monotonic()
            if start - shown_at < max(UPDATE_INTERVAL, 2 * cost):
                held_back[:] = [value]
                continue
            held_back.clear()
            yield value
            shown_at = time.monotonic()
            cost = shown_at - start
    except Exception:
        yield from flush()
        raise
    yield from flush()


TEMPERATURE_INFO = f"{TEMPERATURE_MIN:g} to {TEMPERATURE_MAX:g}; default {TEMPERATURE_DEFAULT:g}."


def temperature_slider(elem_id: str, info: str | None = TEMPERATURE_INFO) -> gr.Slider:
    return gr.Slider(
        TEMPERATURE_MIN,
        TEMPERATURE_MAX,
        value=TEMPERATURE_DEFAULT,
        step=0.01,
        label="Temperature",
        info=info,
        elem_id=elem_id,
    )


def new_tokens_slider(elem_id: str, default: int, **layout: Any) -> gr.Slider:
    return gr.Slider(
        4,
        MAX_NEW_TOKENS,
        value=default,
        step=4,
        label="Max new tokens",
        info=f"Default {default}.",
        elem_id=elem_id,
        **layout,
    )


def seed_box(elem_id: str | None = None, **layout: Any) -> gr.Number:
    return gr.Number(0, label="Random seed", precision=0, elem_id=elem_id, **layout)


def start_and_stop(label: str, elem_id: str, **layout: Any) -> tuple[gr.Button, gr.Button]:
    """A button that starts work, and one that stops it, hidden until the work runs. The id of the second ends in
    ``-stop``."""
    start = gr.Button(label, elem_id=elem_id, **layout)
    stop = gr.Button("Stop", elem_id=f"{elem_id}-stop", **{**layout, "variant": "stop"}, visible=False)
    return start, stop


def status_line(content: str) -> str:
    """HTML of a status line. ``content`` is HTML, too."""
    return f'<p class="calm-note" role="status">{content}</p>'


def error_line(sentence: str, stale: bool = False) -> str:
    """HTML of an error message; ``stale`` adds that the result below is from an earlier run."""
    mark = ' data-stale="true"' if stale else ""
    note = " The result below is an earlier one." if stale else ""
    return f'<p class="calm-note calm-error" role="alert"{mark}>{html.escape(sentence)}{note}</p>'


def scrolling_table(
    label: str, columns: Sequence[str], rows: Iterable[Sequence[object]], css_class: str = "calm-scores"
) -> str:
    """HTML of a table whose cells are HTML. The first cell of a row is its header. ``label`` names the table to screen
    readers."""
    head = "".join(f"<th scope=col>{name}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{cell}</td>' for cell in others)}</tr>"
        for first, *others in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    # A phone shows a part of the table, which a keyboard scrolls once the region has the focus.
    return f'<div class="{css_class}" role="region" aria-label="{label}" tabindex="0">{table}</div>'


def in_browser(expression: str, arguments: str = "...values") -> str:
    """An event handler in JavaScript; in the expression, ``calm`` is the module with the functions of the page."""
    return f"async ({arguments}) => {{ const calm = await {IMPORT}; return {expression}; }}"


def _accepted(part: Any) -> dict[str, Any]:
    """The values that an input of the page accepts: the bounds of a slider, the choices of buttons and boxes."""
    if isinstance(part, gr.Slider):
        return {"min": part.minimum, "max": part.maximum}
    if isinstance(part, gr.Radio | gr.CheckboxGroup):
        return {"choices": [value for _, value in part.choices]}
    return {}


def sync_with_url(inputs: dict[str, Any]) -> None:
    """Keeps inputs in the address of the page, each under its name: they survive a reload and can be shared. A value of
    the address that an input does not accept is brought within its bounds or ignored."""
    names, parts = json.dumps(list(inputs)), list(inputs.values())
    accepted = json.dumps([_accepted(part) for part in parts])
    gr.on([part.change for part in parts], None, parts, None, js=in_browser(f"calm.saveInputs({names}, values)"))
    page = Context.root_block
    assert page
    page.load(None, parts, parts, js=in_browser(f"calm.restoreInputs({names}, values, {accepted})"))
