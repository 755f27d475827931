"""Parses plain arguments. Each function raises CalmError with one sentence that has the name of the argument."""

import math
import re
from collections.abc import Sequence
from typing import Any

import calm
from calm.errors import short_repr

MAX_DIGITS = 40
"""Digits of a whole number that arrives as text."""


def _float(value: Any) -> float:
    """The value as a float; NaN if it is no number."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def parse_number(value: Any, name: str) -> float:
    """A finite number, from a number or a numeric string. Raises CalmError."""
    number = _float(value)
    if not math.isfinite(number):
        raise calm.CalmError(f"{name} must be a number, not {short_repr(value)}.")
    return number


def parse_whole(value: Any, name: str) -> int:
    """A whole number, from a number or a numeric string such as "5" or "5.0". Raises CalmError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*", value):
        return int(value)
    number = _float(value)
    if not number.is_integer():
        raise calm.CalmError(f"{name} must be a whole number, not {short_repr(value)}.")
    return int(number)


def parse_range(value: Any, name: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``. Raises CalmError."""
    number = parse_whole(value, name)
    if not low <= number <= high:
        raise calm.CalmError(f"{name} must be between {low} and {high:,}, not {short_repr(number)}.")
    return number


def parse_text(text: Any, name: str, limit: int) -> str:
    """A text of at most ``limit`` characters; None is an empty text. Raises CalmError."""
    text = "" if text is None else text
    if not isinstance(text, str):
        raise calm.CalmError(f"The {name} must be text.")
    if len(text) > limit:
        raise calm.CalmError(f"The {name} has {len(text):,} characters; the limit is {limit:,}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise calm.CalmError(f"The {name} holds half of a surrogate pair, which is no character.") from None
    return text


def parse_choice(value: Any, name: str, choices: Sequence[Any]) -> Any:
    """One of ``choices``. Raises CalmError."""
    if not isinstance(value, str) or value not in choices:
        raise calm.CalmError(f"{name} must be one of {', '.join(choices)}, not {short_repr(value)}.")
    return value
