"""The page: header and tabs over one resident model."""

import os
from collections.abc import Callable
from typing import Any

import gradio as gr

from . import api, evaluate_tab, generate_tab, race_tab, reconstruct_tab, render, vectors_tab
from .components import ASSETS, VectorMapPlot, serve_files
from .controls import PRIVATE, script
from .models import MAP, facts, resident


def theme() -> gr.themes.Base:
    """System fonts, so that nothing is fetched from elsewhere."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=sans, font_mono=mono, radius_size="sm").set(
        body_background_fill="white",
        body_background_fill_dark="*neutral_950",
        block_border_width="0px",
        block_shadow="none",
        block_background_fill="*body_background_fill",
        block_background_fill_dark="*body_background_fill",
        block_label_background_fill="transparent",
        block_padding="0.4rem",
        layout_gap="0.75rem",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        input_background_fill="*neutral_100",
    )


def build() -> gr.Blocks:
    """The Gradio app on the bundled model, which need not be loaded yet."""
    serve_files()
    model = facts()
    parts: dict[str, tuple[str, Callable[[], None]]] = {
        "generate": ("Generate", lambda: generate_tab.build(plot)),
        "reconstruct": ("Reconstruct", lambda: reconstruct_tab.build(model)),
        "vectors": ("Vector space", lambda: vectors_tab.build(plot)),
        "race": ("Race", race_tab.build),
        "evaluate": ("Evaluate", evaluate_tab.build),
    }
    with gr.Blocks(title="CALM Playground", analytics_enabled=False) as page:
        header = gr.HTML(render.header(model), elem_id="header")
        plot = VectorMapPlot(
            MAP, generate_tab.example(), elem_id="map", render=False, server_functions=[vectors_tab.open_cloud]
        )
        with gr.Tabs() as tabs:
            for name, (title, draw) in parts.items():
                with gr.Tab(title, id=name) as tab:
                    draw()
                tab.select(None, js=script(f"CALM.saveTab({name!r})", ""))
        api.endpoints()
        page.load(lambda: render.header(model, resident().lm), None, header, **PRIVATE)
        page.load(None, None, tabs, js=script('({ __type__: "update", selected: CALM.savedTab() })'))
    return page.queue(max_size=64)


def launch_options() -> dict[str, Any]:
    """Port and host come from GRADIO_SERVER_PORT and GRADIO_SERVER_NAME, which Gradio and Spaces set and read."""
    return {
        "theme": theme(),
        "css_paths": [ASSETS / "calm.css"],
        "footer_links": ["api", "settings"],
        "show_error": False,
        "ssr_mode": False,
        "server_name": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
    }
