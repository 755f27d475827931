"""What the generative heads have in common: each maps a hidden state and noise to a sample of the next latent vector.

Shapes: N draws, L latent, D hidden size; ``...`` stands for any number of positions, for example [B, T].
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class HeadCost(NamedTuple):
    """How many weights of a head's matrices are multiplied; each costs two floating-point operations."""

    position: int
    """Once for a position, whatever the number of draws."""
    draw: int
    """Once for each draw."""
    loss: int
    """In one position of the training loss."""


class GenerativeHead(nn.Module, ABC):
    """An implicit sampler: given a position's hidden state, each noise tensor determines one draw (paper, section 3.2).

    The random numbers of a draw are all in its noise, so a draw depends neither on other draws nor on their order.
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
        """hidden [..., D] -> head states [..., *state]: what any number of draws at these positions need."""

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

    @abstractmethod
    def cost(self) -> HeadCost:
        """The weights that a position, a draw and the training loss multiply."""

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """hidden [..., D], noise [N, ..., *noise_shape] (or without N) -> latent vectors [N, ..., L]."""
        return self.draw(self.project(hidden), noise)

    def sample(self, hidden: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """hidden [..., D] -> ``count`` independent draws at each position [count, ..., L]."""
        return self(hidden, self.noise((count, *hidden.shape[:-1]), hidden, generator))


def count_weights(*modules: nn.Module) -> int:
    """How many numbers the matrices of modules hold."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)
