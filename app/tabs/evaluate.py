"""Tab "Evaluate": BrierLM of the bundled models on a visitor's own text."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

import calm
from calm import storyland

from .. import render
from ..components import ASSETS, ScoresPlot
from ..controls import PRIVATE, busy, idle, paced, runs, whole
from ..registry import BASELINE, CHECKPOINTS, DEFAULT, bundled, computed, loading

if TYPE_CHECKING:
    from calm import BrierLM, LanguageModel

MAX_CHARACTERS = 20_000
SAMPLES = 4  # draws at each place
EXAMPLES = 10  # held-out stories that a button fills in


@dataclass
class Measured:
    """What is known so far of one model."""

    name: str
    texts: int = 0
    found: BrierLM | None = None


def split_texts(text: str | None) -> list[str]:
    """The texts that blank lines separate. Raises CalmError if they are too long, or none."""
    text = text or ""
    if len(text) > MAX_CHARACTERS:
        raise calm.CalmError(f"The text has {len(text):,} characters; up to {MAX_CHARACTERS:,} are measured.")
    texts = [part for part in text.split("\n\n") if part.strip()]
    if not texts:
        raise calm.CalmError("There is no text to measure.")
    return texts


def measure(models: Sequence[LanguageModel], texts: Sequence[str], seed: int) -> Generator[list[Measured], None, None]:
    """All that is known after each text, one model after another. Raises CalmError where no text is long enough."""
    found = [Measured(lm.name) for lm in models]
    for lm, measured in zip(models, found):
        for measured.found in calm.stream_brier_lm(lm, texts, seed, SAMPLES):
            measured.texts += 1
            yield found
        if measured.found is None:
            raise calm.CalmError("BrierLM needs at least one text of 4 tokens or more.")


def _cards() -> dict[str, dict[str, Any]]:
    """What was measured of each bundled model for its card."""
    paths = {name: CHECKPOINTS / name / "evaluation.json" for name in bundled()}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def _first(card: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The texts that BrierLM was measured on first, and the figures."""
    return next(iter(card["texts"].items()))


def costs() -> list[dict[str, Any]]:
    """BrierLM of each bundled model with its interval, and its operations a token, for ``ScoresPlot``."""
    found = []
    for name, card in _cards().items():
        brier, flops = _first(card)[1]["brier_lm"], card["flops_per_token"]
        cost = {"generating": flops["generation"], "training": flops["training"]}
        found.append({"name": name, **cost, **{key: brier[key] for key in ("score", "low", "high")}})
    return found


def language() -> float:
    """BrierLM of Storyland itself on the texts of the cards: what the best of models would have."""
    figures = json.loads((ASSETS / "language.json").read_text(encoding="utf-8"))["Storyland"]
    return figures["on the texts"]["score"]


def references() -> dict[str, tuple[str, BrierLM]]:
    """What the card of each bundled model says of the first held-out texts that it was measured on."""
    from calm import BrierLM

    firsts = {name: _first(card) for name, card in _cards().items()}
    return {
        name: (f"{figures['count']} texts of {source}", BrierLM(**figures["brier_lm"]))
        for name, (source, figures) in firsts.items()
    }


def build() -> None:
    gr.HTML(
        '<p class="calm-intro"><em>BrierLM</em> scores a language model by samples alone, so that it measures a CALM, '
        "which knows no likelihoods, and a token-by-token model alike (paper, section 4.2): 100 is a model that always "
        "says what the text says, 0 one that does not know better than chance. How far a model is behind the best is "
        "told text by text, since a text that is hard for one is hard for both. Blank lines separate texts.</p>"
    )
    with gr.Row():
        text = gr.Textbox(
            label="Texts", info=f"Up to {MAX_CHARACTERS:,} characters.", lines=6, max_lines=14, scale=5,
            elem_id="evaluate-text",
        )  # fmt: skip
        with gr.Column(scale=4):
            models = gr.CheckboxGroup(bundled(), value=[DEFAULT, BASELINE], label="Models", elem_id="evaluate-models")
            seed = gr.Number(0, label="Seed of the draws", precision=0)
            with gr.Row():
                stories = gr.Button(f"Fill in {EXAMPLES} held-out stories", elem_id="evaluate-stories")
                upload = gr.UploadButton(
                    "Upload a text file", file_types=["text"], type="filepath", elem_id="evaluate-upload"
                )
            go = gr.Button("Measure", variant="primary", elem_id="evaluate")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="evaluate-stop")
    status = gr.HTML(elem_id="evaluate-status")
    table = gr.HTML(elem_id="evaluate-table")
    gr.HTML(
        '<h2 class="calm-heading">What the score costs</h2><p class="calm-intro">BrierLM of the bundled models, as on '
        "their cards, over the floating-point operations of one token: to write it at T = 1, and to train on it. Bars "
        "are 95 % intervals. The line is what the language of the texts would have itself: how likely a story goes on "
        "in a certain way is known exactly, and no model can be expected to do better.</p>"
    )
    ScoresPlot({"models": costs(), "language": language()}, elem_id="scores-plot")

    def run(text, names, seed):
        yield gr.skip(), render.note("Measuring …"), *busy()
        try:
            texts, number = split_texts(text), whole(seed, "Seed")
            if not names:
                raise calm.CalmError("Choose at least one model.")
            known = references()
            chosen = [loading(name).result() for name in names]
            found: list[Measured] = []
            for found in paced(computed(measure(chosen, texts, number))):
                seen = sum(measured.texts for measured in found)
                told = render.note(f"Measuring … {seen} of {len(found) * len(texts)} texts")
                yield render.scores(found, known), told, gr.skip(), gr.skip()
        except calm.CalmError as error:
            yield gr.skip(), render.error(error), *idle()
            return
        places = " and ".join(sorted({f"{m.found.positions:,}" for m in found if m.found}))
        done = render.note(f"{len(texts)} text{'s' * (len(texts) > 1)}, {SAMPLES} draws at each of {places} places")
        yield render.scores(found, known), done, *idle()

    def read(path: str | None):
        try:
            content = Path(path or "").read_text(encoding="utf-8")
            split_texts(content)
        except (OSError, UnicodeDecodeError):
            return gr.skip(), render.error("This file is no text in UTF-8.")
        except calm.CalmError as error:
            return gr.skip(), render.error(error)
        return content, render.note("")

    runs([([go.click], run, [text, models, seed])], [table, status, go, stop], go, stop, status)
    stories.click(lambda: "\n\n".join(storyland.stories("page_examples", EXAMPLES)), None, text, **PRIVATE)
    upload.upload(read, upload, [text, status], **PRIVATE)
