"""Starts the page and keeps it running until a signal ends it."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from calm import tracing

from . import zero_gpu  # first, because on ZeroGPU it imports spaces, which must come before torch
from .logs import adopt_web_server, configure_logs
from .malloc import limit_arenas
from .metrics import watch_queue
from .page import build, launch_options
from .registry import load_on_zero_gpu, loading
from .shutdown import serve_until_signal


def main() -> None:
    limit_arenas()
    configure_logs()
    tracing.configure("calm-page")
    page = build()
    if zero_gpu.ENABLED:
        load_on_zero_gpu()
    watch_queue(page)
    page.launch(prevent_thread_lock=True, **launch_options())
    adopt_web_server()
    loading()  # imports torch, which would delay the first page if it came earlier
    serve_until_signal(page)
