"""The energy head: hidden state and noise in, a sample of the next latent vector out (paper, section 3.3.3)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CalmConfig
from ..losses import distances, energy_score, matched_distance
from .base import GenerativeHead, HeadCost, count_weights


class HeadBlock(nn.Module):
    """Mixes the hidden state into the noise path through a gated MLP with a residual."""

    def __init__(self, width: int):
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.linears = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * width)
        )
        self.down_proj = nn.Linear(width, width)

    @property
    def mix(self) -> nn.Linear:
        return cast(nn.Linear, self.linears[0])

    def project(self, condition: Tensor) -> Tensor:
        """The first map of the condition [..., D] alone; ``mix`` reads noise path and condition together."""
        return F.linear(condition, self.mix.weight[:, self.mix.out_features :], self.mix.bias)

    def forward(self, x: Tensor, projected: Tensor) -> Tensor:
        first, _, second, _, third = cast(list[nn.Linear], self.linears)
        y = F.linear(self.in_ln(x), first.weight[:, : first.out_features]) + projected
        y = F.linear(F.silu(y), second.weight, second.bias)
        y = F.linear(F.silu(y), third.weight, third.bias)
        gate, up = y.chunk(2, dim=-1)
        return x + self.down_proj(F.silu(gate) * up)


class FinalLayer(nn.Module):
    def __init__(self, width: int, latent: int):
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.linears = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, latent))

    def forward(self, x: Tensor) -> Tensor:
        return self.linears(self.in_ln(x))


class EnergyHead(GenerativeHead):
    """One evaluation of the network turns uniform noise on [-0.5, 0.5) into a draw; the energy score trains it, or a
    cross-entropy with coupled noise (``calm.training``)."""

    num_sampling_steps = 1

    def __init__(self, config: CalmConfig):
        super().__init__()
        width = config.hidden_size
        self.noise_size, self.num_samples, self.beta = config.noise_size, config.num_samples, config.beta
        self.noise_embd = nn.Linear(config.noise_size, width)
        self.hidden_embd = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width, eps=1e-6)
        self.norm_noise = nn.LayerNorm(width, eps=1e-6)
        self.mlp_blocks = nn.ModuleList(HeadBlock(width) for _ in range(config.num_mlp_layers))
        self.final_layer = FinalLayer(width, config.latent_size)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.noise_size,)

    def noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform noise on [-0.5, 0.5) of shape [*shape, noise_size], drawn in float32 on the device of ``like``."""
        drawn = torch.rand((*shape, *self.noise_shape), generator=generator, device=like.device)
        return (drawn - 0.5).to(like.dtype)

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> the part of each block's input that depends on it [..., blocks, D]."""
        condition = self.norm_hidden(self.hidden_embd(hidden))
        return torch.stack([cast(HeadBlock, block).project(condition) for block in self.mlp_blocks], dim=-2)

    def draw(self, states: Tensor, noise: Tensor, rows: Tensor | None = None) -> Tensor:
        if rows is not None:
            states = states[rows]
        x = self.norm_noise(self.noise_embd(noise))
        for block, state in zip(self.mlp_blocks, states.unbind(-2)):
            x = block(x, state)
        return self.final_layer(x)

    def loss(
        self,
        hidden: Tensor,
        mean: Tensor,
        std: Tensor,
        posterior_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The energy score [...] of ``num_samples`` draws against ``posterior_samples`` of the posterior (eq. 10)."""
        shape = (posterior_samples, *mean.shape)
        noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
        targets = mean + std * noise if posterior_samples else mean[None]  # [M, ..., L]
        samples = self.sample(hidden, self.num_samples, generator)
        return energy_score(samples.movedim(0, -2).float(), targets.movedim(0, -2).float(), self.beta)

    def loss_against(self, hidden: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Half of the energy score (eq. 10) plus the matched distance of as many draws as targets [P, M, L]. Where all
        targets are equal, the distance of one draw: all draws should reach the same vector.

        Not a proper score: even choices stay even, but a rare target gets too little probability. Of two distant
        vectors one of probability below 1/18 gets none (M = 8).
        """
        same = (targets == targets[:, :1]).all(-1).all(-1)
        loss = hidden.new_zeros(len(hidden), dtype=torch.float32)
        if same.any():
            draw = self.sample(hidden[same], 1, generator).movedim(0, -2).float()
            loss[same] = distances(draw, targets[same][:, :1].float(), self.beta).flatten()
        if not same.all():
            samples = self.sample(hidden[~same], targets.shape[1], generator).movedim(0, -2).float()
            wanted = targets[~same].float()
            loss[~same] = energy_score(samples, wanted, self.beta) / 2 + matched_distance(samples, wanted, self.beta)
        return loss

    def cost(self) -> HeadCost:
        blocks = [cast(HeadBlock, block) for block in self.mlp_blocks]
        position = count_weights(self.hidden_embd) + sum(block.mix.weight.numel() // 2 for block in blocks)
        draw = count_weights(self) - position
        return HeadCost(position, draw, position + self.num_samples * draw)
