"""Temperature for a sampler without probabilities (paper, section 5), extended to any temperature.

Target: p_T(x) proportional to p(x)^s with s = 1/T.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from ..errors import CalmError, short_repr

T = TypeVar("T", bound=Hashable)
MAXIMUM = 2.0


def check_temperature(temperature: float, highest: float = MAXIMUM) -> float:
    """The temperature as a float. Raises CalmError unless it is a number above 0 and at most ``highest``."""
    try:
        value = math.nan if isinstance(temperature, bool) else float(temperature)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0 < value <= highest:
        reason = "; the exact sampler cannot raise it above 1, the pooled one can" if highest == 1 else ""
        raise CalmError(
            f"The temperature must be above 0 and at most {highest:g}, not {short_repr(temperature)}{reason}."
        )
    return value


def temper(counts: Sequence[int], temperature: float) -> list[float]:
    """Counts [n] of the distinct chunks of a pool -> the probability [n] with which to select each.

    The weight of a chunk that occurs k times is the falling factorial of real order,
    ``Gamma(k + 1) / Gamma(k + 1 - s)`` for k >= max(1, floor(s)), else 0. At s = n it is the published batch rule
    (section 5.3, Algorithm 2), n! times C(k, n). Between whole numbers it is the Bernoulli factory of the exact
    sampler, averaged over all orders of the pool. If no chunk repeats often enough, s decreases by 1 until one does,
    but never below 1. The bias vanishes as the pool grows. Raises CalmError for a bad temperature or an empty pool.
    """
    s = min(1 / check_temperature(temperature, math.inf), 1e300)  # the inverse of the smallest floats is infinite
    highest = max(counts, default=0)
    if highest < 1 or min(counts) < 0:
        raise CalmError("A pool needs at least one chunk, and counts are not negative.")
    if len(counts) == 1:
        return [1.0]
    if math.floor(s) > highest:
        s = max(1.0, highest + (s - math.floor(s)))
    least = max(1, math.floor(s))
    logs = [math.lgamma(k + 1) - math.lgamma(k + 1 - s) if k >= least else -math.inf for k in counts]
    peak = max(logs)
    weights = [math.exp(log - peak) for log in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


class ExactRule(Generic[T]):
    """Exact rejection sampling from p_T with draws of p, fed one by one (section 5.1, Algorithm 1).

    Write s = n + a with n whole and 0 <= a < 1. Stage 1 needs n equal draws x. Stage 2 is a Bernoulli factory for
    p(x)^a (Mendo 2019): for i = 1, 2, ... accept if the next draw equals x, else reject with probability a / i. A
    rejection starts again at stage 1. ``uniform`` returns random numbers in [0, 1). Raises CalmError for a temperature
    above 1.
    """

    def __init__(self, temperature: float, uniform: Callable[[], float]):
        s = 1 / check_temperature(temperature, 1.0)
        # Rounding can move 1 / T off a whole number, for example at T = 1/3.
        whole = round(s)
        self.n, self.a = (whole, 0.0) if abs(s - whole) < 1e-9 else (math.floor(s), s - math.floor(s))
        self.uniform = uniform
        self._restart()

    def _restart(self) -> None:
        self.run, self.trials = 0, 0
        self.value: T | None = None

    def feed(self, draw: T) -> bool:
        """Takes one draw. True if the rule accepts; this draw is then the accepted value."""
        if self.run < self.n:
            if self.run and draw != self.value:
                self._restart()
                return False
            self.value = draw
            self.run += 1
            return self.run == self.n and self.a == 0
        if draw == self.value:
            return True
        self.trials += 1
        if self.uniform() < self.a / self.trials:
            self._restart()
        return False
