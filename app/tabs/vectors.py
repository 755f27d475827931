"""Tab "Vector space": the paths of the predicted vectors over the map of training chunks."""

import html
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

import calm
from calm.vector_map import METRICS, FitSettings, map_path, read, stream_fit

from .. import limits
from ..backends import LoadedModel
from ..components import FitResult, MapResult, VectorMapPlot
from ..controls import CHECKED, PRIVATE, in_browser, seed_box, start_and_stop, status_line
from ..files import ASSETS
from ..leases import anew
from ..map_requests import ChoiceArguments, FitArguments, MapArguments, SourceArguments
from ..model_maps import has_weights, map_file
from ..payloads.latent import RunVectors, fitted_map, model_map
from ..payloads.runs import prompt_chunk_ids
from ..payloads.types import OwnRun
from ..registry import allows_other_models, loaded
from ..stored_maps import MapFit, map_fit, new_map_fit
from ..streaming import Panel, Progress, streamed, wire
from ..validation import validated

MAP_STATUS_SECONDS = 1.0
"""Time between two messages about the fit of a model's map."""
READY = "the map is ready"


def _own_vectors(model: LoadedModel, own: Sequence[OwnRun]) -> list[RunVectors]:
    """The vectors of a visitor's runs, the latest runs first, as many runs as the limit allows.

    Raises CalmError if there are none, or if the latest run alone is beyond the limit.
    """
    found: list[RunVectors] = []
    room = limits.MAX_FIT_VECTORS
    try:
        for run in reversed(own):
            predicted = np.array(run["vectors"], np.float32).reshape(len(run["chunks"]), -1)
            prompt = prompt_chunk_ids(model.lm, run["prompt"])
            count = 2 * len(predicted) + len(prompt)
            if count > room and not found:
                raise calm.CalmError(
                    f"The latest run has {count:,} vectors, and a map is fitted to at most {room:,}: generate a "
                    "shorter text."
                )
            if count > room:
                break
            room -= count
            found.append(_run_vectors(model, run, predicted, prompt))
    except calm.CalmError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise calm.CalmError("There are no vectors to fit: generate a text first.") from error
    if not found:
        raise calm.CalmError("There are no vectors to fit: generate a text first.")
    return found


def _run_vectors(model: LoadedModel, run: OwnRun, predicted: np.ndarray, prompt: Sequence[Sequence[int]]) -> RunVectors:
    """The predicted vectors [steps, L] of a run, and the encoded ones of its steps and of its prompt's chunks.

    Raises ValueError for vectors of another size, or with infinite numbers.
    """
    steps = len(predicted)
    encoded = model.encode([*run["chunks"], *prompt]).mean
    if predicted.shape[1] != encoded.shape[1] or not np.isfinite(predicted).all():
        raise ValueError("The vectors have the wrong size.")
    return RunVectors(str(run["run_id"]), predicted, encoded[:steps], encoded[steps:])


@validated(FitArguments)
def _fit(arguments: FitArguments) -> Iterator[Progress]:
    """UMAP of the vectors of a visitor's runs together with training chunks."""
    yield Progress("UMAP is being loaded …")
    model = loaded(arguments.model)
    base = model.require_map()
    runs = _own_vectors(model, arguments.own)
    settings = FitSettings(
        arguments.neighbours, arguments.min_dist, arguments.metric, arguments.dimensions, arguments.seed
    )
    coordinates: np.ndarray | int = 0
    chunks = base.vectors[: limits.FIT_CHUNKS]
    vectors = np.concatenate([chunks, *(run.stacked() for run in runs)])
    until = time.monotonic() + limits.MAX_FIT_SECONDS
    for coordinates in stream_fit(vectors, settings):
        if isinstance(coordinates, int):
            if time.monotonic() > until:
                raise calm.CalmError(
                    f"The fit took longer than {limits.MAX_FIT_SECONDS} seconds: choose fewer neighbours."
                )
            yield Progress(f"Fitting … {coordinates} % of the epochs")
    assert not isinstance(coordinates, int)  # the last item holds the coordinates
    result = fitted_map(coordinates, base, len(chunks), runs, settings.dimensions)
    own_count, plural = len(vectors) - len(chunks), "s" * (len(runs) != 1)
    counts = f"{own_count} vectors of {len(runs)} run{plural} and {len(chunks)} training chunks"
    status = f"{html.escape(arguments.model)}: {counts}; shown as “own fit”"
    yield Progress(status, (result,))


@validated(MapArguments, "request")
def _make_map(arguments: MapArguments) -> Iterator[Progress]:
    """The map of a model, which is made if there is none."""
    name, own = arguments.request.model, arguments.request.own
    yield Progress("The map is being read …")
    model = loaded(name)
    if not (model.lm.is_calm and has_weights(name, model.lm)):
        model.require_map()  # raises CalmError if there is none
    runs = _own_vectors(model, own) if own else []
    fit = map_fit(model) if model.map is None or not map_file(name, model.lm) else None
    if fit is not None:
        yield from _fitting(model, fit, runs)
    path = map_file(name, model.lm)
    assert path
    yield _shown(model, path, runs, READY)


@validated(SourceArguments, "model", "own", "source")
def _make_map_of_texts(arguments: SourceArguments) -> Iterator[Progress]:
    """A map of a model from the texts that the visitor names. It replaces the earlier one."""
    yield Progress("The model is being loaded …")
    model = loaded(arguments.model)
    if map_path(arguments.model, ASSETS).is_file():
        raise calm.CalmError(f"The map of {arguments.model} is part of the page: choose a model that is not bundled.")
    if not (model.lm.is_calm and has_weights(arguments.model, model.lm)):
        raise calm.CalmError(f"No map of {arguments.model} can be made here: choose a CALM whose weights are here.")
    runs = _own_vectors(model, arguments.own) if arguments.own else []
    fit = new_map_fit(model, arguments.source)
    yield from _fitting(model, fit, runs)
    assert fit.path
    yield _shown(model, fit.path, runs, READY)


def _fitting(model: LoadedModel, fit: MapFit, runs: Sequence[RunVectors]) -> Iterator[Progress]:
    """The progress of a fit, with a first map of principal components. The fit goes on in the background if the visitor
    leaves. Raises CalmError for one that fails."""
    while fit.running:
        yield _shown(model, fit.path, runs, fit.status) if fit.path else Progress(fit.status)
        fit.wait(MAP_STATUS_SECONDS)
    if fit.error is not None:
        raise anew(fit.error)


def _shown(model: LoadedModel, path: Path, runs: Sequence[RunVectors], status: str) -> Progress:
    return Progress(f"{html.escape(model.name)}: {status}", (model_map(model.name, read(path), path, runs),))


@validated(ChoiceArguments)
def _chosen_model(arguments: ChoiceArguments) -> str:
    return arguments.choice.model


def build(plot: VectorMapPlot, model: gr.Dropdown) -> None:
    progress = gr.HTML(elem_id="map-progress")  # above the map that it is about
    plot.render()
    made = MapResult(elem_id="map-result")
    plot.choose_model(_chosen_model, None, model, queue=False, **PRIVATE)
    options: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": limits.MAX_CONCURRENT_RUNS, **CHECKED}
    plot.make_map(streamed(Panel([made], progress), _make_map), None, [made, progress], **options)
    gr.HTML(
        '<p class="calm-intro">UMAP places chunks with similar vectors close together. Contours show where the chunks '
        "of the training stories are dense, and words that are typical of a region label it. Arrows lead along the "
        "last predicted vectors of the shown run. Circles are the candidates of the current step: the more samples "
        "decode to a chunk, the larger its circle. They collapse onto the vector that the temperature chose. The "
        "prediction error is the distance from a predicted vector to the encoded vector of the same chunk; it is "
        "typical between the 10th and the 90th percentile over held-out stories.</p>"
    )
    own = gr.JSON(visible=False)
    collect = in_browser("[name, calm.ownRuns(name), ...rest]", "name, _, ...rest")
    _build_texts([model, own], collect, made, progress)
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
        hint = f"Fits UMAP to the vectors of this visit's runs and up to {limits.FIT_CHUNKS} training chunks."
        status = gr.HTML(status_line(hint), elem_id="fit-status")
    result = FitResult(elem_id="fit-result")
    inputs = [model, own, neighbours, min_dist, metric, dimensions, seed]
    wire(Panel([result], status, go, stop), [([go.click], _fit, inputs)], js=collect, group="fit")


def _build_texts(model_and_runs: Sequence[Any], collect: str, made: MapResult, progress: gr.HTML) -> None:
    """The part that makes a map from texts that the visitor names, where visitors may load files of this machine.
    ``collect`` is JavaScript that fills in the runs of this visit."""
    with (
        gr.Accordion(
            "Make the map of a model from your own texts",
            open=False,
            visible=allows_other_models(),
            elem_id="map-texts",
        ),
        gr.Row(),
    ):
        source = gr.Textbox(
            label="Texts",
            info="A file or folder of this machine, or hub:OWNER/NAME. For models that are not bundled.",
            placeholder="texts.txt",
            scale=5,
            elem_id="map-source",
        )
        go = gr.Button("Make map", size="md", scale=1, min_width=120, elem_id="make-map")
    gr.on(
        [go.click, source.submit],
        streamed(Panel([made], progress), _make_map_of_texts),
        [*model_and_runs, source],
        [made, progress],
        js=collect,
        trigger_mode="multiple",
        concurrency_limit=limits.MAX_CONCURRENT_RUNS,
        **CHECKED,
    )
