"""The types of ``RunPayload`` and of links that say how to repeat a run, and of the card that shows it."""

from typing_extensions import TypedDict  # Pydantic reads these on Python 3.11


class GenerationSettings(TypedDict):
    """The arguments of ``calm.generate`` besides model and prompt."""

    temperature: float
    max_new_tokens: int
    pool_size: int
    sampler: str
    seed: int
    alignment: str | None


class BranchPoint(TypedDict):
    """A step at which the visitor took another candidate."""

    step_index: int
    token_ids: list[int]
    """The token ids of the candidate."""
    options: GenerationSettings
    """The settings of the steps that follow."""


class RunOrigin(TypedDict):
    """What repeats a run: the same origin gives the same text."""

    model: str
    prompt: str
    options: GenerationSettings
    """The settings of the steps before the first branch."""
    branches: list[BranchPoint]
    """In the order of their steps."""


class RepeatRequest(RunOrigin):
    """A request to repeat a run, from a link."""

    samples: int
    """Runs with consecutive seeds; 1 for a run with branches."""


class RunCardPayload(TypedDict):
    """The settings of a result, and the result for export."""

    tab: str
    button: str
    """Id of the button that repeats the run."""
    facts: dict[str, str]
    """What the card shows, by name."""
    inputs: dict[str, str | float | list[str]]
    """The inputs that repeat the run, by their names in the address of the page."""
    rows: list[dict[str, str | float | None]]
    """The result as a table; all rows have the same keys, and None is an unknown value. Empty as long as the work
    runs."""
