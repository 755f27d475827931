"""Builds ``RunCardPayload``, the card that says how a result was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from .origins import RunCardPayload

LONGEST_FACT = 60
"""Characters of a fact on the card; its end is cut off."""


def run_card(
    tab: str,
    button: str,
    facts: Mapping[str, Any],
    inputs: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]] = (),
) -> RunCardPayload:
    """The card of a result in a tab, which the button with this id repeats. ``inputs`` are by their names in the
    address of the page; ``rows`` are the result as a table, once it is complete."""
    return {
        "tab": tab,
        "button": button,
        "facts": {name: _fact(value) for name, value in facts.items()},
        "inputs": dict(inputs),
        "rows": [dict(row) for row in rows],
    }


def _fact(value: Any) -> str:
    text = " ".join(f"{value:g}".split() if isinstance(value, float) else str(value).split())
    return text if len(text) <= LONGEST_FACT else f"{text[: LONGEST_FACT - 1]}…"
