"""Text from a prompt, one vector (or one token) a step."""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from .errors import CalmError
from .loading import LanguageModel
from .temperature import MAXIMUM, ExactRule, check_temperature, temper

SAMPLERS = ("auto", "exact", "pooled")
ALIGNMENTS = ("front", "end", "condition")
EXACT_LIMIT = 20_000  # draws of one step after which the exact sampler gives up


@dataclass(frozen=True)
class Candidate:
    """One distinct chunk among the draws of a step."""

    token_ids: list[int]
    text: str
    count: int
    """How often it was drawn (0 for a token-by-token model, which draws nothing: it knows its probabilities)."""
    probability: float
    """Its tempered probability."""


@dataclass(frozen=True)
class Step:
    """One step of generation: the chunk that was chosen and what it was chosen from."""

    index: int
    token_ids: list[int]
    """K token ids; an end-of-text among them ends the text there."""
    text: str
    """What this chunk adds to the text. Bytes of an unfinished character wait for the chunk that completes it."""
    vector: np.ndarray | None
    """float32 [L], the latent vector that was decoded; None for a token-by-token model."""
    candidates: list[Candidate]
    """Distinct chunks drawn, likeliest first."""
    draws: int
    """How many vectors were drawn and decoded for this step."""
    seconds: float
    """Wall time of this step."""


def generate(
    lm: LanguageModel,
    prompt: str = "",
    temperature: float = 0.5,
    max_new_tokens: int = 128,
    pool_size: int = 200,
    sampler: str = "auto",
    seed: int = 0,
    alignment: str = "front",
) -> Iterator[Step]:
    """Continues a prompt, one ``Step`` at a time, until end-of-text, ``max_new_tokens`` or the end of the context.

    ``temperature`` is any real number in (0, 2]. Samplers: ``exact`` has no bias and covers (0, 1]; ``pooled`` draws
    ``pool_size`` vectors and weights the distinct chunks (``calm.temper``); ``auto`` applies the exact rule to draws in
    growing batches and falls back to the pooled rule over all of them when ``pool_size`` draws did not decide.
    ``auto`` is the exact sampler where it accepts within the pool and biased like the pooled one where it does not.
    Every random number comes from a generator of this call's own, so one seed gives one text on one device.

    A prompt whose length is no multiple of K can be aligned in three ways: ``front`` (the default: end-of-text tokens
    in front of it, as in training; the best of the three by the Brier-n of what follows, 39.9 against 14.7 for
    ``condition`` and -13.5 for ``end`` on ``story-k4``, see ``benchmarks/alignment``),
    ``end`` (padding tokens behind it, as the official code does) and ``condition`` (the first chunk is drawn from those
    draws that begin with the leftover tokens). Of a prompt longer than the context its end is kept.
    ``max_new_tokens`` is rounded up to whole chunks.

    Raises CalmError for arguments outside these ranges, and, while iterating, if the exact sampler does not accept
    within 20,000 draws of one step.
    """
    check_temperature(temperature, 1.0 if sampler == "exact" and lm.is_calm else MAXIMUM)
    _check_whole("max_new_tokens", max_new_tokens, 1)
    _check_whole("pool_size", pool_size, 1, 10_000)
    _check_whole("seed", seed, 0, 2**63 - 1)
    _check_choice("sampler", sampler, SAMPLERS)
    _check_choice("alignment", alignment, ALIGNMENTS)
    if not isinstance(prompt, str):
        raise CalmError("The prompt must be text.")
    steps = math.ceil(max_new_tokens / lm.chunk_size)
    ids, leftover = align(lm, lm.encode(prompt), alignment)
    steps = min(steps, lm.context - 1)
    ids = ids[-(lm.context - steps) * lm.chunk_size :]
    draw: ChunkSampler | TokenSampler = (
        ChunkSampler(lm, temperature, pool_size, sampler, seed) if lm.is_calm else TokenSampler(lm, temperature, seed)
    )
    return _steps(lm, ids, leftover, steps, draw)


def align(lm: LanguageModel, ids: list[int], alignment: str = "front") -> tuple[list[int], list[int]]:
    """Token ids -> (context of whole chunks, leftover tokens with which the first generated chunk must begin)."""
    k = lm.chunk_size
    eos = lm.tokenizer.eos_token_id
    whole = len(ids) // k * k
    if alignment == "front" or not ids:
        return [eos] * (k - len(ids) % k) + ids, []
    if alignment == "end":
        return ids + [lm.fill_id] * (-len(ids) % k), []
    return [eos] * k + ids[:whole], ids[whole:]


def _check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limits = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
        raise CalmError(f"{name} must be a whole number {limits}, not {value!r}.")


def _check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise CalmError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")


@torch.no_grad()
def _steps(lm: LanguageModel, ids: list[int], leftover: list[int], steps: int, draw) -> Iterator[Step]:
    cache = DynamicCache()
    eos = lm.tokenizer.eos_token_id
    generated: list[int] = list(leftover)
    shown = lm.decode(leftover)
    for index in range(steps):
        start = time.perf_counter()
        hidden = _forward(lm, ids, cache)
        chunk, vector, candidates, draws = draw(hidden, leftover if index == 0 else [])
        generated += chunk[len(leftover) :] if index == 0 else chunk
        ended = eos in chunk
        text = lm.decode(generated[: generated.index(eos)] if ended else generated)
        if not ended:
            text = text.rstrip("\ufffd")
        yield Step(index, chunk, text[len(shown) :], vector, candidates, draws, time.perf_counter() - start)
        shown = text if len(text) > len(shown) else shown
        if ended:
            return
        ids = chunk


def _forward(lm: LanguageModel, ids: list[int], cache: DynamicCache) -> Tensor:
    """Token ids of whole chunks -> the last hidden state [D]."""
    tensor = torch.tensor([ids], device=lm.device)
    if lm.is_calm:
        return lm.calm(tensor, past_key_values=cache, use_cache=True)[0, -1]
    return lm.llama.model(tensor, past_key_values=cache, use_cache=True).last_hidden_state[0, -1]


Draw = tuple[list[int], np.ndarray | None, list[Candidate], int]
"""What a sampler returns: token ids of the chunk, its vector, the candidates, the number of draws."""


class ChunkSampler:
    """Draws latent vectors from the energy head and chooses a chunk at a temperature."""

    def __init__(self, lm: LanguageModel, temperature: float, pool_size: int, sampler: str, seed: int):
        self.lm, self.temperature, self.pool_size = lm, temperature, pool_size
        # Above 1 no rejection rule exists: the target would have to be accepted with a probability above 1.
        self.sampler = "pooled" if temperature > 1 else sampler
        self.generator = torch.Generator(lm.device).manual_seed(seed)
        self.random = random.Random(seed)

    def draw(self, hidden: Tensor, count: int) -> tuple[list[tuple[int, ...]], Tensor]:
        """hidden [D] -> ``count`` chunks (tuples of K ids) and the vectors [count, L] that they were decoded from."""
        model = self.lm.calm
        noise = model.generative_head.noise((count,), hidden, self.generator)
        vectors = model.generative_head(hidden, noise)
        return [tuple(ids) for ids in model.ae_model.decode(vectors).tolist()], vectors

    def __call__(self, hidden: Tensor, prefix: list[int]) -> Draw:
        pool: list[tuple[int, ...]] = []
        vectors: list[Tensor] = []
        begin = tuple(prefix)
        rule: ExactRule | None = ExactRule(self.temperature, self.random.random) if self.sampler != "pooled" else None
        chosen, place, drawn = None, 0, 0
        while chosen is None and drawn < (EXACT_LIMIT if self.sampler == "exact" else self.pool_size):
            count = self._batch(drawn)
            chunks, latents = self.draw(hidden, count)
            drawn += count
            kept = [i for i, chunk in enumerate(chunks) if chunk[: len(begin)] == begin]
            for i in kept:
                pool.append(chunks[i])
                if chosen is None and rule is not None and rule.feed(chunks[i]):
                    chosen, place = chunks[i], len(pool) - 1
            vectors.append(latents[kept] if begin else latents)
        if chosen is None and self.sampler == "exact":
            raise CalmError(
                f"The exact sampler did not accept within {EXACT_LIMIT:,} draws: this place in the text is too open "
                f"for T = {self.temperature:g}. Use the auto sampler or a temperature nearer to 1."
            )
        if not pool:  # nothing that was drawn begins as the prompt ends: keep the prompt, let the model finish
            chunk = begin + chunks[0][len(begin) :]
            pool, vectors = [chunk], [self.lm.calm.ae_model.encode(torch.tensor([chunk], device=hidden.device))[0]]
        counts = Counter(pool)
        probabilities = temper(list(counts.values()), self.temperature)
        if chosen is None:
            (chosen,) = self.random.choices(list(counts), probabilities)
            place = pool.index(chosen)
        candidates = [
            Candidate(list(chunk), self.lm.decode(list(chunk)), count, probability)
            for (chunk, count), probability in zip(counts.items(), probabilities)
        ]
        candidates.sort(key=lambda c: (-c.probability, -c.count))
        return list(chosen), torch.cat(vectors)[place].float().cpu().numpy(), candidates, drawn

    def _batch(self, drawn: int) -> int:
        """Growing batches for the rules that can stop early; one batch where all draws are needed anyway."""
        if self.sampler == "pooled":
            return self.pool_size
        if self.temperature == 1:
            return 1  # the first draw is accepted
        batch = max(8, drawn)
        return min(batch, 512) if self.sampler == "exact" else min(batch, self.pool_size - drawn)


class TokenSampler:
    """The token-by-token counterpart: softmax at a temperature."""

    def __init__(self, lm: LanguageModel, temperature: float, seed: int):
        self.lm, self.temperature = lm, temperature
        self.generator = torch.Generator(lm.device).manual_seed(seed)

    def __call__(self, hidden: Tensor, prefix: list[int]) -> Draw:
        p = (self.lm.llama.lm_head(hidden).float() / self.temperature).softmax(-1)
        token = int(torch.multinomial(p, 1, generator=self.generator))
        top = p.topk(min(8, len(p)))
        candidates = [
            Candidate([i], self.lm.decode([i]), 0, q) for i, q in zip(top.indices.tolist(), top.values.tolist())
        ]
        return [token], None, candidates, 1
