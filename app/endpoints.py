"""The named endpoints, for ``gradio_client`` and as MCP tools. Their docstrings become the tools' descriptions."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import cast

import gradio as gr
from typing_extensions import TypedDict

import calm

from . import backends
from .backends import LoadedModel
from .controls import throttle
from .errors import api_errors
from .limits import AT_ONCE
from .registry import loaded
from .requests import (
    GenerateArguments,
    ReconstructArguments,
    ScoreArguments,
    SearchArguments,
    TrajectoryArguments,
    check_draws,
)
from .tabs import passages
from .tabs.generate import on_model, payloads
from .tabs.measuring import measure, split_texts
from .validation import validated


class GeneratedText(TypedDict):
    """The text so far."""

    text: str
    steps: int
    ended: bool
    """Whether the text has ended by itself."""


class ReconstructedPart(TypedDict):
    """One chunk before and after the autoencoder."""

    text: str
    decoded: str
    exact: bool


class ReconstructedText(TypedDict):
    token_accuracy: float
    chunk_accuracy: float
    chunks: list[ReconstructedPart]


class PathStep(TypedDict):
    """One step of a run and the position of its predicted vector on the map."""

    index: int
    text: str
    plane: list[float]
    space: list[float]


class Score(TypedDict):
    """BrierLM with its 95 % interval, and Brier-1 to Brier-4."""

    score: float
    brier: list[float]
    low: float
    high: float
    positions: int


class FoundPassage(TypedDict):
    """A passage of the corpus, from the character ``start`` to before ``end`` of a document, counted from 0."""

    document: int
    start: int
    end: int
    text: str
    distance: float


RESULTS = {
    "generate": GeneratedText,
    "reconstruct": ReconstructedText,
    "trajectory": list[PathStep],
    "evaluate": Score,
    "search": list[FoundPassage],
}
"""What each endpoint returns."""


endpoint = partial(validated, boundary=api_errors)


@endpoint(GenerateArguments, "prompt", "temperature", "max_new_tokens", "seed", "sampler", "pool_size", "model")
def generate(arguments: GenerateArguments) -> Iterator[GeneratedText]:
    """Continues a prompt and streams the text so far: after the first step of K tokens, then up to ten times a second,
    and at the end.

    Args:
        prompt: Text to continue; empty for a random story. A story prompt gets the newline that ends it.
        temperature: Any number above 0, at most 2 (at most 1 with the exact sampler).
        max_new_tokens: From 1 to 512, rounded up to whole chunks.
        seed: Random seed, a whole number; the same seed gives the same text.
        sampler: "auto", "exact" or "pooled".
        pool_size: Maximum number of samples per step, 1 to 10,000.
        model: Name of a model in the page's menu; story-ar generates token by token, the others are CALMs.
    """
    yield from throttle(on_model(_texts, arguments))


def _texts(model: LoadedModel, arguments: GenerateArguments) -> Iterator[GeneratedText]:
    text, draws = arguments.prompt, 0
    for step in model.stream(arguments.prompt, arguments.options(), arguments.visitor):
        if isinstance(step, calm.Step):
            text += step.text
            draws += step.draws
            ended = model.lm.text_format.end_position(step.token_ids) is not None
            yield {"text": text, "steps": step.index + 1, "ended": ended}
            check_draws(draws)


@endpoint(ReconstructArguments, "text", "noise", "seed", "model")
def reconstruct(arguments: ReconstructArguments) -> ReconstructedText:
    """Encodes each chunk of K tokens to one vector and decodes it again.

    Args:
        text: Any text of up to 4,000 characters.
        noise: Standard deviation of Gaussian noise added to each posterior mean, at least 0.
        seed: Random seed of the noise, a whole number.
        model: Name of a CALM in the page's menu.
    """
    result = loaded(arguments.model).reconstruct(arguments.text, arguments.noise, arguments.seed)
    return {
        "token_accuracy": result.token_accuracy,
        "chunk_accuracy": result.chunk_accuracy,
        "chunks": [{"text": c.text, "decoded": c.decoded_text, "exact": c.exact} for c in result.chunks],
    }


@endpoint(TrajectoryArguments, "prompt", "temperature", "max_new_tokens", "seed", "model")
def trajectory(arguments: TrajectoryArguments) -> Iterator[list[PathStep]]:
    """Generates a text and streams the path of its predicted vectors on the UMAP map so far, one entry per step.

    Args:
        prompt: Text to continue, as for generate; empty for a random story.
        temperature: Any number above 0, at most 2.
        max_new_tokens: From 1 to 512, rounded up to whole chunks.
        seed: Random seed, a whole number; the same seed gives the same path.
        model: Name of a CALM in the page's menu that has a map.
    """
    loaded(arguments.model).require_map()
    for payload in throttle(on_model(payloads, arguments)):
        yield [
            {
                "index": step["index"],
                "text": step["text"],
                "plane": step["predicted"]["plane"],
                "space": step["predicted"]["space"],
            }
            for step in payload["steps"]
        ]


@endpoint(ScoreArguments)
def evaluate(arguments: ScoreArguments) -> Iterator[Score]:
    """BrierLM of a model on a text so far, with its four Brier-n, streamed after each text; blank lines separate texts.

    Args:
        text: One or more texts, up to 20,000 characters in all.
        seed: Random seed of the model's samples, a whole number.
        model: Name of a model in the page's menu.
    """
    measuring = measure(loaded(arguments.model), split_texts(arguments.text), arguments.seed)
    for (measurement,) in throttle(backends.current().iterate(measuring)):
        if measurement.result:
            yield cast(Score, measurement.result.figures())


@endpoint(SearchArguments)
def search(arguments: SearchArguments) -> list[FoundPassage]:
    """Finds the passages of a text whose chunk vectors are nearest to those of a query, the nearest first.

    Args:
        text: One or more documents, up to 20,000 characters in all; blank lines separate them.
        query: The text to search for, up to 4,000 characters.
        count: Number of passages, 1 to 50.
        model: Name of a CALM in the page's menu.
    """
    return [cast(FoundPassage, asdict(passage)) for passage in passages.find(arguments)[1]]


def build() -> None:
    """Registers the endpoints in the current Blocks."""
    groups: dict[str, list[Callable]] = {"model": [generate, trajectory], "measure": [reconstruct, evaluate, search]}
    for group, functions in groups.items():
        for function in functions:
            gr.api(function, api_name=function.__name__, concurrency_id=group, concurrency_limit=AT_ONCE[group])
