"""Tab "Race": a CALM and a token-by-token Transformer of the same backbone write on from the same prompt."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

import calm

from .. import render
from ..components import RaceView, asset
from ..controls import MAX_TOKENS, busy, check_length, check_prompt, idle, paced, runs, whole
from ..registry import BASELINE, computed, is_resident, loading

if TYPE_CHECKING:
    from calm import LanguageModel

_race_numbers = itertools.count(1)


def example() -> dict[str, Any]:
    """The finished race that the tab shows before the first click, run by ``python -m app.build``: ``Race.value``, and
    what is told of it."""
    return asset("race")


class Racer:
    """One model's text, and the seconds that it alone has spent on it."""

    def __init__(self, lm: LanguageModel, prompt: str, options: calm.GenerationOptions):
        self.lm = lm
        self.events = calm.stream(lm, prompt, options)
        self.seconds, self.draws, self.done = 0.0, 0, False
        self.first: float | None = None
        self.pieces: list[str] = []
        self.times: list[float] = []

    def turn(self) -> None:
        """One step. Waiting for a place beside other visitors' texts is nobody's time."""
        start = time.perf_counter()
        event = next(self.events, None)
        seconds = time.perf_counter() - start
        if event is None:
            self.done = True
        elif isinstance(event, calm.Step):
            self.seconds += seconds
            self.draws += event.draws
            self.pieces.append(event.text)
            self.times.append(round(self.seconds, 5))
            if self.first is None and event.text.strip():
                self.first = self.seconds

    def rate(self) -> float:
        """Tokens a second of its own time."""
        return len(self.times) * self.lm.chunk_size / self.seconds

    def value(self) -> dict[str, Any]:
        from calm.evaluation.cost import flops_per_token

        steps, shape = len(self.pieces), self.lm.backbone.config
        return {
            "name": self.lm.name,
            "calm": self.lm.is_calm,
            "backbone": [shape.num_hidden_layers, shape.hidden_size],
            "chunk_size": self.lm.chunk_size,
            "pieces": list(self.pieces),
            "times": list(self.times),
            "first": self.first,
            "draws": self.draws / steps if steps else 0,
            "flops": flops_per_token(self.lm, self.draws / steps if steps else 1),
            "done": self.done,
        }


class Race:
    """The racers of one race, as the page sees them."""

    def __init__(self, prompt: str, racers: Sequence[Racer]):
        self.prompt, self.racers, self.number = prompt, racers, next(_race_numbers)

    def value(self) -> dict[str, Any]:
        """For ``RaceView``."""
        return {"race": self.number, "prompt": self.prompt, "racers": [racer.value() for racer in self.racers]}

    def summary(self) -> str:
        """Who was quicker, in one line of what was measured."""
        rates = {racer.lm.name: racer.rate() for racer in self.racers if racer.times}
        told = [f"{name}: <strong>{rate:,.0f}</strong> tokens a second" for name, rate in rates.items()]
        if len(rates) == 2:
            first, second = rates.values()
            told.append(f"the CALM wrote <strong>{first / second:.2f}</strong> times as fast")
        told += render.interim([racer.lm for racer in self.racers])
        return render.note(" · ".join(told))


def race(
    models: Sequence[LanguageModel], prompt: str, temperature: Any, length: Any, seed: Any
) -> Generator[Race, None, None]:
    """The race after each turn. Raises CalmError for bad input before the first.

    The models take turns on the device, never both at once; whoever has used less time so far is next, so that both
    texts grow as they would beside each other, each on a device of its own.
    """
    options = calm.GenerationOptions(
        temperature=temperature, max_new_tokens=check_length(length), seed=whole(seed, "Seed")
    )
    return _turns(Race(prompt, [Racer(lm, check_prompt(prompt), options) for lm in models]))


def _turns(found: Race) -> Generator[Race, None, None]:
    try:
        while running := [racer for racer in found.racers if not racer.done]:
            min(running, key=lambda racer: racer.seconds).turn()
            yield found
    finally:
        for racer in found.racers:
            racer.events.close()


def build(model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">The same prompt for the chosen CALM and for a token-by-token Transformer. They take '
        "turns, so that each has the device to itself; the clocks count only a model's own time. Below T = 1 a CALM "
        "draws several vectors a step, which costs it part of its lead.</p>"
    )
    shown = example()
    with gr.Row():
        prompt = gr.Textbox(
            shown["prompt"], label="Prompt", info="For both.", lines=2, max_lines=8, scale=5, elem_id="race-prompt"
        )
        with gr.Column(scale=4):
            temperature = gr.Slider(0.01, 2, value=0.5, step=0.01, label="Temperature", elem_id="race-temperature")
            with gr.Row():
                length = gr.Slider(4, MAX_TOKENS, value=200, step=4, label="Length", elem_id="race-length")
                seed = gr.Number(0, label="Seed", precision=0, elem_id="race-seed")
            go = gr.Button("Start the race", variant="primary", elem_id="race")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="race-stop")
    status = gr.HTML(shown["told"], elem_id="race-status")
    view = RaceView(shown, elem_id="race-view")

    def run(name, prompt, temperature, length, seed):
        names = (name, BASELINE)
        ready = all(is_resident(each) for each in names)
        yield gr.skip(), render.note("Ready …" if ready else "The models are being loaded …"), *busy()
        found: Race | None = None
        try:
            models = [future.result() for future in [loading(each) for each in names]]
            if not models[0].is_calm:
                raise calm.CalmError(f"{name} writes token by token itself: choose a CALM in the menu above.")
            for found in paced(computed(race(models, prompt, temperature, length, seed))):
                yield found.value(), found.summary(), gr.skip(), gr.skip()
        except calm.CalmError as error:
            yield gr.skip() if found is None else found.value(), render.error(error), *idle()
            return
        assert found is not None  # each racer has at least one turn
        yield found.value(), found.summary(), *idle()

    starts = [([go.click, prompt.submit], run, [model, prompt, temperature, length, seed])]
    runs(starts, [view, status, go, stop], go, stop, status)
