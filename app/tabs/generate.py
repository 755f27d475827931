"""Tab "Generate": text from a prompt, chunk by chunk, at a continuous temperature."""

import html
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

import calm

from .. import compute, limits, run_links, zero_gpu
from ..backends import LoadedModel, LocalModel
from ..components import RunText, VectorMapPlot
from ..controls import (
    FALLBACK_NOTE,
    PRIVATE,
    in_browser,
    new_tokens_slider,
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
from ..payloads.types import RunPayload
from ..registry import DEFAULT, loaded, loading_status
from ..requests import BranchArguments, ExampleArguments, GenerateArguments, SuggestionArguments, check_draws
from ..story_prompts import example_prompts, prompt_hint, random_prompt, suited_prompt, with_line_end
from ..streaming import Panel, Progress, wire
from ..validation import validated
from .temperature import build_mark


def example() -> RunPayload:
    """The finished run that the page shows before the first click, made by ``python -m app.build``."""
    return asset("example")


def stream(model: LoadedModel, arguments: GenerateArguments) -> Iterator[list[Run]]:
    """Runs of one prompt with consecutive seeds, generated side by side. Yields all runs after each step of one
    of them, and after each change of a position in the queue. With ``BranchArguments``, the run continues another run
    from one of its steps.

    Raises CalmError for bad input before the first yield.
    """
    options, branch = arguments.options(), arguments.branch if isinstance(arguments, BranchArguments) else None
    each = [replace(options, seed=options.seed + i) for i in range(arguments.samples)]
    runs = [Run(model, arguments.prompt, one) for one in each]
    prefix = runs[0].branch_off(branch) if branch else []
    each = [replace(one, prefix_chunks=prefix) for one in each]
    events = [model.stream(arguments.prompt, one, arguments.visitor, encodings=True) for one in each]
    if branch:
        yield runs
        if runs[0].payload["ended"]:
            return
    for step in compute.side_by_side(events):
        for run, event in zip(runs, step):
            if event is not None:
                run.add(event)
        yield runs
        check_draws(sum(run.draws for run in runs))


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
    if runs[0].model.uses_fallback:
        parts.append(FALLBACK_NOTE)
    return ("Generating … " if running else "") + " · ".join(parts)


def _progress(runs: Sequence[Run]) -> Progress:
    payload = with_samples([run.payload for run in runs])
    return Progress(summary(runs, running=True), (payload, payload))


def _finished(runs: Sequence[Run]) -> Progress:
    status = summary(runs)
    payload = with_samples([run.finished(status_line(status)) for run in runs])
    return Progress(status, (payload, payload), finished=True)


def _generate(model: LoadedModel, arguments: GenerateArguments) -> Iterator[Progress]:
    """Progress of the runs of ``stream``, on the page and on the map."""
    runs: list[Run] = []
    try:
        for runs in throttle(stream(model, arguments), keep_last=False):
            yield _progress(runs)
    except Exception:
        if runs:
            yield _finished(runs)  # the page keeps the text generated before the error
        raise
    yield _finished(runs)


def payloads(model: LoadedModel, arguments: GenerateArguments) -> Iterator[RunPayload]:
    """The payload of one run after each step."""
    for (run,) in stream(model, arguments):
        yield run.payload


def first_progress(name: str) -> Iterator[Progress]:
    """The status before the first step of a model: while it is downloaded or loaded, and while it reads the prompt."""
    for status in loading_status(name):
        yield Progress(html.escape(status))
    yield Progress("Processing the prompt …")


def _show(arguments: GenerateArguments) -> Iterator[Progress]:
    yield from first_progress(arguments.model)
    yield from _on_device(_generate, arguments)


def on_model(generate: Callable[..., Iterator[Any]], arguments: GenerateArguments) -> Iterator[Any]:
    """The items of ``generate(model, arguments)``. A story prompt gets the newline that ends it."""
    complete = with_line_end(arguments.model, arguments.prompt)
    return _on_device(generate, arguments.model_copy(update={"prompt": complete}))


def _on_device(generate: Callable[..., Iterator[Any]], arguments: GenerateArguments) -> Iterator[Any]:
    """The items of ``generate(model, arguments)``."""
    return on_device(arguments.model, generate, (arguments,), arguments.max_new_tokens * arguments.samples)


def on_device(name: str, work: Callable[..., Iterator[Any]], arguments: tuple[Any, ...], tokens: int) -> Iterator[Any]:
    """Yields the items of ``work(model, *arguments)``. A model that runs on ZeroGPU computes them in a worker process,
    every other one in this process. ``tokens`` is the largest number of tokens, from which ZeroGPU's time follows."""
    if zero_gpu.model(name) is None:
        return work(loaded(name), *arguments)
    return zero_gpu.stream(name, _in_worker, (work, *arguments), tokens)


def _in_worker(lm: "calm.LanguageModel", work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    return work(LocalModel(lm.name, lm, None), *arguments)


def repeat(arguments: run_links.RepeatArguments) -> Iterator[Progress]:
    """Progress of the run of a link, and then of each of its branches. It finishes with the last of them."""
    link, visitor = arguments.link, arguments.visitor
    first = {"model": link.model, "prompt": link.prompt, "samples": link.samples, "visitor": visitor}
    last = Progress("")
    for last in _show(GenerateArguments.parse({**link.options.model_dump(), **first})):
        yield replace(last, finished=last.finished and not link.branches)
    for number, point in enumerate(link.branches, 1):
        branch = run_links.branch_request(last.results[0], point)
        inputs = {**point.options.model_dump(), "branch": branch, "visitor": visitor}
        for last in _show(BranchArguments.parse(inputs)):
            yield replace(last, finished=last.finished and number == len(link.branches))


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
            seed = seed_box("seed", info="The same seed gives the same text.", scale=2)
            dice = gr.Button("⚄ New seed", size="md", scale=1, min_width=120)
            samples = gr.Slider(
                1,
                limits.MAX_SAMPLES,
                value=1,
                step=1,
                label="Samples",
                info="Texts that run side by side.",
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


def _run_prompt(arguments: GenerateArguments, prompt: str) -> Iterator[Progress]:
    """A run of a prompt, or of a random one where it is empty.

    The last result is the prompt if its box holds another one; else the visitor can type the next one meanwhile.
    """
    prompt = prompt if prompt.strip() else random_prompt(arguments.model)
    complete = with_line_end(arguments.model, prompt)
    note = f" · {TRAILING_SPACE}" if complete.endswith((" ", "\t")) else ""
    shown = gr.skip() if prompt == arguments.prompt else prompt
    return _beside_prompt(_show(arguments.model_copy(update={"prompt": complete})), shown, note)


def _beside_prompt(work: Iterator[Progress], prompt: Any, note: str = "") -> Iterator[Progress]:
    """The progress of a run with a third result, the prompt for its box, and a ``note`` behind each status."""
    for progress in work:
        results = progress.results or (gr.skip(), gr.skip())
        yield replace(progress, status=progress.status + note, results=(*results, prompt))


TRAILING_SPACE = "the prompt ends with a space, which the model reads as a token"
RUN_OPTIONS = ("temperature", "max_new_tokens", "seed", "sampler", "pool_size")


@validated(GenerateArguments, "model", "prompt", *RUN_OPTIONS, "samples")
def _run(arguments: GenerateArguments) -> Iterator[Progress]:
    yield from _run_prompt(arguments, arguments.prompt)


@validated(GenerateArguments, "model", *RUN_OPTIONS, "samples")
def _run_random(arguments: GenerateArguments) -> Iterator[Progress]:
    yield from _run_prompt(arguments, "")


@validated(ExampleArguments, "model", "example", *RUN_OPTIONS, "samples")
def _run_example(arguments: ExampleArguments) -> Iterator[Progress]:
    yield from _run_prompt(arguments, example_prompts(arguments.model)[arguments.example])


@validated(SuggestionArguments, "model", *RUN_OPTIONS, "samples", "suggestion")
def _run_suggestion(arguments: SuggestionArguments) -> Iterator[Progress]:
    yield from _run_prompt(arguments, arguments.suggestion.prompt)


@validated(BranchArguments, *RUN_OPTIONS, "branch")
def _branch(arguments: BranchArguments) -> Iterator[Progress]:
    yield from _beside_prompt(_show(arguments), gr.skip())


@validated(run_links.RepeatArguments, "link")
def _repeat(arguments: run_links.RepeatArguments) -> Iterator[Progress]:
    yield from _beside_prompt(repeat(arguments), gr.skip())


def _suit_prompts(name: str, prompt: str) -> tuple[Any, Any]:
    """The prompt box and the examples for another model."""
    suited = suited_prompt(name, prompt, example()["prompt"].strip())
    hint = prompt_hint(name)
    box = gr.update(placeholder=hint) if suited == prompt else gr.update(value=suited, placeholder=hint)
    return box, gr.Dataset(samples=[[text] for text in example_prompts(name)])


def build(plot: VectorMapPlot, model: gr.Dropdown) -> tuple[gr.Textbox, gr.Slider]:
    """Draws the tab. Each run is shown here and on the map ``plot``. Returns the inputs for prompt and temperature."""
    with gr.Row(elem_id="prompt-row"):
        prompt = gr.Textbox(
            suited_prompt(DEFAULT, example()["prompt"].strip(), example()["prompt"].strip()),
            label="Prompt",
            lines=1,
            max_lines=4,
            placeholder=prompt_hint(DEFAULT),
            elem_id="prompt",
            scale=6,
            min_width=300,
        )
        go, stop = start_and_stop("Generate", "generate", variant="primary", size="md", scale=1, min_width=120)
        surprise = gr.Button("Surprise me", size="md", scale=1, min_width=120, elem_id="surprise")
        with gr.Column(scale=3, min_width=260):
            temperature = temperature_slider("temperature", info=None)
            build_mark(model)
            _show_message(temperature)
    settings = _settings()
    status = gr.HTML(example()["status"], elem_id="status")
    text = RunText(value=example(), elem_id="run", server_functions=[draw_pool, place_chunks])
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[text] for text in example_prompts(DEFAULT)],
        type="values",
        label="Prompts to try",
        elem_id="examples",
    )
    gr.HTML(
        '<p class="calm-intro">Each underlined <em>chunk</em> is one step: the energy head samples vectors, the '
        "autoencoder decodes each vector to K tokens, and the temperature decides which chunk is chosen. Select a "
        "chunk to see the candidates of its step.</p>"
    )

    model.change(_suit_prompts, [model, prompt], [prompt, examples], queue=False, **PRIVATE)
    sync_with_url({"prompt": prompt, "t": temperature, **settings})
    options = [temperature, *(settings[name] for name in ("length", "seed", "sampler", "pool"))]
    wire(
        Panel([text, plot, prompt], status, go, stop),
        [
            ([go.click, prompt.submit], _run, [model, prompt, *options, settings["samples"]]),
            ([surprise.click], _run_random, [model, *options, settings["samples"]]),
            ([examples.click], _run_example, [model, examples, *options, settings["samples"]]),
            ([text.suggestion], _run_suggestion, [model, *options, settings["samples"]]),
            ([text.branch], _branch, options),
            ([text.repeat], _repeat, []),
        ],
    )
    text.show_run(None, None, status, js=in_browser("calm.shownStatus()", ""))
    return prompt, temperature
