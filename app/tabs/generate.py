"""Tab "Generate": text from a prompt, chunk by chunk, at a continuous temperature."""

import html
import itertools
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

import calm

from .. import limits, zero_gpu
from ..components import RunText, VectorMapPlot
from ..controls import (
    FALLBACK_NOTE,
    PRIVATE,
    in_browser,
    new_tokens_slider,
    parse_int,
    parse_new_tokens,
    parse_prompt,
    parse_seed,
    seed_box,
    start_and_stop,
    status_line,
    sync_with_url,
    temperature_slider,
    throttle,
)
from ..files import asset
from ..fresh_samples import draw_pool
from ..map_queries import place_chunks
from ..payloads.runs import Run, with_samples
from ..payloads.types import BranchRequest, RunPayload
from ..registry import LoadedModel, is_loaded, loaded, uses_fallback
from ..story_prompts import example_prompts, random_prompt, with_line_end
from ..streaming import Panel, Progress, wire


def example() -> RunPayload:
    """The finished run that the page shows before the first click, made by ``python -m app.build``."""
    return asset("example")


def stream(
    model: LoadedModel,
    prompt: Any,
    temperature: Any,
    max_new_tokens: Any,
    seed: Any,
    sampler: Any,
    pool_size: Any,
    samples: Any = 1,
    *,
    branch: BranchRequest | None = None,
) -> Iterator[list[Run]]:
    """Runs of one prompt with consecutive seeds, generated side by side. Yields all runs after each step of one
    of them, and after each change of a position in the queue. With a ``branch``, the run continues another run from
    one of its steps.

    Raises CalmError for bad input before the first yield.
    """
    prompt = parse_prompt(prompt)
    options = calm.GenerationOptions(
        temperature=temperature,
        max_new_tokens=parse_new_tokens(max_new_tokens),
        pool_size=parse_int(pool_size, "Max samples per step"),
        sampler=sampler,
        seed=parse_seed(seed),
    )
    each = [replace(options, seed=options.seed + i) for i in range(_parse_samples(samples))]
    runs = [Run(model, prompt, one) for one in each]
    prefix = runs[0].branch_off(branch) if branch else []
    events = [calm.stream(model.lm, prompt, replace(one, prefix_chunks=prefix)) for one in each]
    if branch:
        yield runs
    for step in _side_by_side(events) if not runs[0].payload["ended"] else ():
        for run, event in zip(runs, step):
            if event is not None:
                run.add(event)
        yield runs


def _parse_samples(value: Any) -> int:
    samples = parse_int(value, "Samples")
    if not 1 <= samples <= limits.MAX_SAMPLES:
        raise calm.CalmError(f"Samples must be between 1 and {limits.MAX_SAMPLES}.")
    return samples


def _side_by_side(generators: Sequence[Generator]) -> Generator[tuple, None, None]:
    """The next event of each generator, None of those that have ended."""
    try:
        yield from itertools.zip_longest(*generators)
    finally:
        for generator in generators:
            generator.close()


def summary(runs: Sequence[Run], running: bool = False) -> str:
    """One line of figures: steps, tokens, speed, and the steps of a token-by-token model."""
    queued = [run.queued.position for run in runs if run.queued]
    steps = [step for run in runs for step in run.payload["steps"]]
    if queued and not steps:
        ahead = min(queued)
        return f"Queued: {ahead} request{'s' * (ahead != 1)} ahead …"
    if not steps:
        return "Processing the prompt …" if running else ""
    lm = runs[0].lm
    tokens = len(steps) * lm.chunk_size
    # Samples are generated in the same steps, so the run takes as long as its slowest sample.
    seconds = max(sum(step["seconds"] for step in run.payload["steps"]) for run in runs)
    parts = [
        f"<strong>{len(steps)}</strong> step{'s' * (len(steps) != 1)}",
        f"<strong>{tokens}</strong> token{'s' * (tokens != 1)}",
    ]
    if seconds:  # zero if the visitor chose every step by hand
        parts.append(f"<strong>{tokens / seconds:.0f}</strong> tokens/s")
    if lm.is_calm:
        parts.append(f"{sum(step['draws'] for step in steps) / len(steps):.0f} samples per step")
    if lm.chunk_size > 1:
        parts.append(f"a token-by-token model needs <strong>{tokens}</strong> steps")
    if uses_fallback(lm):
        parts.append(FALLBACK_NOTE)
    return ("Generating … " if running else "") + " · ".join(parts)


def _progress(runs: Sequence[Run]) -> Progress:
    payload = with_samples([run.payload for run in runs])
    return Progress(summary(runs, running=True), (payload, payload))


def _finished(runs: Sequence[Run]) -> Progress:
    status = summary(runs)
    payload = with_samples([run.finished(status_line(status)) for run in runs])
    return Progress(status, (payload, payload))


def _generate(model: LoadedModel, inputs: tuple[Any, ...], branch: BranchRequest | None = None) -> Iterator[Progress]:
    """Progress of the runs of ``stream``, on the page and on the map."""
    runs: list[Run] = []
    try:
        for runs in throttle(stream(model, *inputs, branch=branch)):
            yield _progress(runs)
    except Exception:
        if runs:
            yield _finished(runs)  # the page keeps the text generated before the error
        raise
    yield _finished(runs)


def _payloads(model: LoadedModel, inputs: tuple[Any, ...]) -> Iterator[RunPayload]:
    for (run,) in stream(model, *inputs):
        yield run.payload


def _show(name: str, inputs: tuple[Any, ...], branch: BranchRequest | None = None) -> Iterator[Progress]:
    yield Progress("Processing the prompt …" if is_loaded(name) else f"{html.escape(str(name))} is being loaded …")
    yield from _on_device(name, _generate, inputs, branch)


def run_payloads(name: str, *inputs: Any) -> Iterator[RunPayload]:
    """The payload of one run after each step; ``inputs`` are those of ``stream``, for one sample."""
    yield from _on_device(name, _payloads, inputs)


def _on_device(name: str, generate: Callable[..., Iterator[Any]], inputs: tuple[Any, ...], *more: Any) -> Iterator[Any]:
    """The items of ``generate(model, inputs, *more)``, computed in this process or in a worker with a ZeroGPU."""
    if zero_gpu.model(name) is None:
        return generate(loaded(name), inputs, *more)
    _, _, max_new_tokens, _, _, _, *samples = inputs
    tokens = parse_new_tokens(max_new_tokens) * (_parse_samples(samples[0]) if samples else 1)
    return zero_gpu.stream(name, _in_worker, (generate, inputs, *more), tokens)


def _in_worker(lm: "calm.LanguageModel", generate: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    return generate(LoadedModel(lm.name, lm, None), *arguments)


def _show_message(temperature: gr.Slider) -> None:
    """A line below the slider that describes the effect of the temperature."""
    message = gr.HTML(
        status_line("0.50: each chunk's probability squared, then renormalised"), elem_id="temperature-words"
    )
    words = '`<p class="calm-note" role="status">${calm.temperatureMessage(t)}</p>`'
    temperature.change(None, temperature, message, js=in_browser(words, "t"))


def _settings() -> dict[str, Any]:
    """The folded settings of a run besides prompt and temperature, by their names in the address of the page."""
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row(elem_id="go-row"):
            length = new_tokens_slider("length", limits.DEFAULT_NEW_TOKENS, scale=4)
            seed = seed_box("seed", info="Same seed, same text.", scale=2)
            dice = gr.Button("⚄ New seed", size="md", scale=1, min_width=120)
            samples = gr.Slider(
                1,
                limits.MAX_SAMPLES,
                value=1,
                step=1,
                label="Samples",
                info="Side by side.",
                scale=3,
                elem_id="samples",
            )
        sampler = gr.Radio(
            ["auto", "exact", "pooled"],
            value="auto",
            label="Sampler",
            info="auto: exact where it accepts within the pool, else pooled. exact: unbiased, T ≤ 1. "
            "pooled: weights one batch of samples.",
        )
        pool_size = gr.Slider(
            limits.POOL_SIZE_MIN,
            limits.POOL_SIZE_MAX,
            value=limits.DEFAULT_POOL_SIZE,
            step=1,
            label="Max samples per step",
            info=f"Default {limits.DEFAULT_POOL_SIZE}.",
        )
    dice.click(lambda: random.randrange(1_000_000), None, seed, queue=False, **PRIVATE)
    return {"length": length, "seed": seed, "sampler": sampler, "pool": pool_size, "samples": samples}


def build(plot: VectorMapPlot, model: gr.Dropdown) -> None:
    """Draws the tab. Each run is shown here and on the map ``plot``."""
    with gr.Row(elem_id="prompt-row"):
        prompt = gr.Textbox(
            example()["prompt"].strip(),
            label="Prompt",
            lines=1,
            max_lines=4,
            placeholder="Empty: a random story",
            elem_id="prompt",
            scale=6,
            min_width=300,
        )
        go, stop = start_and_stop("Generate", "generate", variant="primary", size="md", scale=1, min_width=120)
        surprise = gr.Button("Surprise me", size="md", scale=1, min_width=120, elem_id="surprise")
        with gr.Column(scale=3, min_width=260):
            temperature = temperature_slider("temperature", info=None)
            _show_message(temperature)
    settings = _settings()
    status = gr.HTML(example()["status"], elem_id="status")
    text = RunText(value=example(), elem_id="run", server_functions=[draw_pool, place_chunks])
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[text] for text in example_prompts()],
        type="values",
        label="Prompts to try",
        elem_id="examples",
    )
    gr.HTML(
        '<p class="calm-intro">Each underlined <em>chunk</em> is one step: the energy head samples vectors, the '
        "autoencoder decodes each vector to K tokens, and the temperature decides which chunk is chosen. Select a "
        "chunk to see the candidates of its step.</p>"
    )

    def run(name: str, prompt: str | None, *inputs: Any) -> Iterator[Progress]:
        prompt = prompt if prompt and prompt.strip() else random_prompt(name)
        for progress in _show(name, (with_line_end(name, prompt), *inputs)):
            results = progress.results or (gr.skip(), gr.skip())
            yield Progress(progress.status, (*results, prompt))

    def run_random(name: str, *inputs: Any) -> Iterator[Progress]:
        return run(name, None, *inputs)

    def run_example(name: str, sample: list[str], *inputs: Any) -> Iterator[Progress]:
        return run(name, sample[0], *inputs)

    def run_suggestion(name, temperature, length, seed, sampler, pool_size, samples, event: gr.EventData):
        return run(name, event._data["prompt"], temperature, length, seed, sampler, pool_size, samples)

    def branch(temperature, length, seed, sampler, pool_size, event: gr.EventData) -> Iterator[Progress]:
        request: BranchRequest = event._data
        inputs = (request["prompt"], temperature, length, seed, sampler, pool_size)
        for progress in _show(request["model"], inputs, request):
            results = progress.results or (gr.skip(), gr.skip())
            yield Progress(progress.status, (*results, gr.skip()))

    def show_status(event: gr.EventData) -> str:
        return event._data["status"]

    sync_with_url({"prompt": prompt, "t": temperature, **settings})
    options = [temperature, *(settings[name] for name in ("length", "seed", "sampler", "pool"))]
    wire(
        Panel([text, plot, prompt], status, go, stop),
        [
            ([go.click, prompt.submit], run, [model, prompt, *options, settings["samples"]]),
            ([surprise.click], run_random, [model, *options, settings["samples"]]),
            ([examples.click], run_example, [model, examples, *options, settings["samples"]]),
            ([text.suggestion], run_suggestion, [model, *options, settings["samples"]]),
            ([text.branch], branch, options),
        ],
    )
    text.show_run(show_status, None, status, queue=False, **PRIVATE)
