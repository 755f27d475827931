"""On the Evaluate tab, below the scores: the three generative heads of the paper, trained alike and compared."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import gradio as gr

from ..components import HeadDrawsPlot, HeadsPlot
from ..controls import scrolling_table
from ..files import asset

if TYPE_CHECKING:
    from ..payloads.measurement_types import HeadFigures, HeadPoint, HeadsPayload, Interval

COLUMNS = ["head", "evaluations", "draws/s", "BrierLM (95 % interval)", "well-formed, T = 1", "well-formed, T = 0.5"]


def heads_payload() -> HeadsPayload:
    """The figures that ``benchmarks/heads.py`` wrote."""
    payload: HeadsPayload = asset("heads")
    return payload


def heads_table(payload: HeadsPayload) -> str:
    """All figures of the comparison as an HTML table."""
    rows = [_row(head, point) for head in payload["heads"] for point in head["points"]]
    return scrolling_table("figures of the heads", COLUMNS, rows)


def _row(head: HeadFigures, point: HeadPoint) -> tuple[str, ...]:
    tempered = point.get("well_formed_tempered")
    return (
        html.escape(head["name"]),
        f"{point['evaluations']}",
        f"{point['draws_per_second']:,.0f}",
        _figure(point["brier_lm"]),
        _figure(point["well_formed"], percent=True),
        _figure(tempered, percent=True) if tempered else "–",
    )


def _figure(figure: Interval, percent: bool = False) -> str:
    scale, unit = (100, " %") if percent else (1, "")
    value, low, high = (scale * part for part in (figure["value"], figure["low"], figure["high"]))
    return f"{value:.1f}{unit} <small>({low:.1f} to {high:.1f})</small>"


def training_time(payload: HeadsPayload) -> str:
    """The mean CPU time of the runs, in minutes."""
    seconds = [head["training"]["cpu_seconds"] for head in payload["heads"] if "training" in head]
    return f"{sum(seconds) / len(seconds) / 60:.0f} minutes"


def build() -> None:
    payload = heads_payload()
    gr.HTML(
        '<h2 class="calm-heading">Three generative heads</h2><p class="calm-intro">The paper compares an energy head '
        "with a flow-matching head and a diffusion head (section 7.4). Here each learned from random weights on the "
        f"frozen backbone of story-k4 of version 0.1.0, for {training_time(payload)} of CPU time. Read the plot from "
        "left to right: a point further right costs proportionally more time per draw. The energy head needs one "
        "evaluation and scores highest. Bars are 95 % intervals.</p>"
    )
    HeadsPlot(payload, elem_id="heads-plot")
    gr.HTML(heads_table(payload), elem_id="heads-table")
    gr.HTML(
        '<p class="calm-intro">Why do draws fail at T = 1? At a position with several continuations, each head draws '
        "200 vectors from one hidden state (first two principal components). Squares mark the likely chunks of the "
        "language. A blend of two of them often decodes to a chunk that the language does not allow: a cross.</p>"
    )
    HeadDrawsPlot(payload, elem_id="head-draws")
