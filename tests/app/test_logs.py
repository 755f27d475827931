"""Structured logs: one JSON object a line, with the id of the request that the visitor's sentence names."""

import io
import json
import logging
import sys

import pytest

from app import logs
from app.errors import error_sentence
from calm import CalmError


@pytest.fixture
def lines(monkeypatch):
    """The lines that were logged in JSON so far."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("CALM_LOG_FORMAT", "json")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers.clear()
    logs.configure_logs()
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in ("app", "calm"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_the_sentence_and_the_log_name_the_same_request(lines):
    with logs.request("0123456789abcdef"):
        sentence = error_sentence(ZeroDivisionError("division"))
    (line,) = lines()
    assert "01234567" in sentence and line["request_id"] == "01234567"
    assert line["level"] == "error" and line["logger"] == "app.errors"
    assert line["traceback"].endswith("ZeroDivisionError: division")


def test_a_refused_request_is_logged_without_a_traceback(lines):
    with logs.request(None):
        error_sentence(CalmError("Too long."))
    (line,) = lines()
    assert line["sentence"] == "Too long." and line["level"] == "info" and "traceback" not in line
    assert len(line["request_id"]) == 8 and line["time"].endswith("+00:00")


def test_a_line_outside_a_request_has_no_id(lines):
    logging.getLogger("calm.somewhere").warning("a message of %d\nlines", 2)
    (line,) = lines()
    assert line["message"] == "a message of 2\nlines" and "request_id" not in line


def test_each_id_outside_a_request_is_a_new_one():
    assert logs.request_id() != logs.request_id()
