"""What computes for the page: ``base`` is the interface, ``local`` computes in this process."""

from __future__ import annotations

from functools import cache

from .base import Backend, LoadedModel
from .local import LocalBackend, LocalModel

__all__ = ["Backend", "LoadedModel", "LocalModel", "current"]


@cache
def current() -> Backend:
    """The backend of this page."""
    return LocalBackend()
