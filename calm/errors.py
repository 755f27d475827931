"""The one error that callers can cause, and checks that several calls share."""


class CalmError(ValueError):
    """Says in one sentence what was wrong with a request and what is allowed."""


def check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raises CalmError unless ``value`` is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limits = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
        raise CalmError(f"{name} must be a whole number {limits}, not {value!r}.")


def check_seed(seed: object) -> None:
    """Raises CalmError unless ``seed`` is one that every generator of random numbers takes."""
    check_whole("seed", seed, 0, 2**63 - 1)
