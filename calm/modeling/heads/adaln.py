"""The network of the diffusion and flow heads: an MLP with layer norms that depend on the time and the hidden state.

It is the per-token MLP of MAR (arXiv 2406.11838, section 3.3) with adaptive layer norms (DiT, arXiv 2212.09748) and
the names of the official CALM code. Shapes: L latent, D hidden size; ``...`` stands for any number of positions.
"""

import math
from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CalmConfig
from .base import GenerativeHead, HeadCost, count_weights

FREQUENCIES = 256  # cosines and sines of a time
LONGEST_PERIOD = 10_000


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def select_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x[rows]


class ZeroLinear(nn.Linear):
    """A linear layer whose weights a new model sets to zero (DiT, section 3.2)."""


def modulation(width: int, parts: int) -> nn.Sequential:
    """Maps time and condition [..., D] to ``parts`` vectors of the same width."""
    return nn.Sequential(nn.SiLU(), ZeroLinear(width, parts * width))


class TimeEmbedding(nn.Module):
    """Maps a time to cosines and sines of 128 frequencies, then to a vector as wide as the hidden state."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t [...], integers from 0 to 1,000 -> [..., D]."""
        half = FREQUENCIES // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = t[..., None].float() * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(waves.to(cast(nn.Linear, self.mlp[0]).weight.dtype))


class AdaLNBlock(nn.Module):
    """A residual MLP whose input norm is shifted and scaled, and whose output is gated."""

    def __init__(self, width: int):
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = modulation(width, 3)

    def forward(self, x: Tensor, condition: Tensor, rows: Tensor | None) -> Tensor:
        shift, scale, gate = select_rows(self.adaLN_modulation(condition), rows).chunk(3, dim=-1)
        return x + gate * self.mlp(modulate(self.in_ln(x), shift, scale))


class AdaLNFinalLayer(nn.Module):
    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = ZeroLinear(width, outputs)
        self.adaLN_modulation = modulation(width, 2)

    def forward(self, x: Tensor, condition: Tensor, rows: Tensor | None) -> Tensor:
        shift, scale = select_rows(self.adaLN_modulation(condition), rows).chunk(2, dim=-1)
        return self.linear(modulate(F.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale))


class AdaLNNetwork(nn.Module):
    """Evaluates a noisy latent vector at a time, given a hidden state."""

    def __init__(self, config: CalmConfig, outputs: int, time_scale: int):
        super().__init__()
        width, self.time_scale = config.hidden_size, time_scale
        self.time_embed = TimeEmbedding(width)
        self.cond_embed = nn.Linear(width, width)
        self.input_proj = nn.Linear(config.latent_size, width)
        self.res_blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(config.num_mlp_layers))
        self.final_layer = AdaLNFinalLayer(width, outputs)

    def evaluate(self, x: Tensor, condition: Tensor, rows: Tensor | None = None) -> Tensor:
        """x [..., L], condition [..., D] (embedded time plus embedded hidden state) -> float32 [..., outputs].

        With ``rows`` [n], x is [n, L] and its i-th row reads condition[rows[i]]. Rows that share a condition share the
        modulation, which takes most of the operations.
        """
        y = self.input_proj(x.to(self.input_proj.weight.dtype))
        for block in self.res_blocks:
            y = block(y, condition, rows)
        return self.final_layer(y, condition, rows).float()

    def forward(self, x: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
        """x [..., L], t [...], hidden [..., D] -> float32 [..., outputs].

        Times are multiplied by ``time_scale`` and truncated to integers, as in the official code.
        """
        return self.evaluate(x, self.time_embed((t * self.time_scale).long()) + self.cond_embed(hidden))


class AdaLNHead(GenerativeHead):
    """A head that evaluates an ``AdaLNNetwork`` several times for one draw."""

    def __init__(self, config: CalmConfig, outputs: int, time_scale: int, default_steps: int):
        super().__init__()
        self.latent_size, self.num_samples = config.latent_size, config.num_samples
        self.num_sampling_steps = self.check_steps(config.num_sampling_steps or default_steps)
        self.net = AdaLNNetwork(config, outputs, time_scale)

    @abstractmethod
    def check_steps(self, steps: int) -> int:
        """Returns ``steps``. Raises CalmError if a draw cannot have so many evaluations."""

    @abstractmethod
    def times(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Random times of the training loss, in the units of ``loss_at``."""

    @abstractmethod
    def loss_at(self, hidden: Tensor, target: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss [...] of latent vectors ``target`` [..., L] at times ``t`` [...] with ``noise`` [..., L]."""

    def noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise of shape [*shape, *noise_shape], float32, because steps add up in float32."""
        return torch.randn((*shape, *self.noise_shape), generator=generator, device=like.device)

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> the embedded condition [..., D]."""
        return self.net.cond_embed(hidden)

    def loss(
        self,
        hidden: Tensor,
        mean: Tensor,
        std: Tensor,
        posterior_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The mean of ``loss_at`` over ``num_samples`` latent vectors of the posterior, each with a time and noise of
        its own. With ``posterior_samples`` 0 the latent vector is always the mean."""
        shape = (self.num_samples, *mean.shape)
        target = mean.float().expand(shape)
        if posterior_samples:
            target = target + std.float() * torch.randn(shape, generator=generator, device=mean.device)
        t = self.times(shape[:-1], mean, generator)
        noise = torch.randn(shape, generator=generator, device=mean.device)
        return self.loss_at(hidden, target, t, noise).mean(0)

    def cost(self) -> HeadCost:
        """Draws at one position share the modulation of the norms in each evaluation."""
        net, steps = self.net, self.num_sampling_steps
        modulated = [*net.res_blocks, net.final_layer]
        modulations = count_weights(*(cast(nn.Module, layer.adaLN_modulation) for layer in modulated))
        time, condition = count_weights(net.time_embed), count_weights(net.cond_embed)
        path = count_weights(net) - modulations - time - condition
        loss = condition + self.num_samples * (path + modulations + time)
        return HeadCost(condition + steps * (modulations + time), steps * path, loss)
