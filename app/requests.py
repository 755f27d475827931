"""The arguments of every endpoint, page event and server function. ``app.validation`` checks them.

Numbers may be numbers or numeric strings, and a text may be None, which is an empty text. A bad argument is a
``CalmError`` with one sentence.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

import calm

from . import limits
from .parsing import check_encodable, parse_choice, parse_number, parse_range, parse_text, parse_whole
from .payloads.types import BranchRequest, Coordinate
from .registry import DEFAULT, check_name, facts
from .story_prompts import example_prompts
from .validation import EVENT, Arguments


def check_draws(draws: int) -> None:
    """Raises CalmError for more samples than one run may draw."""
    if draws > limits.MAX_RUN_DRAWS:
        raise calm.CalmError(
            f"A run may draw {limits.MAX_RUN_DRAWS:,} samples in all, and this one needs {draws:,}: "
            "lower the tokens, the texts or the samples per step."
        )


parse_evaluation = partial(parse_text, name="text", limit=limits.MAX_EVALUATION)
ModelName = Annotated[str, BeforeValidator(check_name)]
Prompt = Annotated[str, BeforeValidator(partial(parse_text, name="prompt", limit=limits.MAX_PROMPT))]
Text = Annotated[str, BeforeValidator(partial(parse_text, name="text", limit=limits.MAX_TEXT))]
Texts = Annotated[str, BeforeValidator(parse_evaluation)]
Temperature = Annotated[float, BeforeValidator(partial(parse_number, name="The temperature"))]
Noise = Annotated[float, BeforeValidator(partial(parse_number, name="The noise", low=0, high=limits.MAX_NOISE))]
NewTokens = Annotated[
    int, BeforeValidator(partial(parse_range, name="Max new tokens", low=1, high=limits.MAX_NEW_TOKENS))
]
Seed = Annotated[int, BeforeValidator(partial(parse_whole, name="Random seed"))]
PoolSize = Annotated[int, BeforeValidator(partial(parse_whole, name="Max samples per step"))]
Sampler = Annotated[
    str, BeforeValidator(partial(parse_choice, name="The sampler", choices=("auto", "exact", "pooled")))
]
Samples = Annotated[int, BeforeValidator(partial(parse_range, name="Samples", low=1, high=limits.MAX_SAMPLES))]
Chunk = Annotated[list[int], Field(max_length=64)]
Chunks = Annotated[list[Chunk], Field(max_length=limits.MAX_NEW_TOKENS)]
Vector = Annotated[list[Coordinate], Field(max_length=limits.MAX_VECTOR)]


class RunSettings(BaseModel):
    """The settings of a run besides model and prompt."""

    model_config = ConfigDict(frozen=True)
    temperature: Temperature = limits.TEMPERATURE_DEFAULT
    max_new_tokens: NewTokens = limits.DEFAULT_NEW_TOKENS
    seed: Seed = 0
    sampler: Sampler = "auto"
    pool_size: PoolSize = limits.DEFAULT_POOL_SIZE


class GenerateArguments(Arguments, RunSettings):
    """What one run is generated from."""

    model: ModelName = DEFAULT
    prompt: Prompt = ""
    samples: Samples = 1

    @model_validator(mode="after")
    def _within_budget(self) -> Self:
        """The samples of a pooled run of a CALM with a known chunk size are known before it starts; the run itself
        checks those of every other."""
        is_pooled = self.temperature > 1 or self.sampler == "pooled"
        if is_pooled and (known := facts(self.model)) and known.latent_size:
            steps = -(-self.max_new_tokens // known.chunk_size)
            check_draws(self.samples * steps * max(self.pool_size, 0))
        return self

    def options(self) -> calm.GenerationOptions:
        """The options of the first sample. Raises CalmError for numbers outside the ranges of the library."""
        return calm.GenerationOptions(
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            pool_size=self.pool_size,
            sampler=self.sampler,
            seed=self.seed,
        )


class TrajectoryArguments(GenerateArguments):
    """What the path of a run is generated from."""

    max_new_tokens: NewTokens = limits.DEFAULT_PATH_TOKENS


def _example(value: Any) -> int:
    return parse_range(value, "The example", 0, len(example_prompts(DEFAULT)) - 1)  # every model has as many


class ExampleArguments(GenerateArguments):
    """A run of one of the prompts to try."""

    example: Annotated[int, BeforeValidator(_example)]
    """Index of the prompt."""


class Suggestion(BaseModel):
    """The data of the page's event for a suggested prompt."""

    prompt: Prompt


class SuggestionArguments(GenerateArguments):
    """A run of a suggested prompt."""

    suggestion: Annotated[Suggestion, EVENT]


class BranchArguments(GenerateArguments):
    """A run that continues another one. ``branch`` is the data of the page's event; it holds model and prompt, too."""

    mistake = "A branch must continue from a step of an existing run"
    branch: Annotated[BranchRequest, AfterValidator(check_encodable), EVENT]

    @model_validator(mode="before")
    @classmethod
    def _model_and_prompt(cls, values: Any) -> Any:
        """The model and the prompt of the run that is continued. Its other values must not become arguments."""
        branch = values.get("branch") if isinstance(values, dict) else None
        if not isinstance(branch, dict):
            return values
        return {**{name: branch[name] for name in ("model", "prompt") if name in branch}, **values}


class ReconstructArguments(Arguments):
    model: ModelName = DEFAULT
    text: Text
    noise: Noise = 0.0
    seed: Seed = 0


class EvaluateArguments(Arguments):
    temperatures: ClassVar[tuple[float, ...]] = (1.0,)
    """The temperatures at which each model is measured."""
    text: Texts
    models: Annotated[list[ModelName], Field(max_length=100)]
    seed: Seed = 0

    @model_validator(mode="after")
    def _within_budget(self) -> Self:
        work = len(self.text) * len(set(self.models)) * len(self.temperatures)
        if work > limits.MAX_EVALUATION_WORK:
            factors = "Characters times models" + " times temperatures" * (len(self.temperatures) > 1)
            raise calm.CalmError(
                f"{factors} must be at most {limits.MAX_EVALUATION_WORK:,}, not {work:,}: choose fewer models or a "
                "shorter text."
            )
        return self


class BrierCurveArguments(EvaluateArguments):
    temperatures = limits.COMPARED_TEMPERATURES


class ScoreArguments(Arguments):
    """An evaluation of one model."""

    text: Texts
    seed: Seed = 0
    model: ModelName = DEFAULT


class SearchArguments(Arguments):
    """A search in the chunks of a corpus."""

    text: Texts
    query: Annotated[str, BeforeValidator(partial(parse_text, name="query", limit=limits.MAX_TEXT))]
    count: Annotated[
        int, BeforeValidator(partial(parse_range, name="The number of passages", low=1, high=limits.MAX_PASSAGES))
    ] = limits.DEFAULT_PASSAGES
    model: ModelName = DEFAULT


class StepArguments(Arguments):
    """A step of a run, at which fresh samples are drawn."""

    mistake = "This is not a step of a run"
    model: ModelName
    prompt: Prompt
    prefix_chunks: Chunks
    chosen: Chunk = []


class WalkArguments(Arguments):
    """A walk through latent space. Shape of ``mean`` and ``target``: [L]."""

    mistake = "This is not a vector of the latent space"
    model: ModelName
    mean: Vector
    direction: Annotated[int, Field(ge=0, lt=limits.WALK_DIRECTIONS)] | None = None
    target: Vector | None = None

    @model_validator(mode="after")
    def _has_direction_or_target(self) -> Self:
        if self.direction is None and self.target is None:
            raise ValueError("a direction or a target is missing")
        return self
