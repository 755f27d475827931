"""Tab "Reconstruct": what the autoencoder makes of any text, and how much disturbance the code survives."""

from functools import cache
from typing import Any

import gradio as gr
import numpy as np

import calm

from .. import render
from ..components import CurveView, ReconstructionView, asset
from ..controls import PRIVATE, busy, idle, remembered, runs, whole
from ..registry import DEFAULT, computed, resident

MAX_TEXT = 4000  # characters
NOISES = [round(0.1 * i, 1) for i in range(31)]  # of the robustness curve
REACH, PLACES = 4.0, 41  # of a walk along a principal direction: standard deviations to either side, places on it
DIRECTIONS, NEIGHBOURS = 8, 5  # principal directions offered, training chunks named
SAMPLE = 'Mia lost her lantern in 1987 - "Où est-elle?" she asked. print(f"{x:.3f}") 🙂'


def example() -> dict[str, Any]:
    """What the tab shows before the first click, made by ``python -m app.build``: ``view`` and ``summary``."""
    return asset("reconstruction")


@cache
def reference() -> dict[str, list[tuple[float, float]]]:
    """The curves of held-out stories by model, made by ``python -m app.build``."""
    return asset("robustness")


def check_text(text: str | None) -> str:
    text = text or ""
    if len(text) > MAX_TEXT:
        raise calm.CalmError(f"The text has {len(text):,} characters; the page takes up to {MAX_TEXT:,}.")
    return text


def explore(place: dict[str, Any]) -> dict[str, Any]:
    """A walk through latent space, decoded at each place, with the nearest training chunks there.

    ``place`` comes from the page: ``model``, ``mean`` of a chunk and either ``direction``, the number of a principal
    direction, or ``other``, the mean of the chunk to go to. What is wrong, as one sentence, is the answer's ``error``.
    """
    try:
        model = resident(place["model"])
        mean = np.array(place["mean"], np.float32)
        if place.get("other") is not None:
            at, way = np.linspace(0, 1, PLACES, dtype=np.float32), np.array(place["other"], np.float32) - mean
        else:
            directions, widths = model.mapped().principal
            at, number = np.linspace(-REACH, REACH, PLACES, dtype=np.float32), int(place["direction"])
            way = directions[number] * widths[number]
        vectors = mean + at[:, None] * way
        return render.walk(model, at, vectors, calm.decode(model.lm, vectors), NEIGHBOURS)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return {"error": str(error) if isinstance(error, calm.CalmError) else "This is no place in latent space."}


def build(model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">The <em>autoencoder</em> squeezes each chunk of K tokens into one vector of a few dozen '
        "numbers and restores it. Its posterior is a cloud, not a point, so that a "
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
    view = ReconstructionView(value=example()["view"], elem_id="reconstruction", server_functions=[explore])
    gr.HTML(
        '<h2 class="calm-heading">How much noise the code survives</h2><p class="calm-intro">The share of tokens that '
        "come back when Gaussian noise of a standard deviation is added to each mean: for the text above, beside "
        "stories that were never trained on.</p>"
    )
    with gr.Row():
        measure = gr.Button("Measure this text", elem_id="curve", scale=0, min_width=200)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="curve-stop", scale=0, min_width=200)
    told = gr.HTML(render.note("The dotted line is the reference."), elem_id="curve-status")
    curve = CurveView(value={"reference": reference().get(DEFAULT, []), "text": []}, elem_id="curve-view")

    def run(name, text, noise, seed):
        try:
            model = resident(name)
            found = calm.reconstruct(model.lm, check_text(text), noise, whole(seed, "Seed"))
        except calm.CalmError as error:
            return gr.skip(), render.error(error)
        return render.reconstruction(model, found), render.reconstruction_summary(found, noise)

    def trace(name, text, seed):
        points: list[tuple[float, float]] = []
        yield gr.skip(), render.note("Measuring …"), *busy()
        try:
            lm, number = resident(name).lm, whole(seed, "Seed")
            for point in computed(calm.robustness(lm, check_text(text), NOISES, seed=number)):
                points.append(point)
                doing = render.note(f"Measuring … {len(points)} of {len(NOISES)} strengths of noise")
                yield {"reference": reference().get(name, []), "text": list(points)}, doing, gr.skip(), gr.skip()
        except calm.CalmError as error:
            yield gr.skip(), render.error(error), *idle()
            return
        half = next((n for n, share in points if share < 0.5), None)
        where = f"half of its tokens are lost at {half:.1f}" if half else "more than half of its tokens survive it all"
        yield gr.skip(), render.note(f"{len(points)} strengths of noise, 4 draws each: {where}"), *idle()

    runs([([measure.click], trace, [model, text, seed])], [curve, told, measure, stop], measure, stop, told)
    remembered({"text": text, "noise": noise})
    gr.on(
        [go.click, noise.change, seed.submit],
        run,
        [model, text, noise, seed],
        [view, status],
        trigger_mode="always_last",
        concurrency_limit=4,
        **PRIVATE,
    )
