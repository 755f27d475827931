"""The arguments of what concerns the map of chunk vectors: fits, positions and neighbours."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from calm import CalmError

from . import limits
from .parsing import check_encodable, parse_number, parse_range, parse_whole
from .payloads.types import OwnRun
from .registry import allows_other_models
from .requests import Chunk, ModelName, Seed
from .validation import EVENT, Arguments


def _check_prompts(runs: list[OwnRun]) -> list[OwnRun]:
    """Raises ValueError if a run has a prompt that no run of the page can have."""
    if any(len(run["prompt"]) > limits.MAX_PROMPT + 1 for run in runs):  # a story prompt gets the end of its line
        raise ValueError
    return runs


OwnRuns = Annotated[
    list[OwnRun],
    Field(max_length=limits.MAX_FIT_VECTORS),
    AfterValidator(check_encodable),
    AfterValidator(_check_prompts),
]
"""The finished runs of a visit."""


class FitArguments(Arguments):
    """A map of a visitor's own runs. Shape of the vectors of each run: [steps, L]."""

    mistake = "There are no vectors to fit: generate a text first"
    model: ModelName
    own: Annotated[OwnRuns, Field(min_length=1)]
    neighbours: Annotated[int, BeforeValidator(partial(parse_range, name="Neighbours", low=2, high=100))]
    min_dist: Annotated[float, BeforeValidator(partial(parse_number, name="The minimum distance"))]
    metric: str
    dimensions: Annotated[int, BeforeValidator(partial(parse_whole, name="Dimensions"))]
    seed: Seed


def _check_source(source: str) -> str:
    """A source without spaces around it. Raises CalmError if the host does not allow it."""
    if not allows_other_models():
        raise CalmError("This host makes maps of its own texts only (CALM_ALLOW_MODELS).")
    if not source.strip():
        raise CalmError("Name the texts of the map: a file or a folder of this machine, or hub:OWNER/NAME.")
    if len(source) > limits.MAX_PROMPT:
        raise CalmError(f"The name of a source has at most {limits.MAX_PROMPT:,} characters.")
    return source.strip()


class MapRequest(BaseModel):
    """The data of the page's event for a model that has no map, with the runs of this visit to place on it."""

    model: ModelName
    own: OwnRuns


class MapArguments(Arguments):
    request: Annotated[MapRequest, EVENT]


class SourceArguments(Arguments):
    """A source of texts from which the map of a model is made, with the runs of this visit to place on it."""

    model: ModelName
    own: OwnRuns
    source: Annotated[str, AfterValidator(_check_source)]


class Choice(BaseModel):
    """The data of the page's event for another model."""

    model: ModelName


class ChoiceArguments(Arguments):
    choice: Annotated[Choice, EVENT]


class ChunksArguments(Arguments):
    """Chunks to place on the map. Shape: [n, K]."""

    mistake = "These are no chunks of token ids"
    model: ModelName
    chunks: Annotated[list[Chunk], Field(min_length=1, max_length=limits.MAX_PLACED_CHUNKS)]


class NearestArguments(Arguments):
    """A chunk whose neighbours are searched: one of the map by its index, or any token ids."""

    mistake = "There is no such chunk on the map"
    model: ModelName
    chunks: Annotated[list[Chunk], Field(max_length=limits.MAX_PLACED_CHUNKS)] = []
    index: Annotated[int, Field(ge=0)] | None = None
