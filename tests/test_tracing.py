"""Tracing is off unless the environment asks for it, and needs packages that may be missing."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import calm
from calm import tracing

PROGRAM = """
from calm import tracing
tracing.configure("calm-test")
with tracing.start("a span"):
    pass
tracing.flush()
"""


@pytest.fixture
def settings(monkeypatch):
    """Sets the variables of OpenTelemetry."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracing, "_provider", None)

    def settings(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return settings


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, []),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_the_standard_variables_turn_tracing_on(settings, variables, names):
    settings(**variables)
    assert tracing._exporter_names() == names


def test_without_a_variable_nothing_is_recorded_and_opentelemetry_is_not_imported(settings):
    program = f"{PROGRAM}import sys; assert not tracing.is_on() and 'opentelemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.trace"])
def test_without_the_packages_a_warning_names_them_and_texts_are_generated(
    settings, missing, monkeypatch, caplog, tiny
):
    settings(OTEL_TRACES_EXPORTER="console")
    monkeypatch.setitem(sys.modules, missing, None)
    tracing.configure("calm-test")
    tracing.record_error(ValueError())
    assert "run pip install 'calm-playground[tracing]'" in caplog.text
    assert not tracing.is_on() and len(list(calm.generate(tiny(), "Once", max_new_tokens=8))) == 2


def test_an_exporter_that_is_not_installed_is_named(settings, caplog):
    settings(OTEL_TRACES_EXPORTER="pigeon")
    tracing.configure("calm-test")
    assert "there is no exporter pigeon" in caplog.text and not tracing.is_on()


def test_spans_arrive_at_the_endpoint(settings):
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}", OTEL_EXPORTER_OTLP_COMPRESSION="none"
        )
        subprocess.run([sys.executable, "-c", PROGRAM], check=True)
        server.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces" and b"calm-test" in body and b"a span" in body
