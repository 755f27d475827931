"""The one error that callers can cause."""


class CalmError(ValueError):
    """Says in one sentence what was wrong with a request and what is allowed."""
