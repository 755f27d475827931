"""Tab "Reconstruct": what the autoencoder makes of any text, and how much disturbance the code survives."""

import json
from typing import Any

import gradio as gr

import calm

from . import render
from .components import ASSETS, ReconstructionView
from .controls import PRIVATE, whole
from .models import Facts, resident

MAX_TEXT = 4000  # characters
SAMPLE = 'Mia lost her lantern in 1987 - "Où est-elle?" she asked. print(f"{x:.3f}") 🙂'


def example() -> dict[str, Any]:
    """What the tab shows before the first click, made by ``python -m app.build``: ``view`` and ``summary``."""
    return json.loads((ASSETS / "reconstruction.json").read_text(encoding="utf-8"))


def check_text(text: str | None) -> str:
    text = text or ""
    if len(text) > MAX_TEXT:
        raise calm.CalmError(f"The text has {len(text):,} characters; the page takes up to {MAX_TEXT:,}.")
    return text


def build(model: Facts) -> None:
    gr.HTML(
        f'<p class="calm-intro">The <em>autoencoder</em> squeezes each chunk of {model.chunk_size} tokens into one '
        f"vector of {model.latent_size} numbers and restores it. Its posterior is a cloud, not a point, so that a "
        "slightly wrong vector still decodes to the right chunk: disturb it and see.</p>"
    )
    with gr.Row():
        text = gr.Textbox(SAMPLE, label="Text", info="Any language, any signs.", lines=4, max_lines=14, scale=5,
                          elem_id="reconstruct-text")  # fmt: skip
        with gr.Column(scale=4):
            noise = gr.Slider(
                0, 3, value=0, step=0.01, label="Noise",
                info="Standard deviation added to each mean, in latent units; 0 to begin with.", elem_id="noise",
            )  # fmt: skip
            seed = gr.Number(0, label="Seed of the noise", precision=0)
            go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
    status = gr.HTML(example()["summary"], elem_id="reconstruct-status")
    view = ReconstructionView(value=example()["view"], elem_id="reconstruction")

    def run(text, noise, seed):
        lm = resident().lm
        try:
            found = calm.reconstruct(lm, check_text(text), noise, whole(seed, "Seed"))
        except calm.CalmError as error:
            return gr.skip(), render.error(error)
        return render.reconstruction(lm, found), render.reconstruction_summary(found, noise)

    gr.on(
        [go.click, noise.change, seed.submit],
        run,
        [text, noise, seed],
        [view, status],
        trigger_mode="always_last",
        concurrency_limit=4,
        **PRIVATE,
    )
