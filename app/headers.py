"""Headers of every response that limit what a browser lets the page do, and the routes of Gradio that are switched off.

docs/reliability.md explains each choice.
"""

import os
import re
from typing import Any

FRAME_ANCESTORS = "'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
"""Pages that may show this one in a frame, with CALM_PARENT_ORIGIN, unless CALM_FRAME_ANCESTORS names others."""

POLICY = {
    "default-src": "'self'",
    # Gradio's page has inline scripts, and runs the JavaScript of event handlers as new functions.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "media-src": "'none'",
    "frame-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
"""The Content-Security-Policy, without ``frame-ancestors``."""

IN_A_SPACE = {
    "style-src": "https://fonts.googleapis.com",
    "font-src": "https://fonts.gstatic.com",
    "connect-src": "https://huggingface.co",
    "img-src": "https://huggingface.co https://cdn-avatars.huggingface.co https://cdn-avatars-eu.huggingface.co",
}
"""What Gradio fetches besides in a Space: the header with the Space's name, and its fonts."""

PERMISSIONS = ("camera", "microphone", "geolocation", "payment", "usb", "midi", "display-capture")

SWITCHED_OFF = re.compile(
    r"/(monitoring|gradio_api/(dev/|proxy=|vibe-|undo-vibe-|process_recording|stream/|run-history|runs|deep_link"
    r"|custom_component|profiling|token))"
)
"""Beginnings of paths that answer 404: the page does not use these routes of Gradio."""


def security_headers() -> list[tuple[bytes, bytes]]:
    """Names and values of the headers."""
    parent = os.environ.get("CALM_PARENT_ORIGIN", "")
    ancestors = os.environ.get("CALM_FRAME_ANCESTORS") or f"{FRAME_ANCESTORS} {parent}".strip()
    sources = {**POLICY, "frame-ancestors": ancestors}
    if "SPACE_ID" in os.environ:
        sources |= {name: f"{POLICY[name]} {more}" for name, more in IN_A_SPACE.items()}
    policy = "; ".join(f"{name} {allowed}" for name, allowed in sources.items())
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "strict-origin-when-cross-origin",
        "permissions-policy": ", ".join(f"{name}=()" for name in PERMISSIONS),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class SecurityHeaders:
    """ASGI middleware that adds the headers to every response and answers 404 for the routes that are switched off."""

    def __init__(self, app: Any):
        self.app, self.headers = app, security_headers()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self.headers]}
            await send(message)

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if SWITCHED_OFF.match(scope["path"].removeprefix(scope.get("root_path", ""))):
            await send_with_headers({"type": "http.response.start", "status": 404, "headers": []})
            return await send_with_headers({"type": "http.response.body", "body": b"Not found"})
        await self.app(scope, receive, send_with_headers)
