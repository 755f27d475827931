"""Samplers choose the next chunk of a text among draws of the generative head, or its next token by probabilities.

A chunk sampler requests draws in growing batches until its rule decides. One batch draws for several requests.
R rows (one for each request), n draws, L latent, V vocabulary.
"""

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..errors import CalmError
from ..modeling.heads.base import GenerativeHead
from ..modeling.temperature import ExactRule, temper
from .head import HeadStep, TokenIds
from .token_step import TokenDraws, TokenStep

SAMPLERS = ("auto", "exact", "pooled")
EXACT_LIMIT = 20_000  # draws in one step after which the exact sampler gives up
LARGEST_BATCH = 128  # draws of one request in a step: more would delay the first chunk of other requests
NOISE_BATCH = 64  # noise vectors generated at once; fewer take as long


CandidateFigures = tuple[TokenIds, int, float]
"""A distinct chunk of the pool, its count and its tempered probability."""


@dataclass(frozen=True)
class Choice:
    """The chunk of one step, and what it was chosen from."""

    token_ids: TokenIds
    vector: np.ndarray | None
    """float32 [L], the latent vector that was decoded; None for a token-by-token model."""
    candidates: Callable[[], list[CandidateFigures]]
    """Computes the candidates of this step, most probable first. It is a function because most callers never need
    them."""
    draws: int
    random_numbers: int = 0
    """Uniform numbers that the rule used besides the noise of the draws."""


@dataclass(frozen=True)
class CompletedStep:
    """A step that was chosen elsewhere, with what a sampler needs to continue after it as if it had chosen it."""

    token_ids: TokenIds
    draws: int
    random_numbers: int


Outcome = Choice | Exception | None
"""The result of a batch of draws for one request: a choice, an error, or None if it needs more draws."""


class ChunkSampler:
    """Chooses chunks of one text at a temperature, step after step (paper, section 5).

    The first chunk must start with ``prefix``; other draws are discarded.
    """

    def __init__(
        self, temperature: float, pool_size: int, sampler: str, seed: int, device: torch.device, prefix: TokenIds = ()
    ):
        self.temperature, self.pool_size = temperature, pool_size
        # Above T = 1 no rejection rule exists: it would have to accept with a probability above 1.
        self.sampler = "pooled" if temperature > 1 else sampler
        self.limit = EXACT_LIMIT if self.sampler == "exact" else pool_size
        self.generator = torch.Generator(device).manual_seed(seed)
        self.random = random.Random(seed)
        self.noise_vectors, self.noise_used = torch.empty(0), 0
        self.random_numbers = 0
        self._start_step(prefix)

    def _start_step(self, prefix: TokenIds = ()) -> None:
        self.prefix = prefix
        self.rule: ExactRule[TokenIds] | None = (
            None if self.sampler == "pooled" else ExactRule(self.temperature, self._uniform)
        )
        self.pool: list[TokenIds] = []
        self.vectors: list[np.ndarray] = []
        self.chosen: int | None = None
        self.drawn, self.random_numbers = 0, 0

    def _uniform(self) -> float:
        self.random_numbers += 1
        return self.random.random()

    def skip(self, steps: Sequence[CompletedStep], head: HeadStep, like: Tensor) -> None:
        """Moves the generators behind steps that were chosen elsewhere. It draws their noise, but no vectors.

        The steps have the batches of this machine's ``head``, so the next draws are those of the sampler that chose
        them, if both machines have the same hardware. ``like`` has device and dtype of the head states.
        """
        for step in steps:
            while self.drawn < step.draws and (count := self.draws_needed(head.free_draws)) > 0:
                self.noise(count, head.head, like)
                self.noise_used += count
                self.drawn += count
            for _ in range(step.random_numbers):
                self.random.random()
            self._start_step()

    def draws_needed(self, free_draws: int = 1) -> int:
        """The number of draws to feed next; 0 once the step is decided or the limit is reached.

        ``free_draws`` is the number of draws that take no longer than one.
        """
        if self.chosen is not None:
            return 0
        if self.sampler == "pooled":
            return min(self.limit - self.drawn, LARGEST_BATCH)
        # The first batch is the least that the exact rule needs. It suffices for a confident model. Batches then grow.
        least = math.ceil(1 / self.temperature)
        if least > 1:
            least = max(least, free_draws)
        return min(max(least, self.drawn), LARGEST_BATCH, self.limit - self.drawn)

    def noise(self, count: int, head: GenerativeHead, like: Tensor) -> Tensor:
        """The noise [count, *noise_shape] of the next draws. A repeated call returns the same ones until
        ``feed`` takes the draws."""
        if self.noise_used + count > len(self.noise_vectors):
            left = self.noise_vectors[self.noise_used :]
            more = head.noise((max(count, NOISE_BATCH),), like, self.generator)
            self.noise_vectors, self.noise_used = torch.cat((left, more)) if len(left) else more, 0
        return self.noise_vectors[self.noise_used : self.noise_used + count]

    @property
    def takes_first_draw(self) -> bool:
        """Whether each step takes its first draw, so that steps can follow one another without a decision."""
        return not self.prefix and (self.limit == 1 or (self.rule is not None and self.temperature == 1))

    def upcoming(self, skipped: int, count: int, head: HeadStep, state: Tensor) -> Tensor:
        """The noise of the next ``count`` draws after ``skipped`` ones, which are not taken yet."""
        return self.noise(skipped + count, head.head, state)[skipped:]

    def feed(self, chunks: Sequence[TokenIds], vectors: np.ndarray) -> None:
        """Takes draws in order: chunks of K ids and the vectors [n, L] that they were decoded from."""
        self.noise_used += len(chunks)
        self.drawn += len(chunks)
        start = len(self.prefix)
        if self.drawn == self.limit and not self.pool and all(chunk[:start] != self.prefix for chunk in chunks):
            # No draw starts with the prefix: keep the prefix, and the rest of the first draw.
            chunks = [self.prefix + chunks[0][start:]]
        for chunk, vector in zip(chunks, vectors):
            if chunk[:start] != self.prefix:
                continue
            self.pool.append(chunk)
            self.vectors.append(vector)
            if self.chosen is None and self.rule is not None and self.rule.feed(chunk):
                self.chosen = len(self.pool) - 1

    def choice(self) -> Choice:
        """The choice of this step, once ``draws_needed`` is 0. Later draws belong to the next step.

        Raises CalmError if the exact rule did not accept any draw.
        """
        if self.chosen is None and self.sampler == "exact":
            raise CalmError(
                f"The exact sampler did not accept within {EXACT_LIMIT:,} draws: the next chunk is too uncertain "
                f"for T = {self.temperature:g}. Use the auto sampler or a temperature nearer to 1."
            )
        if self.chosen is None:
            counts = Counter(self.pool)
            weights = temper(list(counts.values()), self.temperature)
            (chunk,) = self.random.choices(list(counts), weights)  # uses one uniform number
            self.random_numbers += 1
            self.chosen = self.pool.index(chunk)
        candidates = partial(_pool_candidates, self.pool, self.temperature)
        choice = Choice(
            self.pool[self.chosen], self.vectors[self.chosen].copy(), candidates, self.drawn, self.random_numbers
        )
        self._start_step()
        return choice


def _pool_candidates(pool: Sequence[TokenIds], temperature: float) -> list[CandidateFigures]:
    """The distinct chunks of a pool, most probable first; the more frequent first among equally probable ones."""
    counts = Counter(pool)
    probabilities = temper(list(counts.values()), temperature)
    candidates = [(chunk, count, p) for (chunk, count), p in zip(counts.items(), probabilities)]
    return sorted(candidates, key=lambda candidate: (-candidate[2], -candidate[1]))


def sample_chunks(head: HeadStep, states: Tensor, samplers: Sequence[ChunkSampler]) -> list[Outcome]:
    """Draws and decodes, in one batch, what each sampler needs next: head states [R, blocks, D] -> R outcomes.

    An exception of a sampler's rule is the outcome of that sampler. If the batch itself raises, no sampler has changed,
    and the call can be repeated with fewer of them.
    """
    needs = [(row, count) for row, sampler in enumerate(samplers) if (count := sampler.draws_needed(head.free_draws))]
    noise = torch.cat([samplers[row].noise(count, head.head, states) for row, count in needs])
    rows = [row for row, count in needs for _ in range(count)]
    chunks, vectors = head.draw(states, rows, noise)
    outcomes: list[Outcome] = [None] * len(samplers)
    start = 0
    for row, count in needs:
        try:
            samplers[row].feed(chunks[start : start + count], vectors[start : start + count])
            if not samplers[row].draws_needed():
                outcomes[row] = samplers[row].choice()
        except Exception as error:
            outcomes[row] = error
        start += count
    return outcomes


def sample_chunk(head: HeadStep, hidden: Tensor, sampler: ChunkSampler) -> Choice:
    """The choice at one position, hidden [D]. Raises CalmError if the exact rule did not accept any draw."""
    states = head.project(hidden[None])
    while True:
        (outcome,) = sample_chunks(head, states, [sampler])
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome


class TokenSampler:
    """Chooses tokens of one text from the softmax at a temperature, each by one uniform number."""

    takes_first_draw = True

    def __init__(self, temperature: float, seed: int):
        self.temperature = temperature
        self.random = random.Random(seed)
        self.uniforms = deque([self.random.random()])
        """The uniform numbers of the next choices, at least one."""

    def upcoming(self, skipped: int, count: int, step: TokenStep, state: Tensor) -> Tensor:
        """Temperature and uniform number, float64 [count, 2], of choices after the next ``skipped`` ones."""
        while len(self.uniforms) < skipped + count:
            self.uniforms.append(self.random.random())
        numbers = [(self.temperature, uniform) for uniform in islice(self.uniforms, skipped, skipped + count)]
        return torch.tensor(numbers, dtype=torch.float64, device=state.device)

    def advance(self) -> None:
        """Takes the uniform number of a choice."""
        self.uniforms.popleft()
        if not self.uniforms:
            self.uniforms.append(self.random.random())

    def skip(self, steps: Sequence[CompletedStep]) -> None:
        """Moves the generator behind steps that were chosen elsewhere."""
        for _ in steps:
            self.advance()


def sample_tokens(step: TokenStep, logits: Tensor, samplers: Sequence[TokenSampler]) -> list[Outcome]:
    """logits [R, V] -> R outcomes: a token each, with the most probable ones as candidates.

    A row that cannot be sampled has its exception as outcome. If the batch itself raises, no sampler has changed, and
    the call can be repeated with fewer of them.
    """
    temperatures = torch.tensor([sampler.temperature for sampler in samplers])
    uniforms = torch.tensor([sampler.uniforms[0] for sampler in samplers], dtype=torch.float64)
    draws = step.sample(logits, temperatures, uniforms)
    return _token_choices(draws, samplers)


def take_chunks(head: HeadStep, table: Tensor, sampler: ChunkSampler) -> list[Outcome]:
    """The choices of a run, from the rows [n, C] of its draws, by a sampler that takes first draws."""
    choices: list[Outcome] = []
    for chunk, vector in zip(*head.split(table)):
        sampler.feed([chunk], vector[None])
        choices.append(sampler.choice())
    return choices


def take_tokens(step: TokenStep, table: Tensor, sampler: TokenSampler) -> list[Outcome]:
    """The outcomes of a run, from the rows [n, C] of its draws."""
    return _token_choices(step.split(table), [sampler] * len(table))


def _token_choices(draws: TokenDraws, samplers: Sequence[TokenSampler]) -> list[Outcome]:
    """The outcome of each draw, for the sampler beside it."""
    for sampler in samplers:
        sampler.advance()
    return [
        Choice((token,), None, partial(_token_candidates, best, probabilities), 1)
        if token >= 0
        else RuntimeError("No token can be sampled, because the logits are not finite at this temperature.")
        for token, best, probabilities in zip(*draws)
    ]


def _token_candidates(best: Sequence[int], probabilities: Sequence[float]) -> list[CandidateFigures]:
    return [((token,), 0, p) for token, p in zip(best, probabilities)]
