"""The exact distribution of Storyland's next tokens and next chunks, for a tokenizer."""

import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import Any

from .exact import Telling, beginnings, next_words, weight

Tokens = tuple[int, ...]
Choices = tuple[float, ...]
"""Uniform random numbers in [0, 1). Each choice uses the next one."""
CHOICE_UNITS = 2**24
"""The numbers of ``draw_by_choices`` are multiples of 1 / CHOICE_UNITS, which float32 represents exactly."""
FLOOR = 1e-4
"""Partial stories that are less likely than this share of their context are left out of ``chunks``."""


def inverse_transform(probabilities: dict[Tokens, float], numbers: Choices) -> Tokens:
    """Samples a chunk by inverse transform sampling, token by token.

    The i-th number decides the i-th place at which more than one token is possible: it picks a token by cumulative
    probability, in the order of ids. Independent uniform ``numbers`` give each chunk with its probability.
    ``probabilities`` holds at least one chunk and need not sum to 1. ``numbers`` has at least one number for each such
    place; further ones have no effect.
    """
    left, unused = sorted(probabilities), iter(numbers)
    for place in range(len(left[0])):
        weights = dict[int, float]()
        for chunk in left:
            weights[chunk[place]] = weights.get(chunk[place], 0.0) + probabilities[chunk]
        if len(weights) > 1:
            ends = list(accumulate(weights.values()))
            chosen = list(weights)[bisect(ends, next(unused) * ends[-1], hi=len(ends) - 1)]
            left = [chunk for chunk in left if chunk[place] == chosen]
    return left[0]


@dataclass(frozen=True)
class Context:
    """Everything that Storyland can mean by the tokens so far."""

    branches: tuple[tuple[Tokens, tuple[Telling, ...]], ...]
    """The rest of the current word's tokens, and the partial stories that continue after that word."""

    @property
    def probability(self) -> float:
        """Probability of the tokens so far."""
        return sum(weight(tellings) for _, tellings in self.branches)


class TokenLanguage:
    """Storyland as a language model over the tokens of ``tokenizer``.

    An end-of-text token follows each story, and after it the next story begins, as in the training rows.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._beginnings = beginnings()
        self.eos: int = tokenizer.eos_token_id
        self._split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
        self._tokens = cache(lambda word: tuple(tokenizer(word, add_special_tokens=False)["input_ids"]))
        self._first_word = cache(self._split_first_word)

    def _split_first_word(self, text: str) -> str | None:
        words = self._split(text)
        return text[: words[0][1][1]] if len(words) > 1 else None

    def start(self) -> Context:
        """The context before the first token of a story."""
        return Context((((), self._beginnings),))

    def _words(self, tellings: tuple[Telling, ...], floor: float) -> Iterator[tuple[Tokens, tuple[Telling, ...]]]:
        for word, further in next_words(tellings, self._first_word, floor).items():
            if word:
                yield self._tokens(word), tuple(further)
            else:
                ended = weight(further)
                yield (self.eos,), tuple(replace(one, scale=one.scale * ended) for one in self._beginnings)

    def after(self, context: Context, token: int) -> Context:
        """The context one token later. Raises ValueError when Storyland never continues with this token."""
        branches = []
        for pending, tellings in context.branches:
            words = [(pending, tellings)] if pending else self._words(tellings, 0.0)
            branches += [(tokens[1:], further) for tokens, further in words if tokens[0] == token]
        if not branches:
            raise ValueError(f"Storyland does not continue with {self.tokenizer.decode([token])!r} here.")
        return Context(tuple(branches))

    def chunks(self, context: Context, size: int, floor: float = FLOOR) -> dict[Tokens, tuple[float, Context]]:
        """The next ``size`` tokens: each chunk's probability in this context, and the context after it."""
        total = context.probability
        found: dict[Tokens, list[tuple[Tokens, tuple[Telling, ...]]]] = defaultdict(list)
        partial: list[tuple[Tokens, Tokens, tuple[Telling, ...]]] = [
            ((), pending, tellings) for pending, tellings in context.branches
        ]
        while partial:
            before, pending, tellings = partial.pop()
            tokens = before + pending
            if len(tokens) >= size:
                found[tokens[:size]].append((tokens[size:], tellings))
                continue
            partial += [(tokens, word, further) for word, further in self._words(tellings, floor * total)]
        contexts = {chunk: Context(tuple(branches)) for chunk, branches in found.items()}
        return {chunk: (after.probability / total, after) for chunk, after in contexts.items()}

    def draw(self, tokens: Sequence[int], size: int, count: int, rng: random.Random) -> list[list[Tokens]]:
        """For each chunk of ``size`` tokens after the first: ``count`` chunks drawn from Storyland's distribution at
        its position.

        ``tokens`` are 1 to ``size`` end-of-text tokens, then stories, each with its end-of-text token. The last story
        may be cut off, or more end-of-text tokens may follow it; such chunks are repeated. A chunk of probability p
        occurs count * p times, rounded up or down at random: the shares vary less than those of independent draws.
        Their order is random. Raises ValueError for other text.
        """
        drawn = list[list[Tokens]]()
        for probabilities in self._alternatives(tokens, size):
            ends = list(accumulate(probabilities.values()))
            start = rng.random()
            points = [(start + i) / count * ends[-1] for i in range(count)]
            choices = list(probabilities)
            drawn.append(rng.sample([choices[bisect(ends, point)] for point in points], count))
        return drawn

    def draw_by_choices(
        self, tokens: Sequence[int], size: int, count: int, rng: random.Random
    ) -> list[list[tuple[Tokens, Choices]]]:
        """For each chunk after the first (see ``draw``): ``count`` independent samples by ``inverse_transform``, each
        with the ``size`` uniform numbers that determine it. Raises ValueError as ``draw`` does."""
        drawn = list[list[tuple[Tokens, Choices]]]()
        for probabilities in self._alternatives(tokens, size):
            numbers = [tuple(rng.randrange(CHOICE_UNITS) / CHOICE_UNITS for _ in range(size)) for _ in range(count)]
            drawn.append([(inverse_transform(probabilities, one), one) for one in numbers])
        return drawn

    def _alternatives(self, tokens: Sequence[int], size: int) -> Iterator[dict[Tokens, float]]:
        """The probabilities of the chunks that may stand in the place of each chunk after the first (see ``draw``)."""
        context = self.start()
        words = [i for i, token in enumerate(tokens) if token != self.eos]
        begin, end = (words[0], words[-1] + 2) if words else (size, 0)
        for token in tokens[begin:size]:
            context = self.after(context, token)
        for at in range(size, len(tokens) - size + 1, size):
            own = tuple(tokens[at : at + size])
            if at + size > end:
                yield {own: 1.0}
                continue
            chunks = self.chunks(context, size)
            yield {chunk: probability for chunk, (probability, _) in chunks.items()}
            if own in chunks:
                context = chunks[own][1]
                continue
            for token in own:  # a chunk less likely than FLOOR
                context = self.after(context, token)

    def contexts(self, text: str) -> Iterator[tuple[Context, int]]:
        """The context before each token of a story and its end, and that token. Raises ValueError for other text."""
        context = self.start()
        for token in (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.eos):
            yield context, token
            context = self.after(context, token)

    def sample(self, size: int, temperature: float, seed: int, limit: int = 512) -> str:
        """A story of at most ``limit`` tokens, drawn chunk by chunk: a chunk of probability p has weight p^(1/T)."""
        rng, context, tokens = random.Random(seed), self.start(), list[int]()
        while self.eos not in tokens and len(tokens) < limit:
            chunks = self.chunks(context, size)
            likeliest = max(probability for probability, _ in chunks.values())
            weights = [(probability / likeliest) ** (1 / temperature) for probability, _ in chunks.values()]
            chunk = rng.choices(list(chunks), weights)[0]
            tokens += chunk
            context = chunks[chunk][1]
        end = tokens.index(self.eos) if self.eos in tokens else len(tokens)
        return self.tokenizer.decode(tokens[:end])
