"""Fresh samples at a step of a run: the server functions behind "Draw 200 samples" in the text and on the map."""

from collections.abc import Callable
from typing import Any

import calm

from . import compute
from .errors import answers_with_error
from .limits import FRESH_SAMPLES, MAX_NEW_TOKENS
from .payloads.latent import cloud
from .payloads.runs import pool
from .payloads.types import Cloud, Pool
from .registry import LoadedModel, loaded
from .requests import StepArguments, validated_message
from .shares import DRAWS


@answers_with_error
@validated_message(StepArguments, DRAWS)
def draw_pool(step: StepArguments) -> Pool:
    """The candidates among fresh samples at a step."""
    return pool_at(step)


def pool_at(step: StepArguments) -> Pool:
    """The same for a caller in Python. Raises CalmError."""
    model, candidates = _draw(step, calm.draw_pool)
    return pool(model.lm, candidates, step.chosen, step.prefix_chunks)


@answers_with_error
@validated_message(StepArguments, DRAWS)
def draw_cloud(step: StepArguments) -> Cloud:
    """Fresh vectors at a step, on the map."""
    model, (vectors, token_ids) = _draw(step, calm.draw_vectors)
    return cloud(model, vectors, token_ids)


def _draw(step: StepArguments, draw: Callable[..., Any]) -> tuple[LoadedModel, Any]:
    """The model, and the result of ``draw`` for this step. Raises CalmError if the request is not a step of a run."""
    model = loaded(step.model)
    prefix = step.prefix_chunks[: MAX_NEW_TOKENS // model.lm.chunk_size]
    return model, compute.run(draw, model.lm, step.prompt, prefix, FRESH_SAMPLES)
