"""A run on its way to the page: JSON Lines that grow at their end.

Gradio sends what was appended to a text, and nothing else of it. Of nested values, both it and the page compare and
copy every part at each update, so that a long run would reach the page later and later.
"""

from typing import Any, cast

import orjson

from .types import RunPayload

LAST = ("ended", "finished", "status", "vectors")
"""The keys of a run whose values are known at its end."""


def run_lines(run: RunPayload) -> str:
    """A line with the run and its samples without their steps, then a line ``[sample, step]`` for each step, and for
    finished runs a line with the rest. ``assets/js/run_lines.js`` reads them."""
    members = [run, *run.get("samples", [])]
    lines: list[Any] = [[_without(member, "steps", "samples", *LAST) for member in members]]
    for index in range(max(len(member["steps"]) for member in members)):
        lines += [[i, member["steps"][index]] for i, member in enumerate(members) if index < len(member["steps"])]
    if run["finished"]:
        lines.append([{key: cast(dict, member)[key] for key in LAST if key in member} for member in members])
    return "".join(orjson.dumps(line).decode() + "\n" for line in lines)


def _without(run: RunPayload, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in keys}
