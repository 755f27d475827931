"""Parses plain arguments. Each function raises CalmError with one sentence that has the name of the argument."""

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

import calm
from calm.errors import short_repr

WRONG_FORM = "This request does not have the form that the page sends"
"""The sentence about a request whose structure is wrong, without its full stop."""
MAX_DIGITS = 40
"""Digits of a whole number."""


def parse_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``, from a number or a numeric string. Raises CalmError."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise calm.CalmError(f"{name} must be a number, not {short_repr(value)}.")
    if not low <= number <= high:
        raise calm.CalmError(f"{name} must be between {low:g} and {high:g}, not {short_repr(value)}.")
    return number


def parse_whole(value: Any, name: str) -> int:
    """A whole number of at most 40 digits, from a number or a numeric string such as "5" or "5.0". Raises CalmError."""
    number = _decimal(value)
    if not number.is_finite() or (number.adjusted() < MAX_DIGITS and number != number.to_integral_value()):
        raise calm.CalmError(f"{name} must be a whole number, not {short_repr(value)}.")
    if number.adjusted() >= MAX_DIGITS:
        raise calm.CalmError(f"{name} must be a whole number of at most {MAX_DIGITS} digits.")
    return int(number)


def _decimal(value: Any) -> Decimal:
    """The exact value: a float would round a whole number of more than 15 digits. NaN if it is no number."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return Decimal("nan")
    try:
        return Decimal(value)
    except InvalidOperation:
        return Decimal("nan")


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


def check_encodable(value: Any) -> Any:
    """The value. Raises ValueError unless the page can send it back: text has no half of a surrogate pair, and whole
    numbers have at most 64 bits."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return value
