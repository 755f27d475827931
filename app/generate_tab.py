"""Tab "Generate": text from a prompt, chunk by chunk, at a continuous temperature."""

import json
import random
from collections.abc import Iterator
from typing import Any

import gradio as gr

import calm

from . import render
from .components import ASSETS, RunText, VectorMapPlot
from .controls import MAX_TOKENS, PRIVATE, busy, check_length, check_prompt, idle, paced, runs, whole
from .models import Resident, compute, computed, loading, resident


def example() -> dict[str, Any]:
    """The finished run that the page shows before the first click, made by ``python -m app.build``."""
    return json.loads((ASSETS / "example.json").read_text(encoding="utf-8"))


def stream(
    model: Resident, prompt, temperature, length, seed, sampler, pool_size, branch: dict[str, Any] | None = None
) -> Iterator[render.Run]:
    """The run after each step, or change of its place in the queue; a ``branch`` leaves another run at a step of it.

    Raises CalmError for bad input before the first.
    """
    prompt = check_prompt(prompt)
    run = render.Run(model.lm, model.map, prompt, temperature)
    begun = run.leave(branch) if branch else []
    options = calm.Options(
        temperature=temperature,
        max_new_tokens=check_length(length),
        pool_size=whole(pool_size, "Pool size"),
        sampler=sampler,
        seed=whole(seed, "Seed"),
        begun=begun,
    )
    events = calm.follow(model.lm, prompt, options)
    if branch:
        yield run
    for event in computed(events) if not run.value["ended"] else ():
        run.add(event)
        yield run


def open_pool(place: dict[str, Any]) -> dict[str, Any]:
    """200 fresh draws at a step of a run, for the page: ``prompt``, ``chunks`` (ids of the steps before), ``chosen``.

    What is wrong with the place, as one sentence, is the answer's ``error``.
    """
    lm = resident().lm
    try:
        prompt, chunks = check_prompt(place["prompt"]), place["chunks"][: MAX_TOKENS // lm.chunk_size]
        candidates = compute(calm.draw_pool, lm, prompt, chunks)
    except calm.CalmError as error:
        return {"error": str(error)}
    except (KeyError, TypeError):
        return {"error": "This is no step of a run."}
    return render.pool(lm, candidates, place["chosen"])


def build(plot: VectorMapPlot) -> None:
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
            prompts = json.loads((ASSETS / "prompts.json").read_text(encoding="utf-8"))
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

    def show(branch, prompt, temperature, length, seed, sampler, pool_size):
        doing = "Reading the prompt …" if loading().done() else "The model is being loaded …"
        yield gr.skip(), gr.skip(), render.note(doing), *busy()
        found: render.Run | None = None
        try:
            events = stream(resident(), prompt, temperature, length, seed, sampler, pool_size, branch)
            for found in paced(events):
                yield found.value, found.value, found.summary(running=True), gr.skip(), gr.skip()
        except calm.CalmError as error:
            kept = gr.skip() if found is None else found.value
            yield kept, kept, render.error(error), *idle()
            return
        assert found is not None  # a length of at least one token means at least one step
        told = found.summary()
        value = {**found.value, "told": told}
        yield value, value, told, *idle()

    def run(prompt, temperature, length, seed, sampler, pool_size):
        yield from show(None, prompt, temperature, length, seed, sampler, pool_size)

    def retell(event: gr.EventData):
        return event._data["told"]  # by run.js, when the visitor goes back to another branch

    def steer(temperature, length, seed, sampler, pool_size, event: gr.EventData):
        branch = event._data  # from run.js
        yield from show(branch, branch["prompt"], temperature, length, seed, sampler, pool_size)

    settings = [temperature, length, seed, sampler, pool_size]
    starts = [([go.click, prompt.submit], run, [prompt, *settings]), ([text.submit], steer, settings)]
    runs(starts, [text, plot, status, go, stop], go, stop, status)
    text.select(retell, None, status, queue=False, **PRIVATE)
    dice.click(lambda: random.randrange(1_000_000), None, seed, queue=False, **PRIVATE)
    temperature.change(
        None,
        temperature,
        words,
        js='(t) => `<p class="calm-note" role="status">${CALM.temperatureWords(t)}</p>`',
    )
