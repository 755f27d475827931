"""Tab "Race": a CALM and a token-by-token Transformer with the same backbone continue the same prompt."""

from __future__ import annotations

import html
import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import gradio as gr

import calm

from .. import backends
from ..backends import LoadedModel
from ..components import RaceView, RunCard
from ..controls import (
    FALLBACK_NOTE,
    PRIVATE,
    new_tokens_slider,
    seed_box,
    start_and_stop,
    sync_with_url,
    temperature_slider,
    throttle,
)
from ..files import asset
from ..payloads.cards import run_card
from ..payloads.measurement_types import RacePayload, RacerPayload
from ..payloads.origins import RunCardPayload
from ..registry import BASELINE, DEFAULT, bundled, is_loaded, loaded, loading
from ..requests import GenerateArguments
from ..story_prompts import suited_prompt, with_line_end
from ..streaming import Panel, Progress, wire
from ..validation import validated

DEFAULT_NEW_TOKENS = 200
NO_SPEED_UP = "speed-up: race again when both models have compiled kernels"
_numbers = itertools.count(time.time_ns() // 1_000_000)  # a page may still show a race from before a restart


def example() -> dict[str, Any]:
    """The finished race that the tab shows before the first click, made by ``python -m app.build``: its ``race`` and
    its ``status`` line."""
    return asset("race")


class Racer:
    """One model's text, and the seconds that this model alone has spent on it."""

    def __init__(self, model: LoadedModel, prompt: str, options: calm.GenerationOptions, client: str):
        self.lm, self.used_fallback = model.lm, model.uses_fallback
        self.events = model.stream(prompt, options, client)
        self.total_seconds, self.draws, self.finished = 0.0, 0, False
        self.first_text_seconds: float | None = None
        self.texts: list[str] = []
        self.seconds: list[float] = []

    def advance(self) -> None:
        """Generates one step. Time in the queue does not count."""
        event = next(self.events, None)
        if event is None:
            self.finished = True
        elif isinstance(event, calm.Step):
            self.total_seconds += event.seconds
            self.draws += event.draws
            self.texts.append(event.text)
            self.seconds.append(round(self.total_seconds, 5))
            if self.first_text_seconds is None and event.text.strip():
                self.first_text_seconds = self.total_seconds

    def tokens_per_second(self) -> float:
        return len(self.seconds) * self.lm.chunk_size / self.total_seconds

    def payload(self) -> RacerPayload:
        from calm.evaluation.cost import flops_per_token

        steps, shape = len(self.texts), self.lm.backbone.config
        return {
            "model": self.lm.name,
            "is_calm": self.lm.is_calm,
            "backbone_layers": shape.num_hidden_layers,
            "backbone_width": shape.hidden_size,
            "chunk_size": self.lm.chunk_size,
            "texts": list(self.texts),
            "seconds": list(self.seconds),
            "first_text_seconds": self.first_text_seconds,
            "draws_per_step": self.draws / steps if steps else 0,
            "flops_per_token": flops_per_token(self.lm, self.draws / steps if steps else 1),
            "finished": self.finished,
        }

    def row(self) -> dict[str, Any]:
        """The figures of the finished racer."""
        payload = self.payload()
        return {
            "model": self.lm.name,
            "steps": len(self.texts),
            "tokens": len(self.texts) * self.lm.chunk_size,
            "seconds": round(self.total_seconds, 5),
            "samples_per_step": round(payload["draws_per_step"], 3),
            "flops_per_token": payload["flops_per_token"],
            "text": "".join(self.texts),
        }


class Race:
    """The racers of one race."""

    def __init__(self, prompt: str, racers: Sequence[Racer], options: calm.GenerationOptions):
        self.prompt, self.racers, self.options, self.race_id = prompt, racers, options, next(_numbers)

    def payload(self) -> RacePayload:
        return {"race_id": self.race_id, "prompt": self.prompt, "racers": [racer.payload() for racer in self.racers]}

    def card(self) -> RunCardPayload:
        """The settings of the race and, once it is over, the figures of each racer."""
        first, options = self.racers[0].lm.name, self.options
        inputs = {
            "model": first,
            "race-prompt": self.prompt,
            "race-t": options.temperature,
            "race-length": options.max_new_tokens,
            "race-seed": options.seed,
        }
        facts = {
            "models": " and ".join(racer.lm.name for racer in self.racers),
            "temperature": options.temperature,
            "random seed": options.seed,
            "max samples per step": options.pool_size,
            "max new tokens": options.max_new_tokens,
        }
        over = all(racer.finished for racer in self.racers)
        return run_card("race", "race", facts, inputs, [racer.row() for racer in self.racers] if over else [])

    def summary(self) -> str:
        """One line: the measured speed of each, and the speed-up."""
        speeds = {racer.lm.name: racer.tokens_per_second() for racer in self.racers if racer.seconds}
        parts = [f"{html.escape(name)}: <strong>{speed:,.0f}</strong> tokens/s" for name, speed in speeds.items()]
        if len(speeds) == 2:
            first, second = speeds.values()
            fair = self.racers[0].used_fallback == self.racers[1].used_fallback
            parts.append(f"speed-up <strong>{first / second:.2f}x</strong>" if fair else NO_SPEED_UP)
        if any(racer.used_fallback for racer in self.racers):
            parts.append(FALLBACK_NOTE)
        return " · ".join(parts)


def race(models: Sequence[LoadedModel], arguments: GenerateArguments) -> Generator[Race, None, None]:
    """The race after each step of a racer. Raises CalmError for bad input before the first.

    The models share the device but never use it at the same time. The racer that has used less time
    so far takes the next step, so both texts grow as if each model had the device to itself.
    """
    prompt, options = arguments.prompt, arguments.options()
    return _steps(Race(prompt, [Racer(model, prompt, options, arguments.visitor) for model in models], options))


def _steps(race: Race) -> Generator[Race, None, None]:
    try:
        while running := [racer for racer in race.racers if not racer.finished]:
            min(running, key=lambda racer: racer.total_seconds).advance()
            yield race
    finally:
        for racer in race.racers:
            racer.events.close()


@validated(GenerateArguments, "model", "prompt", "temperature", "max_new_tokens", "seed")
def _run(arguments: GenerateArguments) -> Iterator[Progress]:
    """A race of the chosen model against the baseline."""
    names = (arguments.model, BASELINE)
    yield Progress("Starting …" if all(is_loaded(each) for each in names) else "The models are being loaded …")
    for each in names:
        loading(each)  # all of them at once
    models = [loaded(each) for each in names]
    if not models[0].lm.is_calm:
        raise calm.CalmError(f"{arguments.model} generates token by token: choose a CALM in the menu above.")
    if models[0].lm.tokenizer.get_vocab() != models[1].lm.tokenizer.get_vocab():
        raise calm.CalmError(
            f"{arguments.model} has another tokenizer than {BASELINE}, which generates only stories of Storyland: "
            "choose a model that comes with the page."
        )
    arguments = arguments.model_copy(update={"prompt": with_line_end(arguments.model, arguments.prompt)})
    for state in throttle(backends.current().iterate(race(models, arguments))):
        yield Progress(state.summary(), (state.payload(), state.card()))


def _suit_prompt(name: str, prompt: str) -> Any:
    """The prompt box for another model. A prompt that suits it stays as it is, also while the visitor writes."""
    suited, info = suited_prompt(name, prompt, example()["race"]["prompt"]), _prompt_info(name)
    return gr.update(info=info) if suited == prompt else gr.update(value=suited, info=info)


def _prompt_info(name: str) -> str:
    return "For both models." if name in bundled() else f"The rival, {BASELINE}, generates only stories of Storyland."


def build(model: gr.Dropdown) -> None:
    gr.HTML(
        '<p class="calm-intro">The chosen CALM and a token-by-token Transformer continue the same prompt. They take '
        "turns on the device, and each clock counts the time of its own model. Below T = 1 a CALM draws several "
        "samples per step, which costs part of its speed-up.</p>"
    )
    shown = example()
    with gr.Row():
        prompt = gr.Textbox(
            suited_prompt(DEFAULT, shown["race"]["prompt"], shown["race"]["prompt"]),
            label="Prompt",
            info=_prompt_info(DEFAULT),
            lines=2,
            max_lines=8,
            scale=5,
            elem_id="race-prompt",
        )
        with gr.Column(scale=4):
            temperature = temperature_slider("race-temperature")
            with gr.Row():
                length = new_tokens_slider("race-length", DEFAULT_NEW_TOKENS)
                seed = seed_box("race-seed")
            go, stop = start_and_stop("Start the race", "race", variant="primary")
    status = gr.HTML(shown["status"], elem_id="race-status")
    view = RaceView(shown["race"], elem_id="race-view")
    card = RunCard(shown["card"], buttons=["race"], elem_id="race-card")
    model.change(_suit_prompt, [model, prompt], prompt, queue=False, **PRIVATE)
    sync_with_url({"race-prompt": prompt, "race-t": temperature, "race-length": length, "race-seed": seed})
    inputs = [model, prompt, temperature, length, seed]
    wire(Panel([view, card], status, go, stop), [([go.click, prompt.submit], _run, inputs)])
