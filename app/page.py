"""The page: header, menu of models and tabs."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

import calm

from . import endpoints as api
from . import render
from .components import ASSETS, VectorMapPlot, serve_files
from .controls import PRIVATE, remembered, script
from .registry import DEFAULT, VISITORS, facts, is_resident, maps, offered, resident
from .tabs import evaluate as evaluate_tab
from .tabs import generate as generate_tab
from .tabs import learn as learn_tab
from .tabs import race as race_tab
from .tabs import reconstruct as reconstruct_tab
from .tabs import vectors as vectors_tab


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
        # Gradio's own greys and its blue are too light for small text (WCAG AA).
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        color_accent="*primary_600",
    )


def _menu() -> list[tuple[str, str]]:
    """The models with what a step of each writes, as far as that is known before they are loaded."""
    known = [(name, facts(name)) for name in offered()]
    return [(f"{name} · {render.step_of(found)}" if found else name, name) for name, found in known]


def _ready() -> list[str]:
    return [name for name in offered() if is_resident(name)]


def choose(name: str) -> Iterator[str]:
    """What the page says of a model while it is loaded, and then."""
    try:
        yield render.model_facts(facts(name), None, _ready())
        lm = resident(name).lm
        yield render.model_facts(facts(name), lm, _ready())
    except calm.CalmError as error:
        yield render.error(error)


def build() -> gr.Blocks:
    """The Gradio app on the bundled models, which need not be loaded yet."""
    serve_files()
    parts: dict[str, tuple[str, Callable[[], None]]] = {
        "generate": ("Generate", lambda: generate_tab.build(plot, model)),
        "reconstruct": ("Reconstruct", lambda: reconstruct_tab.build(model)),
        "vectors": ("Vector space", lambda: vectors_tab.build(plot, model)),
        "race": ("Race", lambda: race_tab.build(model)),
        "evaluate": ("Evaluate", evaluate_tab.build),
        "learn": ("Learn", learn_tab.build),
    }
    with gr.Blocks(title="CALM Playground", analytics_enabled=False) as page:
        gr.HTML(render.HEADER, elem_id="header")
        with gr.Row(elem_id="model-row"):
            with gr.Column(scale=0, min_width=300):
                model = gr.Dropdown(_menu(), value=DEFAULT, label="Model", elem_id="model", allow_custom_value=True)
            with gr.Column(min_width=480):
                told = gr.HTML(render.model_facts(facts(DEFAULT), None, _ready()), elem_id="model-facts")
        plot = VectorMapPlot(
            maps(), generate_tab.example(), elem_id="map", render=False, server_functions=[vectors_tab.open_cloud]
        )
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            for name, (title, draw) in parts.items():
                with gr.Tab(title, id=name, elem_id=f"tab-{name}") as tab:
                    draw()
                tab.select(None, js=script(f"CALM.saveTab({name!r})", ""))
        learn_tab.panel(tabs)
        api.endpoints()
        remembered({"model": model})
        # One visitor's model may take minutes to come from the Hub; the others' pages open meanwhile.
        how: dict[str, Any] = {"trigger_mode": "always_last", "concurrency_limit": VISITORS, **PRIVATE}
        gr.on([page.load, model.change], choose, model, told, **how)
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
        "mcp_server": True,
        "server_name": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
    }
