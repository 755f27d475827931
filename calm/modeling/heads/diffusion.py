"""The diffusion head: 100 denoising steps turn noise into a latent vector (paper, section 7.4).

The head follows "Improved denoising diffusion" (arXiv 2102.09672) with the settings of the official CALM code and of
MAR (arXiv 2406.11838). It is trained on a cosine schedule of 1,000 steps, and predicts the noise and the variance. A
draw uses an evenly spaced subset of the steps. Shapes: N draws, L latent, D hidden size; ``...`` stands for any number
of positions.
"""

import math
from functools import cache
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...errors import CalmError
from ..config import CalmConfig
from .adaln import AdaLNHead

TRAINING_STEPS = 1000
SAMPLING_STEPS = 100
PIXEL = 1 / 255  # half a bin of 8-bit image values in [-1, 1]; the official code uses it for latent vectors, too

Values = TypeVar("Values", np.ndarray, float, Tensor)


class Schedule(NamedTuple, Generic[Values]):
    """Constants of diffusion steps: arrays of all steps (index 0 has the least noise), numbers of one step, or tensors
    of the steps of a batch."""

    timesteps: Values
    """The steps among the 1,000 of training."""
    signal: Values
    """Square root of alpha-bar: the weight of the latent vector in x_t."""
    noise: Values
    """Square root of 1 - alpha-bar: the weight of the noise in x_t."""
    posterior_start: Values
    """The weight of the latent vector in the mean of x_{t-1} given x_t and the latent vector."""
    posterior_current: Values
    """The weight of x_t in that mean."""
    log_variance: Values
    """Log of the variance of x_{t-1} given x_t and the latent vector: the smallest that the network can choose."""
    log_beta: Values
    """Log of the variance of one forward step: the largest that the network can choose."""


@cache
def schedule(steps: int = TRAINING_STEPS) -> Schedule[np.ndarray]:
    """The cosine schedule (arXiv 2102.09672, eq. 17), respaced to ``steps`` evenly spaced steps of the 1,000."""
    progress = np.arange(TRAINING_STEPS + 1) / TRAINING_STEPS
    cosine = np.cos((progress + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - cosine[1:] / cosine[:-1], 0.999))
    timesteps = np.array([round(i * (TRAINING_STEPS - 1) / (steps - 1)) for i in range(steps)])
    alpha_bar = alpha_bar[timesteps]
    before = np.append(1.0, alpha_bar[:-1])
    beta = 1 - alpha_bar / before
    variance = beta * (1 - before) / (1 - alpha_bar)
    variance[0] = variance[1]  # it is 0, which has no logarithm
    return Schedule(
        timesteps=timesteps,
        signal=np.sqrt(alpha_bar),
        noise=np.sqrt(1 - alpha_bar),
        posterior_start=beta * np.sqrt(before) / (1 - alpha_bar),
        posterior_current=(1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
        log_variance=np.log(variance),
        log_beta=np.log(beta),
    )


@cache
def timesteps(steps: int, device: torch.device) -> Tensor:
    """The timesteps of the schedule on a device [steps], cached because a CUDA graph cannot contain their transfer."""
    with torch.inference_mode(False):
        return torch.from_numpy(schedule(steps).timesteps).to(device)


def predict_previous(
    output: Tensor, x: Tensor, step: Schedule[float] | Schedule[Tensor], bound: float | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and log variance of x_{t-1}, as the network predicts them (arXiv 2102.09672, eqs. 9, 11 and 15).

    output [..., 2L] (noise, then the log variance between its bounds, as a number from -1 to 1), x [..., L]; the fields
    of ``step`` are numbers or [..., 1] -> [..., L] each. The predicted latent vector is limited to [-bound, bound].
    """
    noise, position = output.chunk(2, dim=-1)
    start = x / step.signal - (step.noise / step.signal) * noise
    if bound is not None:  # at the first step, the signal of 0.00005 multiplies an error of the noise by 20,000
        start = start.clamp(-bound, bound)
    mean = step.posterior_start * start + step.posterior_current * x
    share = (position + 1) / 2
    return mean, share * step.log_beta + (1 - share) * step.log_variance


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL divergence in nats of the first normal distribution from the other, for each dimension."""
    ratio = (log_variance - other_log_variance).exp()
    return 0.5 * (
        other_log_variance - log_variance - 1 + ratio + (mean - other_mean) ** 2 * (-other_log_variance).exp()
    )


def bin_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability in nats of the bin of width 2/255 around x under a normal distribution, for each dimension; the
    outermost bins of [-1, 1] are open."""

    def normal_cdf(z: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    scale = (-log_std).exp()
    upper, lower = normal_cdf(scale * (x - mean + PIXEL)), normal_cdf(scale * (x - mean - PIXEL))
    inside = torch.where(x > 0.999, 1 - lower, upper - lower)
    return torch.where(x < -0.999, upper, inside).clamp(min=1e-12).log()


class DiffusionHead(AdaLNHead):
    """The network predicts the noise in x_t and the variance of the step back to x_{t-1}: 2L outputs.

    The noise of a draw is [steps + 1, L]: x_T, then the noise that each step adds. The last step adds none.
    """

    def __init__(self, config: CalmConfig):
        super().__init__(config, 2 * config.latent_size, 1, SAMPLING_STEPS)
        self.bound = config.latent_bound

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.num_sampling_steps + 1, self.latent_size

    def check_steps(self, steps: int) -> int:
        if not 2 <= steps <= TRAINING_STEPS:
            raise CalmError(f"A diffusion head draws in 2 to {TRAINING_STEPS:,} steps, not {steps:,}.")
        return steps

    def draw(self, states: Tensor, noise: Tensor, rows: Tensor | None = None) -> Tensor:
        """Steps from x_T back to x_0."""
        constants = schedule(self.num_sampling_steps)
        x = noise[..., 0, :].float()
        times = self.net.time_embed(timesteps(self.num_sampling_steps, states.device))
        for drawn, t in enumerate(reversed(range(self.num_sampling_steps)), 1):
            step: Schedule[float] = Schedule(*(float(values[t]) for values in constants))
            output = self.net.evaluate(x, states + times[t], rows)
            mean, log_variance = predict_previous(output, x, step, self.bound)
            x = mean + (0.5 * log_variance).exp() * noise[..., drawn, :] if t else mean
        return x.to(states.dtype)

    def times(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randint(TRAINING_STEPS, shape, generator=generator, device=like.device)

    def loss_at(self, hidden: Tensor, target: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The hybrid loss [...] (arXiv 2102.09672, eq. 16, with weight 1): the squared error of the predicted noise,
        plus the variational bound in bits a dimension, which trains the variance alone.

        hidden [..., D], target [..., L], t [...] in 0..999, noise [..., L].
        """
        tables = (torch.from_numpy(values).float().to(t.device)[t][..., None] for values in schedule())
        step: Schedule[Tensor] = Schedule(*tables)
        x = step.signal * target + step.noise * noise
        output = self.net(x, t, hidden)
        predicted, position = output.chunk(2, dim=-1)
        mean, log_variance = predict_previous(torch.cat([predicted.detach(), position], dim=-1), x, step)
        true_mean = step.posterior_start * target + step.posterior_current * x
        kl = gaussian_kl(true_mean, step.log_variance, mean, log_variance)
        last = -bin_log_likelihood(target, mean, 0.5 * log_variance)
        bound = torch.where(t[..., None] == 0, last, kl).mean(-1) / math.log(2)
        return (predicted - noise).square().mean(-1) + bound
