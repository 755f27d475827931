"""A reverse proxy in front of the page: below a path, with TLS, or under another host name."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class ProxySettings:
    """The upstream of the proxy, and the pages that it serves."""

    upstream: str = ""
    """The address of the page; it may be set once the proxy runs."""
    prefix: str = ""
    """The path below which the page is served; the proxy strips it."""
    scheme: str = "http"
    frame: str = ""
    """HTML of a page at ``/frame``; ``{port}`` is the port of the proxy."""
    missing: list[str] = field(default_factory=list)
    """Paths that were requested and not found."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # an answer ends with its connection
    settings: ProxySettings

    def log_message(self, *arguments: object) -> None:
        pass

    def _forward(self) -> None:
        settings = self.settings
        if settings.frame and self.path == "/frame":
            return self._send_frame()
        if not self.path.startswith(settings.prefix + "/"):
            settings.missing.append(self.path)
            return self.send_error(404)
        target = urlsplit(settings.upstream)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=120)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Proto": settings.scheme}
        connection.request(self.command, self.path.removeprefix(settings.prefix), body, headers)
        answer = connection.getresponse()
        if answer.status == 404:
            settings.missing.append(self.path)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        try:
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # the browser closed the stream
        finally:
            connection.close()

    def _send_frame(self) -> None:
        assert isinstance(self.server, ThreadingHTTPServer)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.settings.frame.replace("{port}", str(self.server.server_address[1])).encode())

    do_GET = do_POST = do_HEAD = do_OPTIONS = do_DELETE = _forward


@contextmanager
def running_proxy(settings: ProxySettings, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serves until the context ends, and yields the port on 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"settings": settings}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
