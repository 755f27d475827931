"""The energy head: hidden state and noise in, a sample of the next latent vector out (paper, section 3.3.3)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CalmConfig


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
        """The share of the condition [..., D] in the first map, which reads noise path and condition side by side."""
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


class EnergyHead(nn.Module):
    """An implicit sampler: each noise vector gives one draw from the distribution of the next latent vector."""

    def __init__(self, config: CalmConfig):
        super().__init__()
        width = config.hidden_size
        self.noise_size = config.noise_size
        self.noise_embd = nn.Linear(config.noise_size, width)
        self.hidden_embd = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width, eps=1e-6)
        self.norm_noise = nn.LayerNorm(width, eps=1e-6)
        self.mlp_blocks = nn.ModuleList(HeadBlock(width) for _ in range(config.num_mlp_layers))
        self.final_layer = FinalLayer(width, config.latent_size)

    def project(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] -> what each block needs of it [blocks, ..., D], computed once for any number of draws."""
        condition = self.norm_hidden(self.hidden_embd(hidden))
        return torch.stack([cast(HeadBlock, block).project(condition) for block in self.mlp_blocks])

    def draw(self, projected: Tensor, noise: Tensor) -> Tensor:
        """projected [blocks, ..., D], noise [N, ..., noise_size] (or without N) -> latent [N, ..., L]."""
        x = self.norm_noise(self.noise_embd(noise))
        for block, condition in zip(self.mlp_blocks, projected):
            x = block(x, condition)
        return self.final_layer(x)

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """hidden [..., D], noise [N, ..., noise_size] (or without N) -> latent [N, ..., L]."""
        return self.draw(self.project(hidden), noise)

    def noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Uniform noise on [-0.5, 0.5) of shape [*shape, noise_size], drawn in float32 on the device of ``like``."""
        drawn = torch.rand((*shape, self.noise_size), generator=generator, device=like.device)
        return (drawn - 0.5).to(like.dtype)
