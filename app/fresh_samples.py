"""Fresh samples at a step of a run: the server functions behind "Draw 200 samples" in the text and on the map."""

from .errors import answers_with_error
from .limits import FRESH_SAMPLES
from .payloads.latent import cloud
from .payloads.runs import pool
from .payloads.types import Cloud, Pool
from .registry import loaded
from .requests import StepArguments
from .shares import DRAWS
from .validation import validated_message


@answers_with_error
@validated_message(StepArguments, DRAWS)
def draw_pool(step: StepArguments) -> Pool:
    """The candidates among fresh samples at a step."""
    return pool_at(step)


def pool_at(step: StepArguments) -> Pool:
    """The same for a caller in Python. Raises CalmError."""
    model = loaded(step.model)
    candidates = model.draw_pool(step.prompt, step.prefix_chunks, FRESH_SAMPLES)
    return pool(model.lm, candidates, step.chosen, step.prefix_chunks)


@answers_with_error
@validated_message(StepArguments, DRAWS)
def draw_cloud(step: StepArguments) -> Cloud:
    """Fresh vectors at a step, on the map."""
    model = loaded(step.model)
    vectors, token_ids = model.draw_vectors(step.prompt, step.prefix_chunks, FRESH_SAMPLES)
    return cloud(model, vectors, token_ids)
