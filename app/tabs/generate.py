"""Tab "Generate": text from a prompt, chunk by chunk, at a continuous temperature."""

import itertools
import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

import calm

from .. import render
from ..components import RunText, VectorMapPlot, asset
from ..controls import MAX_TOKENS, PRIVATE, busy, check_length, check_prompt, idle, paced, remembered, runs, whole
from ..registry import Resident, compute, is_resident, resident
from ..run import Run, pool

MAX_SAMPLES = 4
DRAWS = 200  # of a pool or a cloud that is opened at a step


def example() -> dict[str, Any]:
    """The finished run that the page shows before the first click, made by ``python -m app.build``."""
    return asset("example")


def stream(
    model: Resident, prompt, temperature, length, seed, sampler, pool_size, count=1, branch: dict | None = None
) -> Iterator[list[Run]]:
    """Runs of one prompt, with seeds that follow one another, written side by side; all of them after each step of any,
    or change of a place in the queue. A ``branch`` leaves another run at a step of it.

    Raises CalmError for bad input before the first.
    """
    prompt = check_prompt(prompt)
    options = calm.GenerationOptions(
        temperature=temperature,
        max_new_tokens=check_length(length),
        pool_size=whole(pool_size, "Pool size"),
        sampler=sampler,
        seed=whole(seed, "Seed"),
    )
    each = [replace(options, seed=options.seed + i) for i in range(whole(count, "Samples"))]
    found = [Run(model, prompt, one) for one in each]
    begun = found[0].leave(branch) if branch else []
    events = [calm.stream(model.lm, prompt, replace(one, prefix_chunks=begun)) for one in each]
    if branch:
        yield found
    for turn in _together(events) if not found[0].value["ended"] else ():
        for run, event in zip(found, turn):
            if event is not None:
                run.add(event)
        yield found


def _together(several: list[Generator]) -> Generator[tuple, None, None]:
    """The next event of each, None for those that have ended."""
    try:
        yield from itertools.zip_longest(*several)
    finally:
        for events in several:
            events.close()


def _shown(found: list[Run]) -> dict[str, Any]:
    """The value of the first run with those of the others as its ``samples``."""
    return {**found[0].value, "samples": [run.value for run in found[1:]]}


def _finished(found: list[Run], told: str) -> dict[str, Any]:
    """The same with all vectors, once they need not be sent again and again."""
    whole = [{**run.value, "vectors": run.vectors, "told": told} for run in found]
    return {**whole[0], "samples": whole[1:]}


def draw_at(place: dict[str, Any], draw: Callable[..., Any]) -> Any:
    """What ``draw`` brings of 200 fresh draws at a step of a run: ``place`` comes from the page, with ``model``,
    ``prompt`` and ``chunks`` (ids of the steps before). Raises CalmError if this is no step of a run."""
    try:
        lm = resident(place["model"]).lm
        prompt, chunks = check_prompt(place["prompt"]), place["chunks"][: MAX_TOKENS // lm.chunk_size]
        return compute(draw, lm, prompt, chunks, DRAWS)
    except (KeyError, TypeError) as error:
        raise calm.CalmError("This is no step of a run.") from error


def open_pool(place: dict[str, Any]) -> dict[str, Any]:
    """The pool of 200 fresh draws at a step (``draw_at``) in which ``chosen`` was taken, for the page.

    What is wrong with the place, as one sentence, is the answer's ``error``.
    """
    try:
        candidates = draw_at(place, calm.draw_pool)
    except calm.CalmError as error:
        return {"error": str(error)}
    return pool(resident(place["model"]).lm, candidates, place["chosen"])


def build(plot: VectorMapPlot, model: gr.Dropdown) -> None:
    """Draws the tab; each run is shown here and on the map ``plot`` at once."""
    gr.HTML(
        '<p class="calm-intro">Each underlined <em>chunk</em> is one step: the model draws vectors from its energy '
        "head, the autoencoder decodes each to tokens, and the temperature decides among what was drawn.</p>"
    )
    with gr.Row():
        with gr.Column(scale=5):
            prompt = gr.Textbox(
                label="Prompt",
                info="Leave it empty for a story of the model's own choice, or order one:",
                value=example()["prompt"],
                lines=2,
                max_lines=8,
                elem_id="prompt",
            )
            prompts = asset("prompts")
            gr.Examples(list(prompts.values()), prompt, example_labels=list(prompts), label="Prompts to try")
        with gr.Column(scale=4):
            temperature = gr.Slider(
                0.01, 2, value=0.5, step=0.01, label="Temperature", info="From 0.01 to 2; 0.5 to begin with.",
                elem_id="temperature",
            )  # fmt: skip
            words = gr.HTML(render.note("0.50: each chunk's odds squared"), elem_id="temperature-words")
    with gr.Row(elem_id="go-row"):
        length = gr.Slider(
            4, MAX_TOKENS, value=256, step=4, label="Length", info="Tokens at most; 256 to begin with.", scale=4,
            elem_id="length",
        )  # fmt: skip
        seed = gr.Number(0, label="Seed", info="Same seed, same text.", precision=0, elem_id="seed", scale=2)
        dice = gr.Button("⚄ New seed", size="md", scale=1, min_width=120)
        count = gr.Slider(
            1, MAX_SAMPLES, value=1, step=1, label="Samples", info="Side by side.", scale=3,
            elem_id="samples",
        )  # fmt: skip
        go = gr.Button("Generate", variant="primary", size="md", elem_id="generate", scale=2, min_width=160)
        stop = gr.Button("Stop", variant="stop", size="md", visible=False, elem_id="stop", scale=2, min_width=160)
    with gr.Accordion("Advanced", open=False):
        sampler = gr.Radio(
            ["auto", "exact", "pooled"],
            value="auto",
            label="Sampler",
            info="auto: draw until the exact rule accepts, else weight the pool. exact: no bias, up to 1.",
        )
        pool_size = gr.Slider(
            8, 1000, value=200, step=1, label="Pool size", info="Vectors drawn a step at most; 200 to begin with."
        )
    status = gr.HTML(example()["told"], elem_id="status")
    text = RunText(value=example(), elem_id="run", server_functions=[open_pool])

    def show(name, events):
        """Shows what each step brings; ``events`` is called with the model of that name once it is there."""
        doing = "Reading the prompt …" if is_resident(name) else f"{name} is being loaded …"
        yield gr.skip(), gr.skip(), render.note(doing), *busy()
        found: list[Run] = []
        try:
            for found in paced(events(resident(name))):
                yield _shown(found), _shown(found), render.summary(found, running=True), gr.skip(), gr.skip()
        except calm.CalmError as error:
            told = render.error(error)
            kept = _finished(found, told) if found else gr.skip()
            yield kept, kept, told, *idle()
            return
        assert found  # a length of at least one token means at least one step
        told = render.summary(found)
        value = _finished(found, told)
        yield value, value, told, *idle()

    def run(name, *inputs):
        yield from show(name, lambda model: stream(model, *inputs))

    def retell(event: gr.EventData):
        return event._data["told"]  # by run.js, when the visitor goes back to another branch

    def steer(temperature, length, seed, sampler, pool_size, event: gr.EventData):
        branch, settings = event._data, (temperature, length, seed, sampler, pool_size)  # the branch is from run.js
        yield from show(branch["model"], lambda model: stream(model, branch["prompt"], *settings, branch=branch))

    settings = [temperature, length, seed, sampler, pool_size]
    remembered({"prompt": prompt, "t": temperature, "length": length, "seed": seed, "sampler": sampler,
                "pool": pool_size, "samples": count})  # fmt: skip
    starts: list[tuple[list, Callable, list]] = [
        ([go.click, prompt.submit], run, [model, prompt, *settings, count]),
        ([text.submit], steer, settings),
    ]
    runs(starts, [text, plot, status, go, stop], go, stop, status)
    text.select(retell, None, status, queue=False, **PRIVATE)
    dice.click(lambda: random.randrange(1_000_000), None, seed, queue=False, **PRIVATE)
    temperature.change(
        None,
        temperature,
        words,
        js='(t) => `<p class="calm-note" role="status">${CALM.temperatureWords(t)}</p>`',
    )
