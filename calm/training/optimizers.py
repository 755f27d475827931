"""Optimizers, learning rates and averaged weights: AdamW, and Muon for hidden matrices."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .settings import LoopSettings

MUON_MODULES = (".layers.", ".mlp_blocks.", ".embed_proj.")
"""Modules whose matrices Muon trains: layers, the head's blocks and the input projection. They map one hidden vector to
another. Embeddings, noise projections and latent projections stay with AdamW."""


def make(objective: nn.Module, settings: LoopSettings) -> list[torch.optim.Optimizer]:
    """AdamW for all trainable weights; with ``muon_learning_rate``, Muon (Jordan and others 2024) for the matrices of
    ``MUON_MODULES``, with updates as large as AdamW's at the same rate (arXiv 2502.16982)."""
    modules = MUON_MODULES if settings.muon_learning_rate else ()
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in objective.named_parameters():
        if p.requires_grad:
            use_muon = p.ndim == 2 and any(part in f".{name}" for part in modules)
            (matrices if use_muon else others).append(p)
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2), fused=True)
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=settings.muon_learning_rate,
                weight_decay=settings.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


def schedule(settings: LoopSettings, step: int) -> float:
    """The learning rate of a step as a share of its peak."""
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    progress = min(1.0, step / settings.steps)
    shapes = {
        "constant": 1.0,
        "cosine": 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
    }
    return warmup * shapes[settings.schedule]


def set_learning_rates(optimizers: Sequence[torch.optim.Optimizer], settings: LoopSettings, step: int) -> None:
    """Sets the learning rates of a step on the optimizers that ``make`` returned."""
    share = schedule(settings, step)
    for optimizer, peak in zip(optimizers, (settings.learning_rate, settings.muon_learning_rate)):
        for group in optimizer.param_groups:
            group["lr"] = peak * share


class WeightAverage:
    """The exponential moving average of a run's trainable weights, on their device.

    It reaches back over at most a tenth of the steps so far, so that it does not hold on to the initial weights.
    """

    def __init__(self, objective: nn.Module, decay: float):
        self.decay = decay
        self._own: list[Tensor] = [p for p in objective.parameters() if p.requires_grad]
        self.weights: list[Tensor] = [p.detach().clone() for p in self._own]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the weights after ``step`` steps."""
        decay = min(self.decay, step / (step + 10))
        torch._foreach_lerp_(self.weights, self._own, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the objective has the averaged weights, and ``weights`` has the objective's own."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for own, average in zip(self._own, self.weights):
            before = own.clone()
            own.copy_(average)
            average.copy_(before)
