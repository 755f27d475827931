"""Tab "Vector space": the paths of the predicted vectors over the map of training chunks."""

from typing import Any

import gradio as gr
import numpy as np

import calm
from calm.vector_map import METRICS, FitSettings, stream_fit

from .. import render
from ..components import FitResult, VectorMapPlot
from ..controls import busy, idle, runs, whole
from ..registry import resident
from .generate import draw_at

CHUNKS = 800  # training chunks that are fitted with a visitor's own vectors, so that these have surroundings
MAX_VECTORS = 4000  # of a fit


def open_cloud(place: dict[str, Any]) -> dict[str, Any]:
    """200 fresh vectors at a step of a run (``draw_at``), placed on the map.

    What is wrong with the place, as one sentence, is the answer's ``error``.
    """
    try:
        vectors, ids = draw_at(place, calm.draw_vectors)
        return render.cloud(resident(place["model"]), vectors, ids)
    except calm.CalmError as error:
        return {"error": str(error)}


def build(plot: VectorMapPlot, model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">Each grey point is one of the commonest chunks of the training stories, placed by UMAP '
        "so that chunks with near vectors lie near each other. The line is the last run of the Generate tab: the "
        "vectors that the model predicted, in order; the prompt's own chunks are dotted. What the autoencoder would "
        "have said for the same chunks lies nearby: the two differ by the distance that is told at each step.</p>"
    )
    plot.render()
    with gr.Accordion("Fit a map of your own runs", open=False, elem_id="fit-part"):
        with gr.Row():
            neighbours = gr.Slider(2, 100, value=15, step=1, label="Neighbours", info="Few: detail. Many: the whole.")
            min_dist = gr.Slider(0, 1, value=0.15, step=0.01, label="Minimum distance", info="Between points, 0 to 1.")
            metric = gr.Dropdown(list(METRICS), value="euclidean", label="Metric")
            dimensions = gr.Radio([2, 3], value=2, label="Dimensions")
            seed = gr.Number(0, label="Seed", precision=0)
        with gr.Row():
            go = gr.Button("Fit UMAP", elem_id="fit", scale=0, min_width=200)
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="fit-stop", scale=0, min_width=200)
        status = gr.HTML(
            render.note(f"Fits the vectors of the chosen model's runs in this visit with {CHUNKS} training chunks."),
            elem_id="fit-status",
        )
    result = FitResult(elem_id="fit-result")
    own = gr.JSON(visible=False)

    def fit(name, own, neighbours, min_dist, metric, dimensions, seed):
        yield gr.skip(), render.note("UMAP is being loaded …"), *busy()
        try:
            vectors = [vector for run in own for vector in run["vectors"]][:MAX_VECTORS]
            settings = FitSettings(int(neighbours), min_dist, metric, int(dimensions), whole(seed, "Seed"))
            base = resident(name).mapped()
            together = np.concatenate([base.vectors[:CHUNKS], np.array(vectors, np.float32).reshape(len(vectors), -1)])
            for found in stream_fit(together, settings):
                if isinstance(found, int):
                    yield gr.skip(), render.note(f"Fitting … {found} % of the epochs"), gr.skip(), gr.skip()
        except calm.CalmError as error:
            yield gr.skip(), render.error(error), *idle()
            return
        except (KeyError, TypeError, ValueError):
            told = "There is no run whose vectors could be fitted: generate a text first."
            yield gr.skip(), render.error(told), *idle()
            return
        assert not isinstance(found, int)  # the last that a fit tells is where the points lie
        told = f"{len(vectors)} vectors of {len(own)} runs and {CHUNKS} training chunks; shown above as “own fit”"
        yield render.fitted(found, base, CHUNKS, own, settings.dimensions), render.note(told), *idle()

    inputs = [model, own, neighbours, min_dist, metric, dimensions, seed]
    collect = "(name, _, ...rest) => [name, CALM.ownVectors(name), ...rest]"
    runs([([go.click], fit, inputs)], [result, status, go, stop], go, stop, status, js=collect)
