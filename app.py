"""Starts the playground: ``python app.py``. Also the entry point on Hugging Face Spaces."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from app.page import build, launch_options

if __name__ == "__main__":
    build().launch(**launch_options())
