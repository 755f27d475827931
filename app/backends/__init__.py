"""What computes for the page: ``base`` is the interface, ``local`` computes in this process, ``ray`` on a cluster."""

from __future__ import annotations

import os
from functools import cache

import calm

from .base import Backend, LoadedModel
from .local import LocalBackend, LocalModel

__all__ = ["Backend", "LoadedModel", "LocalModel", "current"]


@cache
def current() -> Backend:
    """The backend of this page, by the environment variable CALM_BACKEND: ``local`` or ``ray``. Raises CalmError."""
    name = os.environ.get("CALM_BACKEND", "local")
    if name == "ray":
        from .ray import RayBackend

        return RayBackend()
    if name != "local":
        raise calm.CalmError(f"CALM_BACKEND is local or ray, not {name}.")
    return LocalBackend()
