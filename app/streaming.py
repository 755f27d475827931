"""Runs the work of all tabs and streams its results to the page.

A tab's work is a generator function of ``Progress``. The helper here shows each progress, swaps the start and stop
buttons, and turns any exception into one sentence in the status line.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr

from .controls import CHECKED, PRIVATE, SETTLE_TIME, error_line, status_line
from .errors import error_sentence
from .limits import AT_ONCE, MAX_CONCURRENT_RUNS

Work = Callable[..., Iterator["Progress"]]


@dataclass(frozen=True)
class Progress:
    """The status and the results at one moment of the work."""

    status: str
    """HTML of the status line, without its paragraph."""
    results: tuple[Any, ...] = ()
    """One value for each result component; empty to leave them as they are."""
    finished: bool = False
    """Whether the results are complete. The buttons are restored, until a progress follows that is not finished."""


@dataclass(frozen=True)
class Panel:
    """The components in which a tab shows its work."""

    results: Sequence[Any]
    status: gr.HTML
    start: gr.Button | None = None
    stop: gr.Button | None = None
    """Both buttons; None if the work is too short to be stopped."""

    @property
    def outputs(self) -> list[Any]:
        return [*self.results, self.status, *filter(None, (self.start, self.stop))]

    def _update(self, results: Sequence[Any] = (), status: Any = None, running: bool | None = None) -> list[Any]:
        """One update of all outputs; outputs without a new value stay as they are."""
        shown = list(results) or [gr.skip() for _ in self.results]
        updates = [*shown, gr.skip() if status is None else status]
        if self.start and self.stop:
            visible = [gr.skip()] * 2 if running is None else [gr.update(visible=on) for on in (not running, running)]
            updates += visible
        return updates

    def run(self, work: Work, *inputs: Any) -> Iterator[list[Any]]:
        """Updates of ``outputs`` for work with these inputs, from the start to the end, when the buttons are restored.

        After an error the result of earlier work stays and the status line says that it is an earlier one.

        Each update repeats the latest results, which costs nothing: Gradio sends differences. Without them, a browser
        that is slower than the work would lose the results, because Gradio's client applies a difference in place, to
        the very object that still waits to be shown.
        """
        results: tuple[Any, ...] = ()
        running: bool | None = None
        try:
            for progress in work(*inputs):
                results = progress.results or results
                before, running = running, not progress.finished
                yield self._update(results, status_line(progress.status), None if running == before else running)
        except Exception as error:
            stale = results[:1] in ((), (gr.skip(),))  # the first result is the main one
            yield self._update(results, error_line(error_sentence(error), stale=stale), running=False)
            return
        if self.start and running is not False:
            yield self._update(results, running=False)


def wire(
    panel: Panel,
    starts: Sequence[tuple[Sequence[Any], Work, Sequence[Any]]],
    js: str | None = None,
    group: str = "model",
) -> None:
    """Connects streamed work with its events: each of ``starts`` is triggers, work and inputs; the stop button cancels
    them. ``js`` changes the inputs in the browser before they are sent."""
    assert panel.start and panel.stop
    # Gradio treats an event with a script of its own as pending after it was cancelled, so that one must be "multiple";
    # its start button is hidden meanwhile.
    options: dict[str, Any] = {**CHECKED, "js": js, "trigger_mode": "multiple" if js else "once"}
    events = [
        gr.on(
            triggers,
            streamed(panel, work),
            inputs,
            panel.outputs,
            concurrency_id=group,
            concurrency_limit=AT_ONCE[group],
            **options,
        )
        for triggers, work, inputs in starts
    ]
    stopped = status_line("Stopped. The results so far are kept.")

    def restore() -> tuple[Any, Any, str]:
        return gr.update(visible=True), gr.update(visible=False), stopped

    def repeat_status() -> str:
        time.sleep(SETTLE_TIME)
        return stopped

    outputs = [panel.start, panel.stop, panel.status]
    cancel = panel.stop.click(restore, None, outputs, cancels=events, queue=False, **PRIVATE)
    # An update that was sent before the cancellation may arrive after it and show an old status. A queued event reaches
    # the page after it.
    cancel.then(repeat_status, None, panel.status, concurrency_limit=MAX_CONCURRENT_RUNS, **PRIVATE)


def streamed(panel: Panel, work: Work) -> Callable[..., Iterator[list[Any]]]:
    """The event handler that runs ``work`` in ``panel``."""

    @wraps(work)  # Gradio reads the signature: an argument of type gr.EventData gets the data of the event
    def handle(*inputs: Any) -> Iterator[list[Any]]:
        yield from panel.run(work, *inputs)

    return handle
