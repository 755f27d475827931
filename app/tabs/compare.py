"""Below a run on the Generate tab: one prompt at several temperatures side by side, and one prompt with many seeds."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import gradio as gr
from pydantic import BeforeValidator

import calm
from calm import storyland

from .. import compute, limits
from ..backends import LoadedModel
from ..components import RunCard
from ..controls import scrolling_table, seed_box, start_and_stop, sync_with_url, throttle
from ..parsing import parse_range
from ..payloads.cards import run_card
from ..payloads.origins import RunCardPayload
from ..registry import DEFAULT, bundled
from ..requests import ModelName, Prompt, Seed, Temperature, check_draws
from ..story_prompts import with_line_end
from ..streaming import Panel, Progress, wire
from ..validation import Arguments, validated
from .generate import first_progress, on_device

if TYPE_CHECKING:
    from calm import GenerationOptions


class SweepArguments(Arguments):
    """Short texts of one prompt with consecutive seeds, from ``seed`` on."""

    model: ModelName = DEFAULT
    prompt: Prompt = ""
    temperature: Temperature = limits.TEMPERATURE_DEFAULT
    seeds: Annotated[int, BeforeValidator(partial(parse_range, name="Seeds", low=1, high=limits.MAX_SWEEP_SEEDS))]
    max_new_tokens: Annotated[
        int, BeforeValidator(partial(parse_range, name="Max new tokens", low=1, high=limits.MAX_COMPARED_TOKENS))
    ]
    seed: Seed = 0

    def options(self, temperature: float) -> list[calm.GenerationOptions]:
        """The options of each text at a temperature."""
        first = calm.GenerationOptions(temperature=temperature, max_new_tokens=self.max_new_tokens, seed=self.seed)
        return [replace(first, seed=first.seed + i) for i in range(self.seeds)]


class CompareArguments(SweepArguments):
    """The same at several temperatures."""

    seeds: Annotated[int, BeforeValidator(partial(parse_range, name="Seeds", low=1, high=limits.MAX_COMPARED_SEEDS))]


@dataclass
class Text:
    """A text that grows beside others."""

    temperature: float
    seed: int
    text: str = ""
    steps: int = 0
    draws: int = 0
    finished: bool = False

    def score(self, prompt: str) -> float | None:
        """The share of well-formed sentences; None as long as no sentence is complete."""
        check = storyland.check(prompt + self.text)
        return check.well_formed if check.sentences else None


def texts(model: LoadedModel, prompt: str, options: Sequence[GenerationOptions], visitor: str) -> Iterator[list[Text]]:
    """A text for each of ``options``, all generated together. Yields all texts after each step of one of them."""
    shown = [Text(one.temperature, one.seed) for one in options]
    for events in compute.side_by_side([model.stream(prompt, one, visitor) for one in options]):
        for text, event in zip(shown, events):
            if isinstance(event, calm.Step):
                text.text += event.text
                text.steps += 1
                text.draws += event.draws
        yield shown
        check_draws(sum(text.draws for text in shown))
    for text in shown:
        text.finished = True
    yield shown


def _generate(arguments: SweepArguments, prompt: str, temperatures: Sequence[float]) -> Iterator[list[Text]]:
    options = [one for temperature in temperatures for one in arguments.options(temperature)]
    tokens = arguments.max_new_tokens * len(options)
    return throttle(on_device(arguments.model, texts, (prompt, options, arguments.visitor), tokens))


def _status(name: str, shown: Sequence[Text]) -> str:
    steps, draws = sum(text.steps for text in shown), sum(text.draws for text in shown)
    running = "" if all(text.finished for text in shown) else "Generating … "
    return f"{running}{html.escape(name)}: {len(shown)} texts, {steps} steps, {draws} samples drawn"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _facts(facts: dict[str, str]) -> str:
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="calm-facts">{items}</dl>'


def _rows(shown: Sequence[Text], prompt: str, is_storyland: bool) -> list[dict[str, Any]]:
    """The texts as a table, once all are complete."""
    if not all(text.finished for text in shown):
        return []
    return [
        {
            "temperature": text.temperature,
            "seed": text.seed,
            "text": text.text,
            "steps": text.steps,
            "draws": text.draws,
            **({"well_formed": _rounded(text.score(prompt))} if is_storyland else {}),
        }
        for text in shown
    ]


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


# One prompt at several temperatures


def strip(shown: Sequence[Text], prompt: str, is_storyland: bool) -> str:
    """HTML with a column for each temperature: its texts, their share of well-formed sentences, and how many differ."""
    columns = []
    for temperature in limits.COMPARED_TEMPERATURES:
        group = [text for text in shown if text.temperature == temperature]
        bodies = "".join(f'<p class="calm-text">{html.escape(text.text)}</p>' for text in group)
        facts = {"distinct texts": f"{len({text.text for text in group})} of {len(group)}"}
        if is_storyland:
            whole = storyland.check("\n".join(prompt + text.text for text in group))
            facts = {"well-formed": _percent(whole.well_formed if whole.sentences else None), **facts}
        columns.append(f"<section><h3>T = {temperature:g}</h3>{bodies}{_facts(facts)}</section>")
    return f'<div class="calm-compare">{"".join(columns)}</div>'


@validated(CompareArguments, "model", "prompt", "seeds", "max_new_tokens", "seed")
def compare(arguments: CompareArguments) -> Iterator[Progress]:
    """Progress of the texts of one prompt at several temperatures."""
    name, count = arguments.model, arguments.seeds
    yield from first_progress(name)
    prompt, is_storyland = with_line_end(name, arguments.prompt), name in bundled()
    inputs = {"compare-seeds": count, "compare-length": arguments.max_new_tokens, "compare-seed": arguments.seed}
    for shown in _generate(arguments, prompt, limits.COMPARED_TEMPERATURES):
        card = _card("compare", arguments, {**inputs, "prompt": prompt}, {}, _rows(shown, prompt, is_storyland))
        yield Progress(_status(name, shown), (strip(shown, prompt, is_storyland), card))


def _card(
    button: str,
    arguments: SweepArguments,
    inputs: dict[str, Any],
    facts: dict[str, str],
    rows: list[dict[str, Any]],
) -> RunCardPayload:
    first, last = arguments.seed, arguments.seed + arguments.seeds - 1
    shown = {
        "model": arguments.model,
        "prompt": inputs["prompt"] or "none",
        **facts,
        "seeds": f"{first} to {last}",
        "max new tokens": arguments.max_new_tokens,
    }
    return run_card("generate", button, shown, {"model": arguments.model, **inputs}, rows)


# One prompt with many seeds


def table(shown: Sequence[Text], prompt: str, is_storyland: bool) -> str:
    """HTML with a row for each seed."""
    columns = ["seed", "text", "steps", "samples", *(["well-formed"] if is_storyland else [])]
    rows = [
        (
            text.seed,
            html.escape(text.text),
            text.steps,
            text.draws,
            *([_percent(text.score(prompt))] if is_storyland else []),
        )
        for text in shown
    ]
    return scrolling_table("texts of each seed", columns, rows, "calm-scores calm-sweep")


@validated(SweepArguments, "model", "prompt", "temperature", "seeds", "max_new_tokens", "seed")
def sweep(arguments: SweepArguments) -> Iterator[Progress]:
    """Progress of the texts of one prompt with consecutive seeds."""
    name, temperature = arguments.model, arguments.temperature
    yield from first_progress(name)
    prompt, is_storyland = with_line_end(name, arguments.prompt), name in bundled()
    inputs = {
        "prompt": prompt,
        "t": temperature,
        "sweep-seeds": arguments.seeds,
        "sweep-length": arguments.max_new_tokens,
        "sweep-seed": arguments.seed,
    }
    for shown in _generate(arguments, prompt, [temperature]):
        facts, rows = {"temperature": f"{temperature:g}"}, _rows(shown, prompt, is_storyland)
        card = _card("sweep", arguments, inputs, facts, rows)
        distinct = len({text.text for text in shown})
        status = f"{_status(name, shown)}, {distinct} distinct texts"
        yield Progress(status, (table(shown, prompt, is_storyland), card))


# The page


def build(model: gr.Dropdown, prompt: gr.Textbox, temperature: gr.Slider) -> None:
    """Draws both sections. They read the prompt, and the second one the temperature, from the top of the tab."""
    others = ", ".join(f"{t:g}" for t in limits.COMPARED_TEMPERATURES[:-1])
    _build_section(
        "compare",
        "Compare temperatures",
        f"The prompt above at T = {others} and {limits.COMPARED_TEMPERATURES[-1]:g}, with the same seeds at each "
        "temperature. At low temperatures the texts repeat themselves; at high ones, sentences break.",
        (limits.MAX_COMPARED_SEEDS, limits.DEFAULT_COMPARED_SEEDS),
        compare,
        [model, prompt],
    )
    _build_section(
        "sweep",
        "Sweep seeds",
        "The prompt above at the temperature above, once with each of several seeds.",
        (limits.MAX_SWEEP_SEEDS, limits.DEFAULT_SWEEP_SEEDS),
        sweep,
        [model, prompt, temperature],
    )


def _build_section(
    name: str,
    title: str,
    intro: str,
    seeds_range: tuple[int, int],
    work: Callable[..., Iterator[Progress]],
    shared: list[Any],
) -> None:
    gr.HTML(f'<h2 class="calm-heading">{title}</h2><p class="calm-intro">{intro}</p>')
    most, default = seeds_range
    slider = partial(gr.Slider, step=1)
    with gr.Row():
        seeds = slider(
            1,
            most,
            value=default,
            label="Seeds",
            info="Number of seeds, each for one text.",
            elem_id=f"{name}-seeds",
        )
        length = slider(
            4,
            limits.MAX_COMPARED_TOKENS,
            value=limits.DEFAULT_COMPARED_TOKENS,
            label="Max new tokens",
            info="Limit of each text.",
            elem_id=f"{name}-length",
        )
        seed = seed_box(f"{name}-seed", info="Seed of the first text; the others follow.")
        go, stop = start_and_stop(title, name, min_width=200)
    status = gr.HTML(elem_id=f"{name}-status")
    result = gr.HTML(elem_id=f"{name}-result")
    card = RunCard(buttons=[name], elem_id=f"{name}-card")
    sync_with_url({f"{name}-seeds": seeds, f"{name}-length": length, f"{name}-seed": seed})
    wire(Panel([result, card], status, go, stop), [([go.click], work, [*shared, seeds, length, seed])])
