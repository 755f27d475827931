"""The training losses of all models, each with the number of its equation in the paper.

Shapes: B any leading dimensions, K tokens a chunk, L latent, V vocabulary, D hidden, N samples of the head, M samples
of the posterior.
"""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

MASKED = -100
"""The label of a token that is no target, as in PyTorch's cross-entropy."""


def cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    """logits [B, V] and the true ids [B] -> mean of -log p(id) in nats a token. Ids of -100 do not count; without any
    other, the result is 0."""
    total = F.cross_entropy(logits.flatten(0, -2).float(), ids.flatten(), ignore_index=MASKED, reduction="sum")
    return total / (ids != MASKED).sum().clamp(min=1)


def reconstruction_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """logits [B, K, V] of the decoder and the true ids [B, K] -> -log p(chunk | vector) in nats a chunk, averaged over
    the chunks (eq. 1)."""
    return ids.shape[-1] * cross_entropy(logits, ids)


def clamped_kl(mean: Tensor, log_std: Tensor, floor: float) -> Tensor:
    """Posterior mean and log_std [B, L] -> its KL divergence from the standard normal prior in nats a chunk, averaged
    over the chunks (eqs. 3 and 4).

    Each latent dimension counts at least ``floor`` nats, so that no dimension gains by collapsing to the prior.
    """
    kl = 0.5 * (mean.square() + log_std.exp().square() - 1 - 2 * log_std)
    return kl.clamp(min=floor).sum(-1).mean()


def autoencoder_loss(logits: Tensor, ids: Tensor, kl: Tensor, kl_weight: float) -> Tensor:
    """The reconstruction loss of logits [B, K, V] plus the weighted KL divergence, in nats a chunk (eq. 2)."""
    return reconstruction_loss(logits, ids) + kl_weight * kl


def distances(x: Tensor, y: Tensor, beta: float = 1.0) -> Tensor:
    """Euclidean distances to the power beta: x [B, N, L], y [B, M, L] -> [B, N, M].

    Computed as |x|^2 + |y|^2 - 2 x.y with a matrix product, without the [N, M, L] tensor of differences. The gradient
    at distance zero is set to zero, so that training also works with an exponent below 1, whose gradient is unbounded
    near zero.
    """
    # A squared distance is the small difference of large numbers, so its products are never rounded to bfloat16.
    with torch.autocast(x.device.type, enabled=False):
        squares = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
        squared = squares - 2 * x @ y.transpose(-1, -2)
        return squared.clamp(min=1e-8).pow(beta / 2)


def energy_score(samples: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """samples [B, N, L] of the model and targets [B, M, L] of the data -> the energy score [B]; lower is better.

    ``2 / (NM) sum |x_i - y_j|^beta - 1 / (N (N - 1)) sum_{i != j} |x_i - x_j|^beta`` (eq. 10): an unbiased estimate of
    a strictly proper scoring rule for 0 < beta < 2 (the paper's alpha, beta in the official configuration). Its
    expectation is smallest where both distributions agree.
    """
    n = samples.shape[-2]
    fidelity = distances(samples, targets, beta).mean((-1, -2))
    diagonal = torch.eye(n, dtype=torch.bool, device=samples.device)
    spread = distances(samples, samples, beta).masked_fill(diagonal, 0).sum((-1, -2)) / (n * (n - 1))
    return 2 * fidelity - spread


def matched_distance(samples: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """samples [P, N, L] of the model and N equally likely targets [P, N, L] -> the mean of |x_i - y_j|^beta [P] over
    the pairs of the one-to-one matching where it is smallest: the optimal transport cost between the two sets (ours,
    no equation of the paper).

    Its gradient pulls a draw between two targets towards one of them; that of the energy score is nearly zero there.
    It is not a proper score: for a finite N its minimum favours likely targets.
    """
    from scipy.optimize import linear_sum_assignment  # belongs to the extra for training

    cost = distances(samples, targets, beta)
    matching = np.array([linear_sum_assignment(one)[1] for one in cost.detach().cpu().numpy()])
    chosen = torch.from_numpy(matching).to(cost.device)
    return cost.gather(-1, chosen[..., None]).squeeze(-1).mean(-1)


def posterior_divergence(mean: Tensor, std: Tensor, teacher_mean: Tensor, teacher_std: Tensor) -> Tensor:
    """KL divergence of a posterior [B, L] from a teacher's, in nats a chunk, averaged over the chunks: distillation of
    an autoencoder (ours, no equation of the paper)."""
    return kl_divergence(Normal(teacher_mean, teacher_std), Normal(mean, std)).sum(-1).mean()


def hidden_state_distance(hidden: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of hidden states [B, D] from a teacher's, in units of the teacher's variance: distillation
    of a backbone (ours, no equation of the paper)."""
    return F.mse_loss(hidden.float(), teacher.float()) / teacher.float().var()
