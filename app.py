"""Starts the playground: ``python app.py``. Also the entry point on Hugging Face Spaces."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from app.page import build, launch_options
from app.registry import loading

if __name__ == "__main__":
    page = build()
    page.launch(prevent_thread_lock=True, **launch_options())
    loading()  # imports torch, which would delay the first page if it came earlier
    page.block_thread()
