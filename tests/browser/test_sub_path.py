"""The page below a path, behind a proxy that strips it, and in a frame of another origin whose storage is denied."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from .conftest import running_app

PREFIX = "/calm"


class Proxy(BaseHTTPRequestHandler):
    """Serves ``upstream`` below ``PREFIX`` and a page with a frame at ``/frame``; passes each piece on at once."""

    protocol_version = "HTTP/1.0"  # an answer ends with its connection
    upstream: str
    missing: list[str]

    def log_message(self, *arguments: object) -> None:
        pass

    def _forward(self) -> None:
        if self.path == "/frame":
            return self._frame()
        if not self.path.startswith(PREFIX + "/"):
            self.missing.append(self.path)
            return self.send_error(404)
        target = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=120)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": "http"}
        connection.request(self.command, self.path.removeprefix(PREFIX), body, headers)
        answer = connection.getresponse()
        if answer.status == 404:
            self.missing.append(self.path)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        try:
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser closed the stream
        finally:
            connection.close()

    def _frame(self) -> None:
        port = self.server.server_address[1]
        # Another host name is another origin.
        page = f'<iframe width=1200 height=800 src="http://localhost:{port}{PREFIX}/"></iframe>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    do_GET = do_POST = do_HEAD = do_OPTIONS = _forward


@contextmanager
def running_proxy(upstream: str) -> Iterator[tuple[str, list[str]]]:
    missing: list[str] = []
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (Proxy,), {"upstream": upstream, "missing": missing})
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", missing
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[str, list[str]]]:
    with running_app(GRADIO_ROOT_PATH=PREFIX) as upstream, running_proxy(upstream) as proxied:
        yield proxied


def test_the_page_works_below_a_path(proxy, browser):
    address, missing = proxy
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}{PREFIX}/")
    page.wait_for_selector("#run .calm-chunk", timeout=60_000)
    before = page.evaluate("() => CALM.store.shown.run_id")
    page.locator("#generate").click()
    page.wait_for_function(
        "before => CALM.store.shown.run_id !== before && CALM.store.shown.finished", arg=before, timeout=60_000
    )
    page.get_by_role("tab", name="Vector space").click()
    page.wait_for_function("() => document.querySelector('#map .js-plotly-plot')", timeout=60_000)
    assert missing == [] and errors == []
    page.close()


def test_a_frame_without_storage_draws_every_chunk(proxy, browser):
    address, _ = proxy
    page = browser.new_page()
    page.add_init_script(
        """if (window !== top) for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });"""
    )
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/frame")
    frame = page.frame_locator("iframe")
    frame.locator("#run .calm-chunk").first.wait_for(timeout=60_000)
    steps = page.frames[1].evaluate("() => CALM.store.shown.steps.length")
    assert frame.locator("#run .calm-chunk").count() == steps > 10
    assert errors == []
    page.close()
