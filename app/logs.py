"""Logs of the page: lines of text, or JSON lines with ``CALM_LOG_FORMAT=json``, both on standard error.

Every line that belongs to a request has the request's id. Logs hold no texts, but the sentence of a refused request
may quote 60 characters of a value.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the request that this thread or task serves; a new one outside any request."""
    return _request_id.get() or uuid.uuid4().hex[:8]


@contextmanager
def request(event_id: str | None) -> Iterator[None]:
    """Lines that are logged in this context belong to one request. The steps of a Gradio event share its id."""
    token = _request_id.set((event_id or uuid.uuid4().hex)[:8])
    try:
        yield
    finally:
        _request_id.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and request_id, traceback and the dictionary that
    was logged as ``extra={"fields": ...}`` where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if _request_id.get():
            line["request_id"] = _request_id.get()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def use_json() -> bool:
    return os.environ.get("CALM_LOG_FORMAT", "") == "json"


def configure_logs() -> None:
    """Sets the format of all logs, Python's warnings and those of the web server included."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if use_json() else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if use_json():
        logging.captureWarnings(True)
        for name in ("app", "calm"):
            logging.getLogger(name).setLevel(logging.INFO)


def adopt_web_server() -> None:
    """Passes the lines of the web server, which has a format of its own, on to the handler of ``configure_logs``. Call
    it after the server has started."""
    if use_json():
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
