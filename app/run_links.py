"""Repeats the run that a link describes: first with its settings, then with each candidate that the visitor took."""

from typing import Annotated, Any

import calm

from .fresh_samples import pool_at
from .limits import DEFAULT_NEW_TOKENS, DEFAULT_POOL_SIZE, MAX_LINKED_BRANCHES, TEMPERATURE_DEFAULT
from .payloads.origins import BranchPoint, GenerationSettings, RepeatRequest
from .payloads.types import BranchRequest, Pool, RunPayload
from .registry import DEFAULT
from .requests import EVENT, Arguments, StepArguments


class RepeatArguments(Arguments):
    """A request to repeat the run of a link, which ``parse_link`` checks."""

    link: Annotated[Any, EVENT]


DEFAULTS: dict[str, Any] = {
    "temperature": TEMPERATURE_DEFAULT,
    "max_new_tokens": DEFAULT_NEW_TOKENS,
    "pool_size": DEFAULT_POOL_SIZE,
    "sampler": "auto",
    "seed": 0,
    "alignment": None,
}


def parse_link(data: Any) -> RepeatRequest:
    """The request of a link, which is data from outside. Its settings need not be complete, and its numbers may be
    text. Raises CalmError if it does not describe a run; the ranges of the settings are checked when it is run."""
    try:
        branches: list[BranchPoint] = [
            {
                "step_index": int(point["step_index"]),
                "token_ids": [int(i) for i in point["token_ids"]],
                "options": _settings(point["options"]),
            }
            for point in data["branches"]
        ]
        request: RepeatRequest = {
            "model": str(data["model"]) or DEFAULT,
            "prompt": str(data["prompt"]),
            "options": _settings(data["options"]),
            "branches": branches,
            "samples": int(data["samples"]),
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise calm.CalmError("This link does not describe a run.") from error
    if len(branches) > MAX_LINKED_BRANCHES:
        raise calm.CalmError(f"A link repeats at most {MAX_LINKED_BRANCHES} branches; this one has {len(branches)}.")
    return request


def _settings(data: Any) -> GenerationSettings:
    known = {**DEFAULTS, **{name: data[name] for name in DEFAULTS if name in data}}
    numbers = {name: float(known[name]) for name in ("temperature", "max_new_tokens", "pool_size", "seed")}
    return {**known, **numbers}  # type: ignore[typeddict-item,return-value]


def inputs(options: GenerationSettings) -> dict[str, Any]:
    """The settings of a run as arguments of a request."""
    return {name: value for name, value in options.items() if name != "alignment"}


def branch_request(run: RunPayload, point: BranchPoint) -> BranchRequest:
    """The request to continue a finished run as the visitor did. Raises CalmError if the run has no such step or
    candidate, for example because the model's weights have changed since the link was made."""
    index, wanted = point["step_index"], point["token_ids"]
    if not 0 <= index < len(run["steps"]):
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
