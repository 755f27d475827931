"""Starts the playground: ``python app.py``. Also the entry point on Hugging Face Spaces."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from app import zero_gpu  # first, because on ZeroGPU it imports spaces, which must come before torch
from app.health import add_routes
from app.page import build, launch_options
from app.registry import load_on_zero_gpu, loading

if __name__ == "__main__":
    page = build()
    if zero_gpu.ENABLED:
        load_on_zero_gpu()
    server, _, _ = page.launch(prevent_thread_lock=True, **launch_options())
    add_routes(server)
    loading()  # imports torch, which would delay the first page if it came earlier
    page.block_thread()
