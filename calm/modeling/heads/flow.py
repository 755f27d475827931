"""The flow-matching head: a learned velocity moves noise to a latent vector (paper, section 7.4).

Flow matching (arXiv 2210.02747) along straight paths, as the official CALM code configures it. Shapes: N draws,
L latent, D hidden size; ``...`` stands for any number of positions.
"""

import torch
from torch import Tensor

from ...errors import CalmError
from ..config import CalmConfig
from .adaln import AdaLNHead

SAMPLING_STEPS = 20  # 10 midpoint steps of two evaluations
TIME_SCALE = 1000


class FlowHead(AdaLNHead):
    """The network predicts the velocity of x_t = (1 - t) noise + t target, which is target - noise: L outputs.

    The noise of a draw is [L].
    """

    def __init__(self, config: CalmConfig):
        super().__init__(config, config.latent_size, TIME_SCALE, SAMPLING_STEPS)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.latent_size,)

    def check_steps(self, steps: int) -> int:
        if steps < 2 or steps % 2:
            raise CalmError(f"A flow head evaluates its network twice a midpoint step, so not {steps} times in a draw.")
        return steps

    def draw(self, states: Tensor, noise: Tensor, rows: Tensor | None = None) -> Tensor:
        """Integrates the velocity from t = 0 to 1 by the midpoint rule."""
        evaluations = self.num_sampling_steps
        x, half = noise.float(), 1 / evaluations
        times = self.net.time_embed(torch.arange(evaluations, device=states.device) * TIME_SCALE // evaluations)
        for i in range(0, evaluations, 2):
            middle = x + half * self.net.evaluate(x, states + times[i], rows)
            x = x + 2 * half * self.net.evaluate(middle, states + times[i + 1], rows)
        return x.to(states.dtype)

    def times(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.rand(shape, generator=generator, device=like.device)

    def loss_at(self, hidden: Tensor, target: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The squared error of the velocity [...] (arXiv 2210.02747, eq. 9, with straight paths).

        hidden [..., D], target [..., L], t [...] from 0 to 1, noise [..., L].
        """
        at = t[..., None]
        velocity = self.net((1 - at) * noise + at * target, t, hidden)
        return (velocity - (target - noise)).square().mean(-1)
