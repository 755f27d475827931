"""What changes the weights, and at which rate: AdamW, and Muon for some of the matrices."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import CalmError

if TYPE_CHECKING:
    from .loop import LoopSettings

ORTHOGONALISED = (".layers.", ".mlp_blocks.", ".embed_proj.")
"""Whose matrices are Muon's where it is asked for: layers, the head's blocks, and the reading of a chunk. They map one
hidden vector to another; embeddings and what meets noise or latent vectors stay AdamW's."""


def make(objective: nn.Module, settings: "LoopSettings") -> list[torch.optim.Optimizer]:
    """AdamW for all that learns, and with ``settings.muon`` Muon (Jordan and others 2024) for the matrices of
    ``ORTHOGONALISED``, with updates as large as AdamW's at the same rate (arXiv 2502.16982)."""
    served = ORTHOGONALISED if settings.muon else ()
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in objective.named_parameters():
        if p.requires_grad:
            chosen = p.ndim == 2 and any(part in f".{name}" for part in served)
            (matrices if chosen else rest).append(p)
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2), fused=True)
    ]
    if matrices:
        made.append(
            torch.optim.Muon(
                matrices, lr=settings.muon, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return made


def schedule(settings: "LoopSettings", step: int) -> float:
    """The share of its peak that a rate has at a step. Raises CalmError if the schedule is not known."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    progress = min(1.0, step / settings.steps)
    shapes = {
        "constant": 1.0,
        "cosine": 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
    }
    if settings.schedule not in shapes:
        raise CalmError(f"The schedule {settings.schedule!r} is not known; use constant, cosine or linear.")
    return warmup * shapes[settings.schedule]


def set_rates(optimizers: Sequence[torch.optim.Optimizer], settings: "LoopSettings", step: int) -> None:
    """Gives the optimizers of ``make`` their rates of a step."""
    share = schedule(settings, step)
    for optimizer, peak in zip(optimizers, (settings.learning_rate, settings.muon)):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
