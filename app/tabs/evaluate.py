"""Tab "Evaluate": BrierLM of the bundled models on a visitor's own text."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import calm
from calm import storyland
from calm.data.text_files import read_text
from calm.hub import folders

from ..components import RunCard, ScoresPlot
from ..controls import PRIVATE, error_line, scrolling_table, seed_box, start_and_stop, status_line, sync_with_url
from ..errors import error_sentence
from ..files import asset
from ..limits import EXAMPLE_STORIES, MAX_EVALUATION
from ..payloads.measurement_types import ModelCost, ScoresPayload
from ..registry import BASELINE, DEFAULT, bundled
from ..requests import EvaluateArguments, parse_evaluation
from ..streaming import Panel, Progress, wire
from ..validation import validated
from . import brier_curve, heads
from .measuring import Measurement, card, progress, split_texts

if TYPE_CHECKING:
    from calm import BrierDifference, BrierLM


def _evaluations() -> dict[str, dict[str, Any]]:
    """The ``evaluation.json`` of each bundled model that has been measured."""
    paths = {name: folders.CHECKPOINTS / name / "evaluation.json" for name in bundled()}
    return {name: folders.read_json(path) for name, path in paths.items() if path.is_file()}


def _first_source(evaluation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The first text source that BrierLM was measured on, and its figures."""
    return next(iter(evaluation["texts"].items()))


def scores_payload() -> ScoresPayload:
    """The expected BrierLM of each bundled model with its cost, and that of the true distribution, at the same
    positions (``benchmarks.language``). The interval of a model is that of its gap to the true distribution."""
    scores = asset("language")
    best = scores["Storyland"]["score"]
    models: list[ModelCost] = [
        {
            "model": name,
            "generation_flops": evaluation["flops_per_token"]["generation"],
            "training_flops": evaluation["flops_per_token"]["training"],
            "score": scores[name]["score"],
            "low": best - scores[name]["gap"]["high"],
            "high": best - scores[name]["gap"]["low"],
        }
        for name, evaluation in _evaluations().items()
        if name in scores
    ]
    return {"models": models, "upper_bound": best}


def reference_scores() -> dict[str, tuple[str, BrierLM]]:
    """The score of each bundled model on its card, with the texts that it was measured on."""
    from calm import BrierLM

    firsts = {name: _first_source(evaluation) for name, evaluation in _evaluations().items()}
    return {
        name: (f"{figures['count']} texts of {source}", BrierLM(**figures["brier_lm"]))
        for name, (source, figures) in firsts.items()
    }


COLUMNS = ["model", "BrierLM (95 % interval)", "gap to best", *(f"Brier-{n}" for n in (1, 2, 3, 4)), "reference score"]


def scores_table(measurements: Sequence[Measurement], references: dict[str, tuple[str, BrierLM]]) -> str:
    """The table as HTML: BrierLM with its interval as a bar, the gap to the best model, Brier-1 to Brier-4, and the
    score on the model's card."""
    results = [measurement.result for measurement in measurements if measurement.result]
    best = max(results, key=lambda result: result.score, default=None)
    rows = [_row(measurement, best, references.get(measurement.model)) for measurement in measurements]
    return scrolling_table("scores of the models", COLUMNS, rows)


def _row(measurement: Measurement, best: BrierLM | None, reference: tuple[str, BrierLM] | None) -> list[str]:
    name, result = html.escape(measurement.model), measurement.result
    if result is None or best is None:
        return [name, "…", *[""] * (len(COLUMNS) - 2)]
    width = max(result.high - result.low, 0.4)
    interval = f'<b style="left:{result.low:.1f}%;width:{width:.1f}%"></b>' if _has_interval(result) else ""
    bar = f'<div class="calm-span" aria-hidden="true"><i style="width:{result.score:.1f}%"></i>{interval}</div>'
    briers = [f"{brier:.1f}" for brier in result.brier]
    known = "–"
    if reference:
        known = f"{_figure(reference[1].score, reference[1])}<br><small>{html.escape(reference[0])}</small>"
    return [name, f"{_figure(result.score, result)}{bar}", _gap(result, best), *briers, known]


def _gap(result: BrierLM, best: BrierLM) -> str:
    """The difference to the best model, once both have measured the same texts."""
    if result is best or len(result.per_text) != len(best.per_text):
        return "–"
    difference = calm.brier_difference(best, result)
    return _figure(difference.difference, difference)


def _figure(value: float, interval: BrierLM | BrierDifference) -> str:
    figure = f"{value:z.1f}"  # z: no minus sign before a number that rounds to zero
    if _has_interval(interval):
        figure += f" <small>({interval.low:z.1f} to {interval.high:z.1f})</small>"
    return figure.replace("-", "−")


def _has_interval(interval: BrierLM | BrierDifference) -> bool:
    """Whether there is an interval; the bootstrap gives none for a single text."""
    return interval.low < interval.high


@validated(EvaluateArguments)
def _measure(arguments: EvaluateArguments) -> Iterator[Progress]:
    """BrierLM of the chosen models on the visitor's texts."""
    yield Progress("Measuring …")
    references = reference_scores()
    for status, measurements in progress(arguments):
        yield Progress(status, (scores_table(measurements, references), card("evaluate", arguments, measurements)))


def _read_upload(path: str | None) -> tuple[Any, str]:
    """The text of an uploaded file and the status line."""
    path = path or ""
    try:
        content = read_text(path, limit=MAX_EVALUATION, name=Path(path).name or "The upload")
        split_texts(parse_evaluation(content))
    except Exception as error:
        return gr.skip(), error_line(error_sentence(error))
    return content, status_line("")


def build() -> None:
    gr.HTML(
        '<p class="calm-intro"><em>BrierLM</em> scores a language model from its samples alone, so it measures a CALM, '
        "which has no likelihood, and a token-by-token model in the same way (paper, section 4.2). 100 means that the "
        "model always predicts the text, 0 that it is no better than chance. The gap to the best model is computed "
        "text by text, because a text that is hard for one model is hard for the others. Blank lines separate "
        "texts.</p>"
    )
    with gr.Row():
        text = gr.Textbox(
            label="Texts",
            info=f"Up to {MAX_EVALUATION:,} characters.",
            lines=6,
            max_lines=14,
            scale=5,
            elem_id="evaluate-text",
        )
        with gr.Column(scale=4):
            first = [name for name in (DEFAULT, BASELINE) if name in bundled()]
            models = gr.CheckboxGroup(bundled(), value=first, label="Models", elem_id="evaluate-models")
            seed = seed_box()
            with gr.Row():
                stories = gr.Button(f"Fill in {EXAMPLE_STORIES} held-out stories", elem_id="evaluate-stories")
                upload = gr.UploadButton(
                    "Upload a text file", file_types=["text"], type="filepath", elem_id="evaluate-upload"
                )
            go, stop = start_and_stop("Measure", "evaluate", variant="primary")
    status = gr.HTML(elem_id="evaluate-status")
    table = gr.HTML(elem_id="evaluate-table")
    shown = RunCard(buttons=["evaluate"], elem_id="evaluate-card")
    sync_with_url({"evaluate-text": text, "evaluate-models": models, "evaluate-seed": seed})
    wire(Panel([table, shown], status, go, stop), [([go.click], _measure, [text, models, seed])], group="measure")
    stories.click(lambda: "\n\n".join(storyland.stories("page_examples", EXAMPLE_STORIES)), None, text, **PRIVATE)
    upload.upload(_read_upload, upload, [text, status], **PRIVATE)
    brier_curve.build(text, models, seed)
    gr.HTML(
        '<h2 class="calm-heading">Score against cost</h2><p class="calm-intro">BrierLM of the bundled models, all at '
        "the same positions of the texts of their cards, over FLOPs per token: for generation at T = 1, and for "
        "training. The probabilities of this language are known exactly, so a draw counts with its probability, and "
        "not with whether it matches the text. The dotted line is the score of the true distribution; no model can "
        "be expected to score higher. Bars are 95 % intervals of the gap to it.</p>"
    )
    ScoresPlot(scores_payload(), elem_id="scores-plot")
    heads.build()
