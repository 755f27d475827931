"""Chooses the next chunk of a text from draws of the energy head, or the next token from its probabilities.

A sampler asks for draws in growing batches until its rule decides; a round draws for several texts at once.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import CalmError
from ..modeling.heads.energy import EnergyHead
from ..modeling.temperature import ExactRule, temper
from .head import Chunk, Drawer

SAMPLERS = ("auto", "exact", "pooled")
EXACT_LIMIT = 20_000  # draws of one step after which the exact sampler gives up
LARGEST_BATCH = 512
NOISE = 64  # vectors of noise that are drawn at once


@dataclass(frozen=True)
class Choice:
    """What was chosen at one place, and what it was chosen from."""

    chunk: Chunk
    vector: np.ndarray | None
    """float32 [L], the latent vector that was decoded; None for a token-by-token model."""
    candidates: list[tuple[Chunk, int, float]]
    """Distinct chunks drawn, how often, and their tempered probabilities; likeliest first."""
    draws: int


class ChunkSampler:
    """Decides at a temperature among chunks that are drawn for it, place after place of one text.

    At the first place only draws that begin with ``prefix`` are kept.
    """

    def __init__(
        self, temperature: float, pool_size: int, sampler: str, seed: int, device: torch.device, prefix: Chunk = ()
    ):
        self.temperature, self.pool_size = temperature, pool_size
        # Above 1 no rejection rule exists: the target would have to be accepted with a probability above 1.
        self.sampler = "pooled" if temperature > 1 else sampler
        self.limit = EXACT_LIMIT if self.sampler == "exact" else pool_size
        self.generator = torch.Generator(device).manual_seed(seed)
        self.random = random.Random(seed)
        self.spare, self.used = torch.empty(0), 0  # noise vectors, and how many of them were used
        self._begin(prefix)

    def _begin(self, prefix: Chunk = ()) -> None:
        self.prefix = prefix
        self.rule: ExactRule[Chunk] | None = (
            None if self.sampler == "pooled" else ExactRule(self.temperature, self.random.random)
        )
        self.pool: list[Chunk] = []
        self.vectors: list[np.ndarray] = []
        self.chosen: int | None = None
        self.drawn = 0

    def wanted(self, at_once: int = 1) -> int:
        """How many draws to feed next, where ``at_once`` cost no more than one; 0 when the place is decided or the
        limit reached."""
        if self.chosen is not None:
            return 0
        if self.sampler == "pooled":
            return self.limit - self.drawn  # all of them are needed
        # At first as many as the exact rule needs at least, enough where the model is sure; then twice as many.
        least = math.ceil(1 / self.temperature)
        if least > 1:
            least = max(least, at_once)
        return min(max(least, self.drawn), LARGEST_BATCH, self.limit - self.drawn)

    def noise(self, count: int, head: EnergyHead, like: Tensor) -> Tensor:
        """The next noise vectors [count, noise_size]. They are drawn many at a time: few take as long."""
        if self.used + count > len(self.spare):
            left, more = self.spare[self.used :], head.noise((max(count, NOISE),), like, self.generator)
            self.spare, self.used = torch.cat((left, more)) if len(left) else more, 0
        self.used += count
        return self.spare[self.used - count : self.used]

    def feed(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Takes draws in order: chunks of K ids and the vectors [n, L] that they were decoded from."""
        self.drawn += len(chunks)
        start = len(self.prefix)
        if self.drawn == self.limit and not self.pool and all(chunk[:start] != self.prefix for chunk in chunks):
            # Nothing that was drawn begins as the prompt ends: keep the prompt, let the model finish.
            chunks = [self.prefix + chunks[0][start:]]
        for chunk, vector in zip(chunks, vectors):
            if chunk[:start] != self.prefix:
                continue
            self.pool.append(chunk)
            self.vectors.append(vector)
            if self.chosen is None and self.rule is not None and self.rule.feed(chunk):
                self.chosen = len(self.pool) - 1

    def choice(self) -> Choice:
        """The decision, once nothing more is wanted; the next draws are of the next place.

        Raises CalmError if the exact rule did not accept.
        """
        if self.chosen is None and self.sampler == "exact":
            raise CalmError(
                f"The exact sampler did not accept within {EXACT_LIMIT:,} draws: this place in the text is too open "
                f"for T = {self.temperature:g}. Use the auto sampler or a temperature nearer to 1."
            )
        counts = Counter(self.pool)
        probabilities = temper(list(counts.values()), self.temperature)
        if self.chosen is None:
            (chunk,) = self.random.choices(list(counts), probabilities)
            self.chosen = self.pool.index(chunk)
        candidates = [(chunk, count, p) for (chunk, count), p in zip(counts.items(), probabilities)]
        candidates.sort(key=lambda candidate: (-candidate[2], -candidate[1]))
        choice = Choice(self.pool[self.chosen], self.vectors[self.chosen].copy(), candidates, self.drawn)
        self._begin()
        return choice


def draw_round(drawer: Drawer, states: Tensor, samplers: Sequence[ChunkSampler]) -> None:
    """Draws and decodes at once what each of R places wants next, and feeds it to its sampler.

    ``states`` [R, blocks, D] is what ``Drawer.project`` made of the hidden states of the places.
    """
    wants = [(row, count) for row, sampler in enumerate(samplers) if (count := sampler.wanted(drawer.at_once))]
    noise = torch.cat([samplers[row].noise(count, drawer.head, states) for row, count in wants])
    places = [row for row, count in wants for _ in range(count)]
    chunks, vectors = drawer.draw(states, places, noise)
    start = 0
    for row, count in wants:
        samplers[row].feed(chunks[start : start + count], vectors[start : start + count])
        start += count


def choose_chunk(drawer: Drawer, hidden: Tensor, sampler: ChunkSampler) -> Choice:
    """The choice at one place, hidden [D]. Raises CalmError if the exact rule did not accept."""
    states = drawer.project(hidden[None])
    while sampler.wanted():
        draw_round(drawer, states, [sampler])
    return sampler.choice()


class TokenSampler:
    """The token-by-token counterpart: softmax at a temperature."""

    def __init__(self, temperature: float, seed: int, device: torch.device):
        self.temperature = temperature
        self.generator = torch.Generator(device).manual_seed(seed)


def choose_tokens(logits: Tensor, samplers: Sequence[TokenSampler]) -> list[Choice]:
    """logits [R, V] of R places -> a token for each, with the eight likeliest as candidates."""
    temperature = torch.tensor([[sampler.temperature] for sampler in samplers], device=logits.device)
    p = (logits.float() / temperature).softmax(-1)
    top, best = p.topk(min(8, p.shape[-1]))
    drawn = torch.cat([torch.multinomial(row, 1, generator=sampler.generator) for row, sampler in zip(p, samplers)])
    return [
        Choice((token,), None, [((i,), 0, chance) for i, chance in zip(ids, chances)], 1)
        for token, chances, ids in zip(drawn.tolist(), top.tolist(), best.tolist())
    ]
