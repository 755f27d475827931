"""Marks on the temperature slider the range in which a bundled model generates well-formed sentences."""

import json
from functools import cache

import gradio as gr

from calm.hub import folders

from ..controls import PRIVATE
from ..limits import TEMPERATURE_MAX, TEMPERATURE_MIN, USEFUL_SHARE
from ..registry import DEFAULT, bundled


@cache
def useful_temperatures(name: str) -> tuple[float, float] | None:
    """The lowest and the highest temperature on a bundled model's card at which enough sentences are well-formed; None
    where there is no such temperature."""
    path = folders.CHECKPOINTS / name / "evaluation.json"
    if not path.is_file():
        return None
    measured = json.loads(path.read_text(encoding="utf-8")).get("stories", [])
    useful = [one["temperature"] for one in measured if one["well_formed"] >= USEFUL_SHARE]
    return (min(useful), max(useful)) if useful else None


def range_mark(name: str) -> str:
    """HTML of a bar below the slider, from the lowest to the highest useful temperature of a bundled model."""
    useful = useful_temperatures(name) if name in bundled() else None  # the cache holds no names that visitors type
    if useful is None:
        return ""
    left, right = (100 * (t - TEMPERATURE_MIN) / (TEMPERATURE_MAX - TEMPERATURE_MIN) for t in useful)
    words = f"useful range {useful[0]:g} to {useful[1]:g}"
    title = f"At least {USEFUL_SHARE:.0%} of the sentences are well-formed, as measured for the card of this model."
    bar = f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
    return f'<div class="calm-useful" title="{title}"><div aria-hidden="true">{bar}</div><span>{words}</span></div>'


def build_mark(model: gr.Dropdown) -> None:
    """Draws the bar of the chosen model."""
    mark = gr.HTML(range_mark(DEFAULT), elem_id="useful-range")
    model.change(range_mark, model, mark, queue=False, **PRIVATE)
