"""The page: theme, header, menu of models and tabs."""

import html
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from calm.hub.memory import gigabytes

from . import endpoints, tools
from .backends import LoadedModel
from .components import VectorMapPlot
from .controls import CHECKED, PRIVATE, error_line, in_browser, status_line, sync_with_url
from .errors import Page, error_sentence, exception_handlers
from .files import ASSETS, MODULES, file_url, serve_files
from .fresh_samples import draw_cloud
from .headers import SecurityHeaders
from .health import machine_checks, routes
from .limits import MAX_CONCURRENT_RUNS, MAX_QUEUE, MAX_UPLOAD_MB, UPLOAD_SECONDS
from .logs import use_json
from .map_queries import find_nearest, place_chunks
from .official import AUTOENCODER_PARAMETERS, OFFICIAL_MODELS, TRAINING_DATA
from .payloads.config import TABS, config
from .registry import (
    DEFAULT,
    ModelFacts,
    check_name,
    described,
    facts,
    is_cancellable,
    loaded_names,
    loading_status,
    offered,
    official_memory,
)
from .tabs import compare, evaluate, generate, learn, race, reconstruct, vectors

HEADER = """<header class="calm-header">
<h1>CALM Playground</h1>
<p>A Continuous Autoregressive Language Model predicts one <em>vector</em> per step instead of one token.
<span>Each vector stands for a chunk of K tokens, so a text takes K times fewer steps.</span></p>
</header>"""


def theme() -> gr.themes.Base:
    """System fonts, so that the page fetches nothing from elsewhere."""
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
        block_padding="0.4rem 0",
        layout_gap="0.75rem",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        input_background_fill="*neutral_100",
        # Gradio's own greys and its blue have too little contrast for small text (WCAG AA).
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        color_accent="*primary_600",
    )


def head() -> str:
    """HTML for the head of the page: the shared configuration, the styles of what lies around Gradio's content, and a
    hint to fetch all JavaScript modules at once."""
    data = json.dumps(config()).replace("<", "\\u003c")
    preloads = "".join(f'<link rel="modulepreload" href="{file_url(path)}">' for path in MODULES)
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    return f'<script type="application/json" id="calm-config">{data}</script><style>{style}</style>{preloads}'


def tokens_per_step(model: ModelFacts) -> str:
    """The number of tokens per step of a model, as text."""
    if not model.latent_size:
        return "one token"
    return f"{model.chunk_size} token{'s' * (model.chunk_size > 1)} per vector"


def _official_rows(name: str) -> dict[str, str]:
    """What the authors say about a model of theirs, and the memory that it needs. Raises CalmError if it cannot fit."""
    if (official := OFFICIAL_MODELS.get(name)) is None:
        return {}
    rows = {"parameters": official.size, "trained on": TRAINING_DATA, "licence": official.licence}
    if official.brier_lm is None:
        rows["use"] = "it reconstructs texts and generates none"
    else:
        rows["parameters"] += f", and {AUTOENCODER_PARAMETERS / 1e6:.0f} M of the autoencoder"
        rows["published BrierLM"] = f"{official.brier_lm:g}"
    if (needed := official_memory(name)) is not None:
        rows["memory to load it"] = f"{gigabytes(needed)}, which fits here"
    return rows


def facts_list(
    known: ModelFacts | None,
    model: LoadedModel | None,
    ready: Sequence[str],
    status: str = "loading …",
    published: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """HTML with the facts of the chosen model and the names of all loaded models. Once the model is loaded, the facts
    include device, precision and the short report of ``calm doctor``; before, its ``status``. ``published`` facts
    replace those of the same name."""
    rows = {}
    if known:
        rows["parameters"] = f"{known.parameters / 1e6:.1f} M"
        if known.latent_size:
            rows["latent dimensions"] = str(known.latent_size)
        rows["step"] = tokens_per_step(known)
    rows |= published
    rows["device"] = model.device if model else status
    rows["precision"] = str(model.lm.dtype).removeprefix("torch.") if model else "loading …"
    if model:
        on_gpu = model.lm.device.type != "cpu"
        rows |= {check.name: check.message for check in machine_checks() if on_gpu or check.name != "GPU"}
    rows["loaded models"] = ", ".join(ready) or "none yet"
    items = "".join(f"<div><dt>{name}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in rows.items())
    name = html.escape(known.name if known else "")
    is_calm = "" if known is None else f' data-calm="{str(known.latent_size > 0).lower()}"'
    return f'<div role="status" data-model="{name}"{is_calm}><dl class="calm-facts">{items}</dl></div>'


def choose_model(name: str) -> Iterator[tuple[str, bool]]:
    """The facts of a model, before and after it is loaded, and whether the visitor can cancel its download."""
    try:
        check_name(name)
        published = _official_rows(name)
        for status in loading_status(name):
            yield facts_list(facts(name), None, loaded_names(), status, published), is_cancellable(name)
        model = described(name)
        yield facts_list(facts(name), model, loaded_names(), published=published), False
    except Exception as error:
        yield error_line(error_sentence(error)), False


def _choose(name: str) -> Iterator[tuple[str, Any]]:
    for shown, can_cancel in choose_model(name):
        yield shown, gr.update(visible=can_cancel)


def _cancel_download(name: str) -> tuple[str, Any]:
    """The message after a visitor has cancelled a download. Visitors share it, so it ends when none of them waits."""
    note = f"You no longer wait for {html.escape(str(name))}. Its download ends unless another visitor waits for it."
    return status_line(note), gr.update(visible=False)


def _menu() -> list[tuple[str, str]]:
    """The entries of the menu: the size of an official model, and the tokens per step of each model whose facts are
    known."""
    known = [(name, facts(name)) for name in offered()]
    sizes = {name: f" · {official.size} · from the Hub" for name, official in OFFICIAL_MODELS.items()}
    return [
        (f"{name} · {tokens_per_step(model)}{sizes.get(name, '')}" if model else name, name) for name, model in known
    ]


def build() -> gr.Blocks:
    """The Gradio app. The models need not be loaded yet."""
    serve_files()
    with Page(title="CALM Playground", analytics_enabled=False, delete_cache=(60, UPLOAD_SECONDS)) as page:
        with gr.Row(elem_id="model-row"):
            with gr.Column(scale=5, min_width=300):
                gr.HTML(HEADER, elem_id="header")
            with gr.Column(scale=2, min_width=240):
                model = gr.Dropdown(_menu(), value=DEFAULT, label="Model", elem_id="model", allow_custom_value=True)
        tabs = _build_tabs(model)
        status = gr.HTML(facts_list(facts(DEFAULT), None, loaded_names()), elem_id="model-facts")
        cancel = gr.Button("Cancel the download", visible=False, size="sm", elem_id="cancel-download")
        learn.build_panel(tabs, model)
        endpoints.build()
        sync_with_url({"model": model})
        # A download from the Hub may take minutes; the pages of other visitors open meanwhile.
        options: dict[str, Any] = {"trigger_mode": "always_last", "concurrency_limit": MAX_CONCURRENT_RUNS, **CHECKED}
        choosing = gr.on([page.load, model.change], _choose, model, [status, cancel], **options)
        cancel.click(_cancel_download, model, [status, cancel], cancels=[choosing], queue=False, **PRIVATE)
        page.load(None, None, tabs, js=in_browser('({ __type__: "update", selected: calm.requestedTab() })', ""))
    # Direct calls would skip the queue, and with it the limits on how much runs at once.
    return page.queue(max_size=MAX_QUEUE, api_open=False)


def _build_tabs(model: gr.Dropdown) -> gr.Tabs:
    """All tabs. The plot of the map belongs to two of them: a run is generated in one and shown in the other."""
    functions = [draw_cloud, place_chunks, find_nearest]
    plot = VectorMapPlot(generate.example(), elem_id="map", render=False, server_functions=functions)
    builders: dict[str, Callable[[], None]] = {
        "generate": lambda: compare.build(model, *generate.build(plot, model)),
        "reconstruct": lambda: reconstruct.build(model),
        "vectors": lambda: vectors.build(plot, model),
        "race": lambda: race.build(model),
        "evaluate": evaluate.build,
        "learn": learn.build,
    }
    with gr.Tabs(overflow_behavior="wrap") as tabs:
        for name, title in TABS.items():
            with gr.Tab(title, id=name, elem_id=f"tab-{name}") as tab:
                builders[name]()
            tab.select(None, js=in_browser(f"calm.saveTab({name!r})", ""))
    return tabs


SESSIONS = 100
"""Sessions that Gradio keeps in memory, each with a copy of the page's configuration. The page stores nothing in them,
so a session that leaves the memory loses nothing."""


def launch_options() -> dict[str, Any]:
    """Arguments of ``launch``. Port and host come from GRADIO_SERVER_PORT and GRADIO_SERVER_NAME."""
    tools.use()
    return {
        "theme": theme(),
        "head": head(),
        "css_paths": sorted((ASSETS / "css").glob("*.css")),
        "footer_links": ["api", "settings"],
        "show_error": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "app_kwargs": {
            "routes": routes(),
            "middleware": [Middleware(SecurityHeaders)],
            "exception_handlers": exception_handlers(),
            # FastAPI's spans are those of HTTP requests. Gradio runs an event after the one that starts it.
            "telemetry": {"tracing": False},
        },
        "quiet": use_json(),
        "mcp_server": True,
        "state_session_capacity": SESSIONS,
        "max_file_size": f"{MAX_UPLOAD_MB}mb",
        "server_name": os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
    }
