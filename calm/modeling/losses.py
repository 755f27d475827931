"""The energy score (paper, section 3.3.2)."""

import torch
from torch import Tensor


def distances(x: Tensor, y: Tensor, beta: float = 1.0) -> Tensor:
    """Euclidean distances to the power beta: x [..., N, L], y [..., M, L] -> [..., N, M].

    By the matrix product |x|^2 + |y|^2 - 2 x.y, without the [N, M, L] tensor of differences. The gradient at distance
    zero is zero, so that an exponent below 1, whose gradient grows without bound near it, can be trained by.
    """
    squares = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    squared = squares - 2 * x @ y.transpose(-1, -2)
    return squared.clamp(min=1e-8).pow(beta / 2)


def energy_score(samples: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """samples [..., N, L] of the model and targets [..., M, L] of the data -> the energy score [...]; lower is better.

    ``2 / (NM) sum |x_i - y_j|^beta - 1 / (N (N - 1)) sum_{i != j} |x_i - x_j|^beta`` (eq. 10): an unbiased estimate of
    a strictly proper scoring rule for 0 < beta < 2 (the paper's alpha, beta in the official configuration), which is
    smallest in expectation where both distributions agree.
    """
    n = samples.shape[-2]
    # A squared distance is the small difference of large numbers, so its products are never rounded to bfloat16.
    with torch.autocast(samples.device.type, enabled=False):
        fidelity = distances(samples, targets, beta).mean((-1, -2))
        diagonal = torch.eye(n, dtype=torch.bool, device=samples.device)
        spread = distances(samples, samples, beta).masked_fill(diagonal, 0).sum((-1, -2)) / (n * (n - 1))
    return 2 * fidelity - spread
