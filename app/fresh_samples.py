"""Fresh samples at a step of a run: the server functions behind "Draw 200 samples" in the text and on the map."""

from collections.abc import Callable
from typing import Any

import calm

from . import compute
from .controls import parse_prompt
from .errors import answers_with_error
from .limits import FRESH_SAMPLES, MAX_NEW_TOKENS
from .payloads.latent import cloud
from .payloads.runs import pool
from .payloads.types import Cloud, Pool, StepRequest
from .registry import LoadedModel, loaded


@answers_with_error
def draw_pool(request: StepRequest) -> Pool:
    """The candidates among fresh samples at a step."""
    model, candidates = _draw(request, calm.draw_pool)
    return pool(model.lm, candidates, request["chosen"], request["prefix_chunks"])


@answers_with_error
def draw_cloud(request: StepRequest) -> Cloud:
    """Fresh vectors at a step, on the map."""
    model, (vectors, token_ids) = _draw(request, calm.draw_vectors)
    return cloud(model, vectors, token_ids)


def _draw(request: StepRequest, draw: Callable[..., Any]) -> tuple[LoadedModel, Any]:
    """The model, and the result of ``draw`` for this step. Raises CalmError if the request is not a step of a run."""
    try:
        model = loaded(request["model"])
        prompt = parse_prompt(request["prompt"])
        prefix = request["prefix_chunks"][: MAX_NEW_TOKENS // model.lm.chunk_size]
        return model, compute.run(draw, model.lm, prompt, prefix, FRESH_SAMPLES)
    except (KeyError, TypeError) as error:
        raise calm.CalmError("This is not a step of a run.") from error
