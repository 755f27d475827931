"""Statistics of the temperature rules on known distributions."""

import itertools
import math
import random
from collections import Counter

import pytest

from calm import CalmError, temper
from calm.modeling.temperature import ExactRule

ZIPF = [1 / rank for rank in range(1, 51)]
ZIPF = [weight / sum(ZIPF) for weight in ZIPF]


def tempered(p: list[float], temperature: float) -> list[float]:
    powers = [x ** (1 / temperature) for x in p]
    return [x / sum(powers) for x in powers]


def total_variation(p, q) -> float:
    return 0.5 * sum(abs(a - b) for a, b in zip(p, q))


def chi_square(counts: list[int], p: list[float]) -> float:
    """Pearson's statistic in standard deviations of its distribution, rare cells pooled."""
    total, statistic, cells, rest_expected, rest_observed = sum(counts), 0.0, 0, 0.0, 0
    for observed, share in zip(counts, p):
        expected = total * share
        if expected < 5:
            rest_expected, rest_observed = rest_expected + expected, rest_observed + observed
            continue
        statistic += (observed - expected) ** 2 / expected
        cells += 1
    if rest_expected >= 5:
        statistic += (rest_observed - rest_expected) ** 2 / rest_expected
        cells += 1
    return (statistic - (cells - 1)) / math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_temper_is_the_published_rule_at_whole_powers(n):
    """At T = 1/n the batch rule weights a chunk by the number of ways to draw n equal ones, C(k, n)."""
    counts = [9, 7, 5, 3, 1, 1]
    ways = [math.comb(k, n) for k in counts]
    assert temper(counts, 1 / n) == pytest.approx([w / sum(ways) for w in ways], abs=1e-12)


def test_temper_is_continuous_in_the_temperature():
    counts = [60, 45, 30, 20, 15, 10, 9, 6, 3, 2]
    for n in (2, 3, 4):
        below, at, above = (temper(counts, 1 / s) for s in (n - 1e-6, n, n + 1e-6))
        assert total_variation(below, at) < 1e-4
        assert total_variation(above, at) < 1e-4
    steps = [temper(counts, 0.25 + 0.001 * i) for i in range(1000)]
    assert max(total_variation(a, b) for a, b in itertools.pairwise(steps)) < 0.02


def test_temper_falls_back_to_lower_powers_and_to_the_mode():
    assert temper([1, 1, 1], 0.3) == pytest.approx([1 / 3] * 3)
    assert temper([2, 1, 1], 0.25) == pytest.approx([1, 0, 0])
    assert temper([50, 49, 2], 0.001) == pytest.approx([1, 0, 0])
    assert sum(temper([3, 3, 1], 1.7)) == pytest.approx(1)


def test_temper_refuses_bad_arguments():
    for bad in (0, -1, float("nan"), "warm", None):
        with pytest.raises(CalmError, match="temperature must be above 0"):
            temper([1, 2], bad)
    with pytest.raises(CalmError, match="at least one chunk"):
        temper([], 0.5)


@pytest.mark.parametrize(("temperature", "bound"), [(0.4, 0.02), (0.5, 0.02), (0.62, 0.035), (0.8, 0.06), (1.0, 0.01)])
def test_pooled_rule_is_close_to_the_target(temperature, bound):
    """Total variation between the average of ``temper`` over pools of 200 and p^(1/T), on a Zipf of 50 chunks."""
    rng = random.Random(1)
    mean = [0.0] * len(ZIPF)
    rounds = 3000
    for _ in range(rounds):
        counts = Counter(rng.choices(range(len(ZIPF)), ZIPF, k=200))
        for chunk, probability in zip(counts, temper(list(counts.values()), temperature)):
            mean[chunk] += probability / rounds
    assert total_variation(mean, tempered(ZIPF, temperature)) < bound


def exact_draws(p, temperature: float, count: int, seed: int) -> tuple[list[int], int]:
    rng = random.Random(seed)
    rule = ExactRule(temperature, rng.random)
    counts, draws = [0] * len(p), 0
    stream = iter(lambda: rng.choices(range(len(p)), p, k=4096), None)
    buffer: list[int] = []
    while sum(counts) < count:
        if not buffer:
            buffer = next(stream)
        draws += 1
        if rule.feed(draw := buffer.pop()):
            counts[draw] += 1
            rule = ExactRule(temperature, rng.random)
    return counts, draws


@pytest.mark.parametrize("temperature", [0.3, 1 / 3, 0.4, 0.5, 0.62, 0.8, 1.0])
def test_exact_rule_passes_a_chi_square_test(temperature):
    p = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
    counts, _ = exact_draws(p, temperature, 20_000, seed=7)
    assert abs(chi_square(counts, tempered(p, temperature))) < 4


def test_the_chi_square_test_rejects_a_wrong_temperature():
    """The chi-square test has power: it rejects the neighbouring temperature."""
    p = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
    counts, _ = exact_draws(p, 0.5, 20_000, seed=7)
    assert chi_square(counts, tempered(p, 0.55)) > 10


def test_exact_rule_covers_only_temperatures_up_to_one():
    with pytest.raises(CalmError, match=r"at most 1.*pooled one can"):
        ExactRule(1.2, random.random)


def test_the_smallest_temperature_chooses_the_mode():
    assert temper([3, 2, 3], 5e-324) == [0.5, 0.0, 0.5]
