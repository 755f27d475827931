from itertools import permutations

import pytest
import torch

from calm.modeling.losses import distances, energy_score, matched_distance


def naive(x, y, beta):
    n, m = len(x), len(y)
    fidelity = sum((a - b).norm() ** beta for a in x for b in y)
    spread = sum((x[i] - x[j]).norm() ** beta for i in range(n) for j in range(n) if i != j)
    return 2 / (n * m) * fidelity - spread / (n * (n - 1))


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5])
def test_the_energy_score_is_the_published_formula(beta):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 16, generator=generator, requires_grad=True)
    y = torch.randn(20, 16, generator=generator)
    ours, theirs = energy_score(x, y, beta), naive(x, y, beta)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(ours, x)
    (expected,) = torch.autograd.grad(theirs, x)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_leading_dimensions_are_independent():
    x, y = torch.randn(3, 5, 4, 7), torch.randn(3, 5, 6, 7)
    together = energy_score(x, y)
    assert together.shape == (3, 5)
    assert torch.allclose(together[1, 2], energy_score(x[1, 2], y[1, 2]), atol=1e-6)


def test_the_gradient_at_distance_zero_is_zero():
    x = torch.ones(2, 4, requires_grad=True)
    distances(x, torch.ones(3, 4)).sum().backward()
    assert torch.equal(x.grad, torch.zeros(2, 4))


def test_the_energy_score_is_smallest_for_the_true_distribution():
    """Means over many draws: a shifted, a narrowed and a widened sampler all score worse than the true one."""
    generator = torch.Generator().manual_seed(0)
    rounds, n, m, size = 20_000, 4, 8, 3
    y = torch.randn(rounds, m, size, generator=generator)
    z = torch.randn(rounds, n, size, generator=generator)

    def score(x):
        return float(energy_score(x, y).mean())

    best = score(z)
    assert score(z + 0.3) > best + 0.01
    assert score(0.6 * z) > best + 0.01
    assert score(1.6 * z) > best + 0.01
    assert score(torch.zeros_like(z)) > best + 0.1


def test_minimising_the_score_learns_the_true_distribution():
    """A sampler mu + sigma * z, trained with the score alone, learns the mean and the deviation of the data."""
    generator = torch.Generator().manual_seed(1)
    mu, log_sigma = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([mu, log_sigma], lr=0.03)
    target_mean, target_std = torch.tensor([1.0, -0.5]), torch.tensor([0.5, 2.0])
    for _ in range(600):
        x = mu + log_sigma.exp() * torch.randn(256, 8, 2, generator=generator)
        y = target_mean + target_std * torch.randn(256, 8, 2, generator=generator)
        optimizer.zero_grad()
        energy_score(x, y).mean().backward()
        optimizer.step()
    assert torch.allclose(mu, target_mean, atol=0.1)
    assert torch.allclose(log_sigma.exp(), target_std, atol=0.2)


def test_the_matched_distance_is_the_best_of_all_matchings():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 4, 3, generator=generator)
    d = (x[:, :, None] - y[:, None]).norm(dim=-1).sqrt()
    best = [min(one[range(4), order].mean() for order in map(list, permutations(range(4)))) for one in d]
    assert torch.allclose(matched_distance(x, y, 0.5), torch.stack(best), atol=1e-4)
    assert torch.allclose(matched_distance(x, x.flip(1)), torch.zeros(5), atol=1e-3)


def test_the_matched_distance_leaves_no_target_alone():
    """From draws between two targets, gradient descent reaches both."""
    targets = torch.tensor([[-4.0, 0.0], [-4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])[None]
    draws = torch.tensor([[0.1, 0.2], [-0.1, 0.1], [0.05, -0.2], [0.0, 0.0]])[None].requires_grad_()
    optimizer = torch.optim.SGD([draws], 0.2)
    for _ in range(200):
        optimizer.zero_grad()
        matched_distance(draws, targets).sum().backward()
        optimizer.step()
    assert sorted(draws[0, :, 0].round().tolist()) == [-4, -4, 4, 4]
