"""The interface of the generative heads: a hidden state and noise in, a sample of the next latent vector out.

Shapes: N draws, L latent, D hidden size; ``...`` stands for any number of positions, for example [B, T].
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class HeadCost(NamedTuple):
    """The number of weights that a head multiplies. Each weight costs two floating-point operations."""

    position: int
    """Per position, for any number of draws."""
    draw: int
    """Per draw."""
    loss: int
    """Per position of the training loss."""


class GenerativeHead(nn.Module, ABC):
    """An implicit sampler: given a position's hidden state, each noise tensor determines one draw (paper, section 3.2).

    All random numbers of a draw come from its noise, so a draw does not depend on other draws or on their order.
    """

    num_sampling_steps: int
    """Evaluations of the head's network in one draw."""

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one draw."""

    @abstractmethod
    def noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise of shape [*shape, *noise_shape], drawn in float32 on the device of ``like``."""

    @abstractmethod
    def project(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> head states [..., *state], which all draws at these positions share."""

    @abstractmethod
    def draw(self, states: Tensor, noise: Tensor, rows: Tensor | None = None) -> Tensor:
        """states [..., *state], noise [N, ..., *noise_shape] (or without N) -> latent vectors [N, ..., L].

        With ``rows`` [n], the i-th of n draws reads states[rows[i]]: states [R, *state], noise [n, *noise_shape] ->
        [n, L].
        """

    @abstractmethod
    def loss(
        self,
        hidden: Tensor,
        mean: Tensor,
        std: Tensor,
        posterior_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The training loss of each position [...], for hidden states [..., D] and the posterior of the next chunk:
        mean [..., L] and standard deviation [..., L].

        ``posterior_samples`` is 0 for a loss against the mean alone.
        """

    def loss_against(self, hidden: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The training loss of each position [P], for hidden states [P, D] and M equally likely vectors [P, M, L] in
        random order. The base class uses the first target."""
        target = targets[:, 0]
        return self.loss(hidden, target, torch.zeros_like(target), 0, generator)

    @abstractmethod
    def cost(self) -> HeadCost:
        """The weights multiplied per position, per draw and in the training loss."""

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """hidden [..., D], noise [N, ..., *noise_shape] (or without N) -> latent vectors [N, ..., L]."""
        return self.draw(self.project(hidden), noise)

    def sample(self, hidden: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """hidden [..., D] -> ``count`` independent draws at each position [count, ..., L]."""
        return self(hidden, self.noise((count, *hidden.shape[:-1]), hidden, generator))


def count_weights(*modules: nn.Module) -> int:
    """The number of weights in the matrices of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)
