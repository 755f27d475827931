"""Starts the playground: ``python app.py``. Also the entry point on Hugging Face Spaces."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from app import zero_gpu  # first, because on ZeroGPU it imports spaces, which must come before torch
from app.health import add_routes
from app.logs import adopt_web_server, configure_logs
from app.metrics import watch_queue
from app.page import build, launch_options
from app.registry import load_on_zero_gpu, loading
from app.shutdown import serve_until_signal

if __name__ == "__main__":
    configure_logs()
    page = build()
    if zero_gpu.ENABLED:
        load_on_zero_gpu()
    server, _, _ = page.launch(prevent_thread_lock=True, **launch_options())
    adopt_web_server()
    watch_queue(page)
    add_routes(server)
    loading()  # imports torch, which would delay the first page if it came earlier
    serve_until_signal(page)
