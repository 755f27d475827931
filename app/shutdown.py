"""Ends the page on Ctrl-C or SIGTERM within five seconds: running requests end in a sentence, and children end."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from threading import Event
from typing import Any, NoReturn

import calm
from calm import tracing

from . import compute
from .registry import engines

logger = logging.getLogger(__name__)

LIMIT = 4.0
"""Seconds after which requests that have not ended are cut off."""
FLUSH = 0.3
"""Seconds in which the last sentences reach the visitors."""
SENTENCE = "The page is being restarted, so this request has ended. The results so far are kept; try again in a minute."


def serve_until_signal(page: Any) -> NoReturn:
    """Serves until Ctrl-C or SIGTERM, ends all requests, and exits with 130 or 143. Call it on the main thread."""
    received: list[int] = []
    stop = Event()

    def request_stop(number: int, _: object) -> None:
        if received:  # a second signal ends the process at once
            os._exit(128 + number)
        received.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request_stop)
    stop.wait()
    end_requests(page)
    tracing.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + received[0])  # threads that download or compute would delay an ordinary exit


def end_requests(page: Any) -> None:
    """Refuses new requests and ends running ones with ``SENTENCE``; returns when all have ended, or after ``LIMIT``."""
    error = calm.CalmError(SENTENCE)
    compute.close(error)
    active = _active(page)
    logger.warning("The page stops; %d running requests end with a sentence.", active)
    _end_children()
    deadline = time.monotonic() + LIMIT
    while _active(page) and time.monotonic() < deadline:
        for engine in engines():
            engine.cancel(error)
        time.sleep(0.05)
    if left := _active(page):
        logger.warning("%d requests did not end within %g seconds and are cut off.", left, LIMIT)
    if active:
        time.sleep(FLUSH)


def _active(page: Any) -> int:
    """How many events Gradio's queue runs or holds."""
    queue = page._queue
    return sum(len(events) for events in queue.active_jobs if events) + len(queue)


def _end_children() -> None:
    for child in multiprocessing.active_children():  # UMAP fits
        child.kill()
    if (warmup := sys.modules.get("calm.engine.warmup")) is not None:
        warmup.stop_compilers()
