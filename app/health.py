"""``/health``: whether the page can serve requests, and ``/metrics``, for load balancers, containers and monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import calm

from . import compute, metrics
from .leases import NoRoomError
from .registry import DEFAULT, is_unloaded, load_error, loaded_names, on_fallback, used_memory

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from calm.doctor import Check


def machine_checks() -> list[Check]:
    """A short description of the hardware that computes. The first call imports torch."""
    from calm import doctor

    return doctor.machine()


def health() -> dict[str, Any]:
    """``status`` is ``starting``, ``ready``, ``degraded``, ``stopping`` or ``failed``; ``reasons`` are sentences.

    A starting page has not loaded its default model yet; if it had no room for it, the reason says so, and the next
    request for the model tries again. A degraded page serves every request, but slower. A stopping one refuses
    requests, because the process ends. A failed one cannot load its default model. A ready page has no reasons.
    ``memory`` has the bytes of each loaded model in this process. ``machine`` is the short report of ``calm doctor``,
    by the names of its checks; it comes once the default model has been loaded.
    """
    models = loaded_names()
    was_loaded = DEFAULT in models or is_unloaded(DEFAULT)
    reasons: list[str] = []
    status = "ready"
    if compute.is_closed():
        status, reasons = "stopping", ["The page is being restarted."]
    elif (error := load_error(DEFAULT)) is not None and not isinstance(error, NoRoomError):
        status, reasons = "failed", [_failure(error)]
    elif not was_loaded:
        status, reasons = "starting", [str(error) if error else f"{DEFAULT} is being loaded."]
    elif slow := on_fallback():
        status, reasons = "degraded", [f"The CPU kernels of {', '.join(slow)} are not compiled, so PyTorch computes."]
    machine = {check.name: check.message for check in machine_checks()} if was_loaded else {}
    memory = used_memory() if models else {}
    return {"status": status, "reasons": reasons, "models": models, "memory": memory, "machine": machine}


def _failure(error: BaseException) -> str:
    """One sentence about the load of the default model. The log describes an error of the program."""
    if isinstance(error, calm.CalmError):
        return str(error)
    return f"{DEFAULT} could not be loaded because of an error in the program ({type(error).__name__})."


def routes() -> list[BaseRoute]:
    """``/health`` and ``/metrics``. They must come before Gradio's routes, which end in one that matches every path."""
    from fastapi import APIRouter
    from fastapi.responses import JSONResponse, Response

    router = APIRouter()

    @router.get("/health")
    def answer() -> JSONResponse:
        state = health()
        return JSONResponse(state, status_code=503 if state["status"] in ("stopping", "failed") else 200)

    @router.get("/metrics")
    def measure() -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE_LATEST)

    return router.routes
