"""Repeats the run that a link describes: first with its settings, then with each candidate that the visitor took."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

import calm

from .fresh_samples import pool_at
from .limits import MAX_LINKED_BRANCHES
from .payloads.types import BranchRequest, Pool, RunPayload
from .registry import DEFAULT
from .requests import Chunk, ModelName, Prompt, RunSettings, Samples, StepArguments
from .validation import EVENT, Arguments


class LinkedBranch(BaseModel):
    """A step at which the visitor took another candidate, and the settings of the steps that follow."""

    step_index: Annotated[int, Field(ge=0)]
    token_ids: Chunk
    options: RunSettings


def _few(branches: list[LinkedBranch]) -> list[LinkedBranch]:
    if len(branches) > MAX_LINKED_BRANCHES:
        raise calm.CalmError(f"A link repeats at most {MAX_LINKED_BRANCHES} branches; this one has {len(branches)}.")
    return branches


class Link(BaseModel):
    """The run of a link, which is data from outside: its settings need not be complete."""

    model: Annotated[ModelName, BeforeValidator(lambda name: name or DEFAULT)]
    prompt: Prompt
    options: RunSettings
    branches: Annotated[list[LinkedBranch], AfterValidator(_few)]
    samples: Samples


class RepeatArguments(Arguments):
    """A request to repeat the run of a link."""

    mistake = "This link does not describe a run"
    link: Annotated[Link, EVENT]


def branch_request(run: RunPayload, point: LinkedBranch) -> BranchRequest:
    """The request to continue a finished run as the visitor did. Raises CalmError if the run has no such step or
    candidate, for example because the model's weights have changed since the link was made."""
    index, wanted = point.step_index, point.token_ids
    if index >= len(run["steps"]):
        raise _differs(index)
    pool: Pool = run["steps"][index]
    if _position(pool, wanted) is None:  # the visitor may have taken it from samples drawn on request
        prefix = [step["token_ids"] for step in run["steps"][:index]]
        request = {"model": run["model"], "prompt": run["prompt"], "prefix_chunks": prefix, "chosen": wanted}
        pool = pool_at(StepArguments.parse(request))
    choice = _position(pool, wanted)
    if choice is None:
        raise _differs(index)
    return {
        "model": run["model"],
        "prompt": run["prompt"],
        "run_id": run["run_id"],
        "origin": run["origin"],
        "steps": run["steps"][: index + 1],
        "vectors": run["vectors"],
        "pool": {"candidates": pool["candidates"], "other_counts": pool["other_counts"]},
        "choice": choice,
    }


def _position(pool: Pool, token_ids: list[int]) -> int | None:
    """The index of the candidate with these token ids in a pool; None if there is none."""
    return next((i for i, c in enumerate(pool["candidates"]) if c["token_ids"] == token_ids), None)


def _differs(index: int) -> calm.CalmError:
    return calm.CalmError(
        f"This page generates another text than the one of the link: the branch at step {index + 1} cannot be repeated."
    )
