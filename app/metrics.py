"""``/metrics``: figures of this process in the format of Prometheus."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from calm import tracing
from calm.statistics import FIRST_CHUNK_BOUNDS, STATISTICS

from . import logs
from .registry import engines, used_memory

__all__ = ["CONTENT_TYPE_LATEST", "count_failure", "observe", "render", "watch_queue"]

logger = logging.getLogger(__name__)

disable_created_metrics()  # the time of its creation for each counter
REGISTRY = CollectorRegistry()
REQUESTS = Counter("calm_requests", "Events of the page and calls of endpoints.", ["event"], registry=REGISTRY)
FAILURES = Counter(
    "calm_failures", "Requests that failed: invalid requests, and errors of the program.", ["kind"], registry=REGISTRY
)
DURATION = Counter(
    "calm_request_seconds", "Seconds from the start to the end of requests, with the time in queues.", ["event"],
    registry=REGISTRY,
)  # fmt: skip
QUEUED = Gauge("calm_queued_requests", "Requests that wait in a queue.", ["queue"], registry=REGISTRY)
ACTIVE = Gauge("calm_active_slots", "Texts that are being generated.", registry=REGISTRY)
SLOTS = Gauge("calm_slots", "Texts that all loaded models can generate at once.", registry=REGISTRY)
GPU_MEMORY = Gauge("calm_gpu_memory_bytes", "GPU memory that tensors use.", registry=REGISTRY)

QUEUED.labels("engine").set_function(lambda: sum(len(engine.queue) for engine in engines()))
ACTIVE.set_function(lambda: sum(not request.finished for engine in engines() for request in list(engine.running)))
SLOTS.set_function(lambda: sum(engine.slots for engine in engines()))
for kind in ("request", "program"):
    FAILURES.labels(kind)


class _EngineTotals(Collector):
    """Totals of ``calm.statistics``. Draws a step are the ratio of the rates of two of them."""

    def collect(self) -> Iterator[Metric]:
        totals = STATISTICS
        for name, total, text in (
            ("steps", totals.steps, "Steps: one chunk each, or one token of a token-by-token model."),
            ("tokens", totals.tokens, "Generated tokens."),
            ("draws", totals.draws, "Samples that the generative heads drew."),
        ):
            yield CounterMetricFamily(f"calm_{name}", text, total)
        cumulative, buckets = 0, []
        for bound, count in zip((*FIRST_CHUNK_BOUNDS, "+Inf"), totals.first_chunk_counts):
            cumulative += count
            buckets.append((str(bound), cumulative))
        text = "Seconds from the arrival of a request in the engine, with its time in the queue, to its first chunk."
        yield HistogramMetricFamily("calm_first_chunk_seconds", text, buckets, totals.first_chunk_seconds)


class _ModelMemory(Collector):
    """Bytes of the models in this process. A model that is unloaded has no figure."""

    def collect(self) -> Iterator[Metric]:
        text = "Bytes of a loaded model: weights, packed copies of them, key/value cache."
        family = GaugeMetricFamily("calm_model_memory_bytes", text, labels=["model"])
        for name, size in used_memory().items():
            family.add_metric([name], size)
        yield family


REGISTRY.register(_EngineTotals())
REGISTRY.register(_ModelMemory())
ProcessCollector(registry=REGISTRY)  # memory, CPU time and open files


def watch_queue(page: Any) -> None:
    """Measures the queue of Gradio's page."""
    QUEUED.labels("page").set_function(lambda: len(page._queue))


def count_failure(is_users: bool) -> None:
    FAILURES.labels("request" if is_users else "program").inc()


MAX_STARTS = 1000
_starts: dict[str, tuple[float, tracing.Span]] = {}
"""Start and span of each event, by its id. A cancelled event may have no end, so the oldest are dropped."""


@contextmanager
def observe(
    function: Any, event_id: str | None, is_first: bool, traceparent: str | None = None
) -> Iterator[dict[str, Any]]:
    """Counts, logs and traces one call of an event. A generating event has one call for each result. The caller fills
    the dictionary with the result of the call. The span of an event continues the trace of ``traceparent``."""
    event = str(getattr(function, "api_name", "") or getattr(function, "name", "") or "event")
    key = event_id or str(id(function))
    if is_first:
        REQUESTS.labels(event).inc()
        span = tracing.start(event, {tracing.REQUEST_ID: logs.request_id()}, traceparent, "server")
        _starts[key] = time.monotonic(), span
        while len(_starts) > MAX_STARTS:
            _starts.pop(next(iter(_starts)))[1].end()
        logger.info("Request started", extra={"fields": {"event": event}})
    start, span = _starts.get(key, (time.monotonic(), tracing.NO_SPAN))
    result: dict[str, Any] = {}
    outcome = "failed"
    try:
        with span.active():
            yield result
        outcome = "running" if result.get("is_generating") else "finished"
    finally:
        if outcome != "running":
            _starts.pop(key, None)
            span.end()
            seconds = time.monotonic() - start
            DURATION.labels(event).inc(seconds)
            fields = {"event": event, "seconds": round(seconds, 3)}
            logger.info("Request %s", outcome, extra={"fields": fields})


def render() -> bytes:
    """All figures as text."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        GPU_MEMORY.set(torch.cuda.memory_allocated())
    return generate_latest(REGISTRY)
