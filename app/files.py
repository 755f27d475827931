"""The files that the page serves or reads, and their addresses."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import plotly

from calm.vector_map import stored_maps

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
MODULES = sorted((ASSETS / "js").glob("*.js"))


def file_url(path: Path) -> str:
    """The address under which Gradio serves a static file, relative to the page, which may lie below a sub-path."""
    return f"gradio_api/file={quote(path.as_posix())}"


IMPORT = f"import(new URL({file_url(ASSETS / 'js' / 'calm.js')!r}, document.baseURI))"
"""JavaScript: a promise of the module that exports the functions that Python calls."""


def serve_files() -> None:
    """Lets the page fetch the assets, the stored maps, and Plotly's script, which is part of its Python package."""
    gr.set_static_paths([str(ASSETS), str(stored_maps()), str(PLOTLY)])


def asset(name: str) -> Any:
    """The content of a JSON file of the assets; ``python -m app.build`` writes most of them."""
    return json.loads((ASSETS / f"{name}.json").read_text(encoding="utf-8"))
