"""Tab "Vector space": the paths of the predicted vectors over the map of training chunks."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

import calm
from calm.vector_map import METRICS, FitSettings, stream_fit

from .. import limits
from ..components import FitResult, VectorMapPlot
from ..controls import in_browser, parse_int, parse_seed, seed_box, start_and_stop, status_line
from ..payloads.latent import fitted_map
from ..payloads.types import OwnRun
from ..registry import loaded
from ..streaming import Panel, Progress, wire


def _own_vectors(own: Any) -> np.ndarray:
    """All vectors [n, L] of a visitor's runs. Raises CalmError where there are none."""
    try:
        vectors = [vector for run in own for vector in run["vectors"]][: limits.MAX_FIT_VECTORS]
        return np.array(vectors, np.float32).reshape(len(vectors), -1)
    except (KeyError, TypeError, ValueError) as error:
        raise calm.CalmError("There are no vectors to fit: generate a text first.") from error


def _fit(
    name: str, own: Sequence[OwnRun], neighbours: Any, min_dist: Any, metric: Any, dimensions: Any, seed: Any
) -> Iterator[Progress]:
    """UMAP of the vectors of a visitor's runs together with training chunks."""
    yield Progress("UMAP is being loaded …")
    vectors = _own_vectors(own)
    settings = FitSettings(
        parse_int(neighbours, "Neighbours"), min_dist, metric, parse_int(dimensions, "Dimensions"), parse_seed(seed)
    )
    base = loaded(name).require_map()
    coordinates: np.ndarray | int = 0
    for coordinates in stream_fit(np.concatenate([base.vectors[: limits.FIT_CHUNKS], vectors]), settings):
        if isinstance(coordinates, int):
            yield Progress(f"Fitting … {coordinates} % of the epochs")
    assert not isinstance(coordinates, int)  # the last item holds the coordinates
    result = fitted_map(coordinates, base, limits.FIT_CHUNKS, own, settings.dimensions)
    status = f"{len(vectors)} vectors of {len(own)} runs and {limits.FIT_CHUNKS} training chunks; shown as “own fit”"
    yield Progress(status, (result,))


def build(plot: VectorMapPlot, model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">Each grey point is one of the most frequent chunks of the training stories. UMAP places '
        "chunks with similar vectors close together. The line is the last run of the Generate tab: the vectors that "
        "the model predicted, in order; the chunks of the prompt are dotted. The encoded path shows the vectors that "
        "the autoencoder gives to the same chunks. The prediction error of a step is the distance between the two.</p>"
    )
    plot.render()
    with gr.Accordion("Fit a map of your own runs", open=False, elem_id="fit-part"):
        with gr.Row():
            neighbours = gr.Slider(
                2, 100, value=15, step=1, label="Neighbours", info="Few: local detail. Many: global structure."
            )
            min_dist = gr.Slider(0, 1, value=0.15, step=0.01, label="Minimum distance", info="Between points, 0 to 1.")
            metric = gr.Dropdown(list(METRICS), value="euclidean", label="Metric")
            dimensions = gr.Radio([2, 3], value=2, label="Dimensions")
            seed = seed_box()
        with gr.Row():
            go, stop = start_and_stop("Fit UMAP", "fit", scale=0, min_width=200)
        hint = f"Fits UMAP to the vectors of this visit's runs and {limits.FIT_CHUNKS} training chunks."
        status = gr.HTML(status_line(hint), elem_id="fit-status")
    result = FitResult(elem_id="fit-result")
    own = gr.JSON(visible=False)
    inputs = [model, own, neighbours, min_dist, metric, dimensions, seed]
    collect = in_browser("[name, calm.ownRuns(name), ...rest]", "name, _, ...rest")
    wire(Panel([result], status, go, stop), [([go.click], _fit, inputs)], js=collect)
