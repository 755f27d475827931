"""On the Evaluate tab, below the scores: BrierLM over temperature, on the same texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import gradio as gr

from ..components import BrierCurveView, RunCard
from ..controls import start_and_stop
from ..limits import COMPARED_TEMPERATURES
from ..payloads.measurement_types import BrierCurve, BrierCurvePayload
from ..requests import BrierCurveArguments
from ..streaming import Panel, Progress, wire
from ..validation import validated
from .measuring import Measurement, card, progress


def curves(measurements: Sequence[Measurement]) -> BrierCurvePayload:
    """A curve for each model, with the temperatures that are complete."""
    by_model: dict[str, BrierCurve] = {}
    for measurement in measurements:
        curve = by_model.setdefault(measurement.model, {"model": measurement.model, "points": []})
        if (result := measurement.result) and measurement.complete:
            curve["points"].append(
                {
                    "temperature": measurement.temperature,
                    "score": result.score,
                    "low": result.low,
                    "high": result.high,
                }
            )
    return {"curves": list(by_model.values())}


@validated(BrierCurveArguments)
def _measure_curve(arguments: BrierCurveArguments) -> Iterator[Progress]:
    """BrierLM of the chosen models on the visitor's texts, one temperature after another."""
    yield Progress("Measuring …")
    for status, measurements in progress(arguments):
        yield Progress(status, (curves(measurements), card("brier-curve", arguments, measurements)))


def build(text: gr.Textbox, models: gr.CheckboxGroup, seed: gr.Number) -> None:
    """Draws the section. Texts, models and seed come from the top of the tab."""
    others = ", ".join(f"{t:g}" for t in COMPARED_TEMPERATURES[:-1])
    gr.HTML(
        '<h2 class="calm-heading">BrierLM over temperature</h2><p class="calm-intro">The models and the texts above at '
        f"T = {others} and {COMPARED_TEMPERATURES[-1]:g}. The score is highest at the temperature whose samples are "
        "distributed most like the texts. At a lower one, samples agree with each other more often, which BrierLM "
        "counts against the model. Bars are 95 % intervals.</p>"
    )
    with gr.Row():
        go, stop = start_and_stop("Measure the curve", "brier-curve", scale=0, min_width=200)
    status = gr.HTML(elem_id="brier-curve-status")
    view = BrierCurveView({"curves": []}, elem_id="brier-curve-view")
    shown = RunCard(buttons=["brier-curve"], elem_id="brier-curve-card")
    wire(Panel([view, shown], status, go, stop), [([go.click], _measure_curve, [text, models, seed])], group="measure")
