"""Tab "Reconstruct": the autoencoder encodes any text and decodes it again, with optional noise."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

import calm

from .. import limits
from ..backends import LoadedModel
from ..components import CurveView, ReconstructionView, RunCard
from ..controls import CHECKED, seed_box, start_and_stop, status_line, sync_with_url
from ..errors import answers_with_error
from ..files import asset
from ..payloads import latent
from ..payloads.cards import run_card
from ..payloads.origins import RunCardPayload
from ..payloads.types import ChunkSizeCurve, CurvePayload, Walk
from ..registry import DEFAULT, bundled, facts, loaded
from ..requests import ReconstructArguments, WalkArguments
from ..shares import LOOKUPS
from ..streaming import Panel, Progress, streamed, wire
from ..validation import validated, validated_message
from . import passages

if TYPE_CHECKING:
    from calm import Reconstruction

SAMPLE = 'Mia lost her lantern in 1987 - "Où est-elle?" she asked. print(f"{x:.3f}") 🙂'


def example() -> dict[str, Any]:
    """The example that the tab shows before the first click: the payload of the ``view``, the ``status`` line and the
    ``card``.

    ``python -m app.build`` makes it.
    """
    return asset("reconstruction")


@cache
def reference_curves() -> dict[str, list[list[float]]]:
    """The curve of held-out stories for each model, made by ``python -m app.build``."""
    return asset("robustness")


@answers_with_error
@validated_message(WalkArguments, LOOKUPS)
def walk(arguments: WalkArguments) -> Walk:
    """A walk through latent space from the mean of a chunk, decoded at each point, with the nearest training chunks."""
    model = loaded(arguments.model)
    mean = _vector(model, arguments.mean)
    if arguments.target is not None:
        offsets = np.linspace(0, 1, limits.WALK_POINTS, dtype=np.float32)
        unit = _vector(model, arguments.target) - mean
    else:
        directions, widths = model.require_map().principal
        number = arguments.direction
        offsets = np.linspace(-limits.WALK_REACH, limits.WALK_REACH, limits.WALK_POINTS, dtype=np.float32)
        unit = directions[number] * widths[number]
    vectors = mean + offsets[:, None] * unit
    token_ids = model.decode(vectors)
    return latent.walk(model, offsets, vectors, token_ids, limits.WALK_NEIGHBOURS)


def _vector(model: LoadedModel, numbers: Sequence[float]) -> np.ndarray:
    """float32 [L]. Raises CalmError for another length."""
    width = model.lm.latent_size
    if len(numbers) != width:
        raise calm.CalmError(f"A vector must be {width} numbers.")
    return np.array(numbers, np.float32)


def summary(result: Reconstruction, noise: float) -> str:
    """One line of figures."""
    condition = f"with noise of {noise:.2f} added to each mean" if noise else "without noise"
    exact = sum(chunk.exact for chunk in result.chunks)
    return (
        f"Reconstructed {condition}: <strong>{result.token_accuracy:.2%}</strong> of {result.tokens} tokens, "
        f"<strong>{result.chunk_accuracy:.2%}</strong> of the chunks ({exact} of {len(result.chunks)})"
    )


def card(name: str, text: str, noise: float, seed: int, result: Reconstruction) -> RunCardPayload:
    """The settings of a reconstruction, and its chunks."""
    facts = {"model": name, "noise": float(noise), "random seed": seed, "text": text}
    rows = [
        {"chunk": i + 1, "text": chunk.text, "decoded": chunk.decoded_text, "exact": int(chunk.exact)}
        for i, chunk in enumerate(result.chunks)
    ]
    inputs = {"model": name, "text": text, "noise": noise, "noise-seed": seed}
    return run_card("reconstruct", "reconstruct", facts, inputs, rows)


@validated(ReconstructArguments, "model", "text", "noise", "seed")
def _reconstruct(arguments: ReconstructArguments) -> Iterator[Progress]:
    model = loaded(arguments.model)
    result = model.reconstruct(arguments.text, arguments.noise, arguments.seed)
    shown = card(arguments.model, arguments.text, arguments.noise, arguments.seed, result)
    yield Progress(summary(result, arguments.noise), (latent.reconstruction(model, result), shown))


@validated(ReconstructArguments, "model", "text", "seed")
def _measure_curve(arguments: ReconstructArguments) -> Iterator[Progress]:
    """Robustness to noise, one noise level after another."""
    yield Progress("Measuring …")
    model = loaded(arguments.model)
    curve: CurvePayload = {
        "reference": reference_curves().get(arguments.model, []),
        "measured": [],
        "by_chunk_size": [],
    }
    levels = limits.NOISE_LEVELS
    for noise, share in model.robustness(arguments.text, levels, arguments.seed):
        curve = {**curve, "measured": [*curve["measured"], [noise, share]]}
        shown = curve_card("curve", arguments, {arguments.model: curve["measured"]}, len(levels))
        yield Progress(f"Measuring … {len(curve['measured'])} of {len(levels)} noise levels", (curve, shown))
    half = next((noise for noise, share in curve["measured"] if share < 0.5), None)
    result = "more than half of the tokens survive all of them"
    if half is not None:
        result = f"half of the tokens are lost at {half:.1f}"
    # The curve is sent again, because a later progress may replace an earlier one before it is sent.
    name = html.escape(arguments.model)
    yield Progress(f"{name}: {len(curve['measured'])} noise levels, 4 draws each, {result}", (curve, shown))


def curve_card(
    button: str, arguments: ReconstructArguments, curves: Mapping[str, Sequence[Sequence[float]]], levels: int
) -> RunCardPayload:
    """The settings of the robustness curves of some models and, once all have that many noise levels, their points."""
    facts = {"model": ", ".join(curves), "random seed": arguments.seed, "text": arguments.text}
    complete = all(len(points) == levels for points in curves.values())
    rows = [
        {"model": name, "noise": noise, "tokens restored": share}
        for name, points in curves.items()
        for noise, share in points
    ]
    inputs = {"text": arguments.text, "noise-seed": arguments.seed}
    if button == "curve":
        inputs["model"] = arguments.model
    return run_card("reconstruct", button, facts, inputs, rows if complete else [])


def autoencoders() -> dict[int, str]:
    """One bundled model for each chunk size K, smallest K first."""
    known = [known for name in bundled() if (known := facts(name)) and known.latent_size]
    first: dict[int, str] = {}
    for model in sorted(known, key=lambda model: (model.chunk_size, model.name)):
        first.setdefault(model.chunk_size, model.name)
    return first


@validated(ReconstructArguments, "text", "seed")
def _compare_curves(arguments: ReconstructArguments) -> Iterator[Progress]:
    """Robustness to noise of the bundled autoencoders, one K after another."""
    yield Progress("Measuring …")
    levels = limits.NOISE_LEVELS[::2]
    names, curves = autoencoders(), list[ChunkSizeCurve]()
    payload: CurvePayload = {"reference": [], "measured": [], "by_chunk_size": curves}
    measured: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for k, name in names.items():
        for noise, share in loaded(name).robustness(arguments.text, levels, arguments.seed):
            points = measured[name] = [*measured[name], [noise, share]]
            payload = {**payload, "by_chunk_size": [*curves, {"name": f"K = {k}, {name}", "points": points}]}
            done = len(curves) * len(levels) + len(points)
            shown = curve_card("compare-curves", arguments, measured, len(levels))
            yield Progress(f"Measuring … {done} of {len(names) * len(levels)} noise levels", (payload, shown))
        curves = payload["by_chunk_size"]
    # The curves are sent again, because a later progress may replace an earlier one before it is sent.
    status = f"{len(names)} autoencoders, {len(levels)} noise levels, 4 draws each"
    yield Progress(status, (payload, shown))


def build(model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">The <em>autoencoder</em> encodes each chunk of K tokens to one latent vector and '
        "decodes it again. Its posterior is a distribution, not a point, so a slightly wrong vector still decodes to "
        "the right chunk. Add noise to test it.</p>"
    )
    with gr.Row():
        text = gr.Textbox(
            SAMPLE,
            label="Text",
            info="The text may be in any language.",
            lines=4,
            max_lines=14,
            scale=5,
            elem_id="reconstruct-text",
        )
        with gr.Column(scale=4):
            noise = gr.Slider(
                0,
                limits.MAX_NOISE,
                value=0,
                step=0.01,
                label="Noise",
                info="Each mean gets Gaussian noise of this standard deviation, in latent units; default 0.",
                elem_id="noise",
            )
            seed = seed_box(info="The same seed gives the same noise.")
            go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct")
    status = gr.HTML(example()["status"], elem_id="reconstruct-status")
    view = ReconstructionView(example()["view"], elem_id="reconstruction", server_functions=[walk])
    shown = RunCard(example()["card"], buttons=["reconstruct"], elem_id="reconstruct-card")
    gr.on(
        [go.click, noise.change, seed.submit],
        streamed(Panel([view, shown], status), _reconstruct),
        [model, text, noise, seed],
        [view, shown, status],
        trigger_mode="always_last",
        concurrency_limit=4,
        **CHECKED,
    )
    sync_with_url({"text": text, "noise": noise, "noise-seed": seed})
    _build_curve(model, text, seed)
    passages.build(model)


def _build_curve(model: gr.Dropdown, text: gr.Textbox, seed: gr.Number) -> None:
    """The robustness curve below the reconstruction."""
    gr.HTML(
        '<h2 class="calm-heading">Robustness to noise</h2><p class="calm-intro">The share of tokens restored when '
        "Gaussian noise of a given standard deviation is added to each mean: for the text above, and for held-out "
        "stories.</p>"
    )
    with gr.Row():
        go, stop = start_and_stop("Measure this text", "curve", scale=0, min_width=200)
        compare = gr.Button("Compare all K", elem_id="compare-curves", scale=0, min_width=200)
    status = gr.HTML(status_line("The dotted line shows held-out stories."), elem_id="curve-status")
    empty: CurvePayload = {"reference": reference_curves().get(DEFAULT, []), "measured": [], "by_chunk_size": []}
    curve = CurveView(empty, elem_id="curve-view")
    shown = RunCard(buttons=["curve", "compare-curves"], elem_id="curve-card")
    works = [
        ([go.click], _measure_curve, [model, text, seed]),
        ([compare.click], _compare_curves, [text, seed]),
    ]
    wire(Panel([curve, shown], status, go, stop), works, group="measure")
