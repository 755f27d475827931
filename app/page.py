"""The page: header and three tabs over one resident model."""

import os
from typing import Any

import gradio as gr

from . import api, generate_tab, reconstruct_tab, render, vectors_tab
from .components import ASSETS, VectorMapPlot, serve_files
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
    with gr.Blocks(title="CALM Playground", analytics_enabled=False) as page:
        header = gr.HTML(render.header(model), elem_id="header")
        plot = VectorMapPlot(MAP, generate_tab.example(), elem_id="map", render=False)
        with gr.Tabs():
            with gr.Tab("Generate", id="generate"):
                generate_tab.build(plot)
            with gr.Tab("Reconstruct", id="reconstruct"):
                reconstruct_tab.build(model)
            with gr.Tab("Vector space", id="vectors"):
                vectors_tab.build(plot)
        api.endpoints()
        page.load(
            lambda: render.header(model, resident().lm), None, header, show_progress="hidden", api_visibility="private"
        )
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
