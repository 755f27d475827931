"""The error that a caller can cause, and checks of arguments."""

from operator import index


class CalmError(ValueError):
    """An invalid request. The message is one sentence: what was wrong, and what is allowed."""


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """The value as an int. Raises CalmError unless it is a whole number from ``low`` to ``high``."""
    try:
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        limits = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
        raise CalmError(f"{name} must be a whole number {limits}, not {short_repr(value)}.")
    return number


def check_seed(seed: object) -> int:
    """The seed as an int. Raises CalmError unless every random number generator accepts it."""
    return check_integer("seed", seed, 0, 2**63 - 1)


def short_repr(value: object) -> str:
    """The text of a value in an error message, at most 60 characters."""
    try:
        text = repr(value)
    except Exception:  # for example an integer of more digits than Python converts
        text = f"this {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def reason_of(error: BaseException) -> str:
    """The first line of an exception's message; without a message, the name of its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python or PyTorch says that the memory of the machine or of its GPU is full."""
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):
        return True
    # PyTorch's allocator of the CPU, and a GPU whose memory is full before PyTorch has any of it
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("can't allocate memory", "out of memory")
    )
