"""Spans of OpenTelemetry: one trace shows a request on the page, on its replicas and in the engine.

Tracing is off unless ``configure`` finds a standard environment variable that asks for it. While it is off, ``start``
returns a span that records nothing, and OpenTelemetry is not imported.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points
from typing import Any

logger = logging.getLogger(__name__)

REQUEST_ID = "calm.request_id"
"""Attribute with the id that the request has in the logs. A span inherits it from its parent in the same process."""
OTLP_EXPORTERS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""The name of the exporter for each protocol of OTEL_EXPORTER_OTLP_PROTOCOL."""
FLUSH_SECONDS = 1.0

_provider: Any = None
"""The TracerProvider of this process; None while tracing is off."""


class Span:
    """A part of a request. As a context manager it ends with its block, and records an exception that leaves it.

    This class records nothing: it stands for every span while tracing is off.
    """

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):  # any other BaseException closes a generator or cancels a task
            self.fail(error)
        self.end()

    @property
    def traceparent(self) -> str:
        """The identity of this span as a W3C header, with which another process starts its children; empty without
        one."""
        return ""

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Adds attributes: texts, numbers and truth values."""

    def event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Records that something happens now."""

    def fail(self, error: BaseException) -> None:
        """Records an error."""

    def end(self) -> None: ...

    def active(self) -> AbstractContextManager[object]:
        """The context in which this span is the parent of new ones. A generator must not yield in it."""
        return nullcontext()


class _RecordedSpan(Span):
    def __init__(self, name: str, attributes: Mapping[str, Any], traceparent: str | None, kind: str):
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._propagator = TraceContextTextMapPropagator()
        parent = context.get_current()
        if traceparent:
            parent = self._propagator.extract({"traceparent": traceparent}, parent)
        inherited = getattr(trace.get_current_span(parent), "attributes", None) or {}
        common = {REQUEST_ID: inherited[REQUEST_ID]} if REQUEST_ID in inherited else {}
        tracer = _provider.get_tracer("calm")
        known = {key: value for key, value in {**common, **attributes}.items() if value != ""}
        self._span = tracer.start_span(name, parent, trace.SpanKind[kind.upper()], known)

    @property
    def traceparent(self) -> str:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(self._span))
        return carrier.get("traceparent", "")

    def set(self, attributes: Mapping[str, Any]) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        self._span.add_event(name, attributes)

    def fail(self, error: BaseException) -> None:
        _fail(self._span, error)

    def end(self) -> None:
        self._span.end()

    def active(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span

        return use_span(self._span, record_exception=False, set_status_on_exception=False)


NO_SPAN = Span()


def start(
    name: str, attributes: Mapping[str, Any] | None = None, traceparent: str | None = None, kind: str = "internal"
) -> Span:
    """A new span, which the caller must end. Its parent is the span that ``traceparent`` names, or else the active one.
    Empty attributes are left out.

    ``kind`` is ``server`` for the work of a request, ``client`` for a request to another process, or ``internal``.
    """
    return _RecordedSpan(name, attributes or {}, traceparent, kind) if is_on() else NO_SPAN


def is_on() -> bool:
    return _provider is not None


def record_error(error: BaseException) -> None:
    """Records an error in the active span, if there is one."""
    if is_on():
        from opentelemetry.trace import get_current_span

        _fail(get_current_span(), error)


def _fail(span: Any, error: BaseException) -> None:
    from opentelemetry.trace import StatusCode

    span.record_exception(error)
    span.set_status(StatusCode.ERROR, str(error))


def configure(service: str) -> None:
    """Turns tracing on in this process if the OTEL_ variables name an exporter or an endpoint.

    ``service`` is its name in the traces unless OTEL_SERVICE_NAME gives another one. If a package is missing, tracing
    stays off, and a warning says how to install it. A provider that is already set up keeps its exporters.
    """
    global _provider
    if not (names := _exporter_names()):
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            exporters = [_exporter(name) for name in names]
            name = os.environ.get("OTEL_SERVICE_NAME") or service
            provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
            for exporter in exporters:
                provider.add_span_processor(BatchSpanProcessor(exporter))
            trace.set_tracer_provider(provider)
    except ImportError as error:
        logger.warning("Requests are not traced (%s): run pip install 'calm-playground[tracing]'.", error)
        return
    _provider = provider


def _exporter_names() -> list[str]:
    """The exporters that the environment variables ask for, by their names in OTEL_TRACES_EXPORTER."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    names = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "")
    return [name for name in map(str.strip, names.split(",")) if name not in ("", "none")]


def _exporter(name: str) -> Any:
    """A new exporter, as OpenTelemetry's packages register theirs. Raises ImportError if it is not installed."""
    if name == "otlp":
        variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = next((os.environ[variable] for variable in variables if os.environ.get(variable)), "http/protobuf")
        name = OTLP_EXPORTERS.get(protocol, protocol)
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()()
    raise ImportError(f"there is no exporter {name}")


def flush() -> None:
    """Sends the spans that have ended, for at most a second."""
    if is_on():
        sender = threading.Thread(target=_provider.force_flush, daemon=True)
        sender.start()
        sender.join(FLUSH_SECONDS)
