"""Statistics of the samplers, fed with draws from known distributions."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from calm import CalmError
from calm.engine.samplers import ChunkSampler

from ..modeling.test_temperature import ZIPF, chi_square, tempered, total_variation

PEAKED = [0.5] + [0.01] * 50


def choices(p: list[float], temperature: float, count: int, sampler: str = "auto") -> tuple[list[int], float]:
    """Number of times that each chunk was chosen, and the mean number of draws."""
    rng, counts, draws = np.random.default_rng(3), Counter(), 0
    rule = ChunkSampler(temperature, 200, sampler, 0, torch.device("cpu"))
    for _ in range(count):
        while needed := rule.draws_needed():
            rule.feed([(int(i),) for i in rng.choice(len(p), needed, p=p)], np.zeros((needed, 1)))
        choice = rule.choice()
        counts[choice.token_ids[0]] += 1
        draws += choice.draws
    return [counts[i] for i in range(len(p))], draws / count


@pytest.mark.parametrize("temperature", [0.3, 0.4, 0.5, 0.62, 0.8, 1.0, 1.3])
@pytest.mark.parametrize("p", [ZIPF, PEAKED], ids=["zipf", "peaked"])
def test_auto_stays_near_the_tempered_distribution(p, temperature):
    count = 5000
    chosen, _ = choices(p, temperature, count)
    target = tempered(p, temperature)
    rng = random.Random(0)
    same = Counter(rng.choices(range(len(p)), target, k=count))
    chance = total_variation([same[i] / count for i in range(len(p))], target)
    assert total_variation([n / count for n in chosen], target) - chance < 0.025


@pytest.mark.parametrize("temperature", [0.4, 0.5, 0.62, 0.8, 1.0])
def test_auto_chooses_as_exact_does_where_the_pool_decides(temperature):
    """Where the exact rule hardly ever needs 200 draws, both follow p^(1/T) without bias."""
    p = [0.6, 0.25, 0.1, 0.05]
    for sampler in ("auto", "exact"):
        chosen, _ = choices(p, temperature, 4000, sampler)
        assert abs(chi_square(chosen, tempered(p, temperature))) < 4, sampler


def test_a_peaked_distribution_costs_a_handful_of_draws():
    sure, torn, flat = [0.98, 0.02], [0.5, 0.5], [0.02] * 50
    assert choices(sure, 1.0, 50)[1] == 1
    assert choices(sure, 0.5, 500)[1] < 3
    assert choices(torn, 0.5, 500)[1] < 6
    assert choices(flat, 0.5, 100)[1] < 150


def test_the_pool_decides_at_the_limit():
    rule = ChunkSampler(0.1, 20, "auto", 0, torch.device("cpu"))
    fed = 0
    while needed := rule.draws_needed():
        rule.feed([(fed + i,) for i in range(needed)], np.arange(fed, fed + needed)[:, None])
        fed += needed
    choice = rule.choice()
    assert fed == choice.draws == 20
    assert choice.vector[0] == choice.token_ids[0]  # the vector is the chosen chunk's own
    assert rule.draws_needed() == 10, "the next step starts anew"


def test_the_exact_sampler_raises_at_its_limit(monkeypatch):
    monkeypatch.setattr("calm.engine.samplers.EXACT_LIMIT", 30)
    rule = ChunkSampler(0.5, 20, "exact", 0, torch.device("cpu"))
    fed = 0
    while needed := rule.draws_needed():
        rule.feed([(fed + i,) for i in range(needed)], np.zeros((needed, 1)))
        fed += needed
    with pytest.raises(CalmError, match="within 30 draws"):
        rule.choice()
