"""The state of a run on disk: weights, optimizer and progress, to resume to the step."""

import math
import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    _get_fqns,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from ..errors import CalmError
from ..files import replacing, write_json
from .settings import LoopSettings

NEWEST, PREVIOUS = "state.pt", "state.previous.pt"
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
# A part of a model that was frozen since the run's start has no optimizer state yet.
PARTIAL = replace(FULL, strict=False)


@dataclass
class Progress:
    """The progress of a run: optimizer steps, seconds of training (wall time and CPU time), best validation score."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best: float | None = None


def gather(objective: nn.Module, optimizers: list[Any]) -> dict[str, Any]:
    """Full weights and optimizer state on the main process, however they are sharded. All processes must call it."""
    bare = tuple(optimizer.optimizer for optimizer in optimizers)
    return {
        "objective": get_model_state_dict(objective, options=FULL),
        "optimizer": get_optimizer_state_dict(objective, bare, options=FULL),
    }


def full_weights(objective: nn.Module) -> dict[str, Any]:
    """The full weights of a sharded objective on the main process. All processes must call it."""
    return get_model_state_dict(objective, options=FULL)


def restore_optimizers(objective: nn.Module, optimizers: list[Any], state: dict[str, Any]) -> None:
    """Loads the optimizer state of ``gather`` into prepared optimizers."""
    bare = tuple(optimizer.optimizer for optimizer in optimizers)
    saved = set(state["optimizer"]["state"])
    set_optimizer_state_dict(objective, bare, state["optimizer"], options=PARTIAL)
    # PyTorch has made a step with zero gradients first. Parameters without a saved state have the state after it, in
    # which AdamW counts one step more than in a run without the pause.
    for name, parameter in objective.named_parameters():
        if _get_fqns(objective, name).isdisjoint(saved):
            for optimizer in bare:
                optimizer.state.pop(parameter, None)


def write(out: Path, progress: Progress, state: dict[str, Any], settings: LoopSettings, device: torch.device) -> None:
    """Writes the state beside the last one and then renames both, so that one good state exists at any time."""
    with replacing(out / NEWEST) as partial:
        _save({**asdict(progress), **state}, partial)
        if (out / NEWEST).exists():
            (out / NEWEST).replace(out / PREVIOUS)
    record = {name: value for name, value in asdict(settings).items() if value != math.inf}  # JSON has no infinity
    if device.type == "cuda":
        record["device"] = torch.cuda.get_device_name(device)
    write_json(out / "settings.json", record, indent=2, default=str)


def _save(state: dict[str, Any], path: Path) -> None:
    """``torch.save`` that raises OSError if the file cannot be written."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # how PyTorch reports the error of a write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read(out: Path) -> dict[str, Any] | None:
    """The newest state of a run folder, or None before the first. Raises CalmError if the file is damaged."""
    newest, previous = out / NEWEST, out / PREVIOUS
    if not newest.exists() and previous.exists():  # the process ended between the two renames
        newest = previous
    if not newest.exists():
        return None
    try:
        state = torch.load(newest, map_location="cpu", weights_only=True)
        if {"step", "seconds", "cpu_seconds", "best", "objective", "optimizer"} <= set(state):
            return state
    except (RuntimeError, EOFError, OSError, ValueError, TypeError, pickle.UnpicklingError):
        pass
    cure = f"rename {PREVIOUS} to {newest.name} to resume from the state before it" if previous.exists() else None
    raise CalmError(f"The training state {newest} is damaged; {cure or 'delete it to start the run again'}.")


def restore_weights(objective: nn.Module, state: dict[str, Any], out: Path) -> None:
    """Loads the weights of a state. Raises CalmError if they belong to a model of another shape."""
    try:
        objective.load_state_dict(state["objective"])
    except RuntimeError as error:
        raise CalmError(f"The training state in {out} belongs to a model of another shape; name another 'out'.") from (
            error
        )
