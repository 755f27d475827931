"""Text from a prompt, one vector (or one token) a step."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .engine.samplers import SAMPLERS, Choice, ChunkSampler, TokenSampler
from .engine.scheduler import Writing
from .errors import CalmError, check_seed, check_whole
from .hub.language_model import LanguageModel
from .modeling.temperature import MAXIMUM, check_temperature

ALIGNMENTS = ("front", "end", "condition")


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


@dataclass(frozen=True)
class Waiting:
    """A text that is not begun yet, because as many as fit are being written."""

    ahead: int
    """How many wait before it."""


@dataclass(frozen=True)
class Options:
    """What ``generate`` takes besides model and prompt."""

    temperature: float = 0.5
    max_new_tokens: int = 128
    pool_size: int = 200
    sampler: str = "auto"
    seed: int = 0
    alignment: str = "front"
    begun: Sequence[Sequence[int]] = ()
    """Chunks of K token ids that the text already has behind its prompt."""


def generate(
    lm: LanguageModel,
    prompt: str = "",
    temperature: float = 0.5,
    max_new_tokens: int = 128,
    pool_size: int = 200,
    sampler: str = "auto",
    seed: int = 0,
    alignment: str = "front",
    begun: Sequence[Sequence[int]] = (),
) -> Generator[Step, None, None]:
    """Continues a prompt, one ``Step`` at a time, until end-of-text, ``max_new_tokens`` or the end of the context.

    ``temperature`` is any real number in (0, 2]. Samplers: ``exact`` has no bias and covers (0, 1]; ``pooled`` draws
    ``pool_size`` vectors and weights the distinct chunks (``calm.temper``); ``auto`` applies the exact rule to draws in
    growing batches and falls back to the pooled rule over all of them when ``pool_size`` draws did not decide.
    ``auto`` is the exact sampler where it accepts within the pool and biased like the pooled one where it does not: by
    a total variation of at most 0.015 on 50 chunks with weights 1 / rank, or with half of the mass on one of them, for
    T from 0.3 to 1.3 and a pool of 200; most at T = 0.3, and near 0.8 where the tail is heavy (``benchmarks/pool``).
    Every random number comes from a generator of this call's own, so one seed gives one text on one device.

    A prompt whose length is no multiple of K can be aligned in three ways: ``front`` (the default: end-of-text tokens
    in front of it, as in training; the best of the three by the Brier-n of what follows, 72.8 against 69.0 for
    ``condition`` and -26.6 for ``end`` on the second stage of ``story-k4``, see ``benchmarks/alignment``),
    ``end`` (padding tokens behind it, as the official code does) and ``condition`` (the first chunk is drawn from those
    draws that begin with the leftover tokens). Of a prompt longer than the context its end is kept.
    ``max_new_tokens`` is rounded up to whole chunks. ``begun`` holds chunks of token ids behind the prompt, steps made
    before, from which the text goes on.

    Raises CalmError for arguments outside these ranges, and, while iterating, if the exact sampler does not accept
    within 20,000 draws of one step.
    """
    events = follow(lm, prompt, Options(temperature, max_new_tokens, pool_size, sampler, seed, alignment, begun))
    return (event for event in events if isinstance(event, Step))


def follow(lm: LanguageModel, prompt: str, options: Options) -> Generator[Step | Waiting, None, None]:
    """Like ``generate``, and tells when its place in the queue changes, as long as the text has to wait."""
    check_temperature(options.temperature, 1.0 if options.sampler == "exact" and lm.is_calm else MAXIMUM)
    check_whole("max_new_tokens", options.max_new_tokens, 1)
    check_whole("pool_size", options.pool_size, 1, 10_000)
    check_seed(options.seed)
    _check_choice("sampler", options.sampler, SAMPLERS)
    _check_choice("alignment", options.alignment, ALIGNMENTS)
    if not isinstance(prompt, str):
        raise CalmError("The prompt must be text.")
    ids, leftover = align(lm, lm.tokenize(prompt), options.alignment)
    if options.begun:
        ids, leftover = ids + _joined(lm, options.begun), []
    steps = min(math.ceil(options.max_new_tokens / lm.chunk_size), lm.context_length - 1)
    ids = ids[-(lm.context_length - steps) * lm.chunk_size :]
    sampler: ChunkSampler | TokenSampler = (
        ChunkSampler(options.temperature, options.pool_size, options.sampler, options.seed, lm.device, tuple(leftover))
        if lm.is_calm
        else TokenSampler(options.temperature, options.seed, lm.device)
    )
    return _steps(lm, Writing(ids, steps, sampler), leftover)


def draw_pool(
    lm: LanguageModel, prompt: str, chunks: Sequence[Sequence[int]] = (), pool_size: int = 200, seed: int = 0
) -> list[Candidate]:
    """``pool_size`` draws of what may follow a prompt and ``chunks`` of K token ids behind it, commonest first.

    The probability of a candidate is its share of the draws. Raises CalmError for a token-by-token model, for numbers
    outside the ranges of ``generate``, and for chunks of another length or with ids that the model does not know.
    """
    k = lm.calm.config.patch_size  # a token-by-token model has none
    return next(generate(lm, prompt, 1.0, k, pool_size, "pooled", seed, begun=chunks)).candidates


@torch.inference_mode()
def draw_vectors(
    lm: LanguageModel, prompt: str, chunks: Sequence[Sequence[int]] = (), count: int = 200, seed: int = 0
) -> tuple[np.ndarray, list[list[int]]]:
    """The cloud of what may follow a prompt and ``chunks`` behind it: vectors [count, L] of the energy head, and the K
    token ids that each decodes to. Raises CalmError as ``draw_pool`` does."""
    check_whole("count", count, 1, 10_000)
    check_seed(seed)
    head, k = lm.calm.generative_head, lm.chunk_size
    ids = align(lm, lm.tokenize(prompt))[0] + _joined(lm, chunks)
    hidden = lm.calm(torch.tensor([ids[-lm.context_length * k :]], device=lm.device), use_cache=False)[0, -1]
    vectors = head(hidden, head.noise((count,), hidden, torch.Generator(lm.device).manual_seed(seed)))
    return vectors.float().cpu().numpy(), lm.calm.ae_model.decode(vectors).tolist()


def align(lm: LanguageModel, ids: list[int], alignment: str = "front") -> tuple[list[int], list[int]]:
    """Token ids -> (context of whole chunks, leftover tokens with which the first generated chunk must begin)."""
    k = lm.chunk_size
    eos = lm.tokenizer.eos_token_id
    whole = len(ids) // k * k
    if alignment == "front" or not ids:
        return [eos] * (k - len(ids) % k) + ids, []
    if alignment == "end":
        return ids + [lm.pad_id] * (-len(ids) % k), []
    return [eos] * k + ids[:whole], ids[whole:]


def _joined(lm: LanguageModel, chunks: Sequence[Sequence[int]]) -> list[int]:
    """The ids of whole chunks, one after another. Raises CalmError for what the model cannot read."""
    k, vocabulary = lm.chunk_size, lm.model.config.vocab_size
    for chunk in chunks:
        if len(chunk) != k or not all(isinstance(i, int) and 0 <= i < vocabulary for i in chunk):
            raise CalmError(f"A chunk must be {k} token ids below {vocabulary:,}.")
    return [i for chunk in chunks for i in chunk]


def _check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise CalmError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")


class _Text:
    """The text of a growing sequence of tokens. Bytes of an unfinished character wait for the rest of it."""

    def __init__(self, lm: LanguageModel):
        self.lm = lm
        self.pending: list[int] = []
        self.shown = ""  # of the pending tokens

    def add(self, ids: Sequence[int], ended: bool = False) -> str:
        """What these tokens add to the text."""
        self.pending += ids
        whole = self.lm.chunk_text(tuple(self.pending))
        text = whole if ended else whole.rstrip("\ufffd")
        added = text[len(self.shown) :]
        self.shown += added
        if text == whole:
            self.pending, self.shown = [], ""
        return added


def _candidates(lm: LanguageModel, choice: Choice) -> list[Candidate]:
    return [Candidate(list(chunk), lm.chunk_text(chunk), n, p) for chunk, n, p in choice.candidates]


def _steps(lm: LanguageModel, writing: Writing, leftover: list[int]) -> Generator[Step | Waiting, None, None]:
    text, eos, index = _Text(lm), lm.tokenizer.eos_token_id, 0
    text.add(leftover)
    for found in lm.engine.write(writing):
        if isinstance(found, int):
            yield Waiting(found)
            continue
        choice, seconds = found
        ids = list(choice.chunk)
        added = ids if index else ids[len(leftover) :]
        ended = eos in ids
        shown = text.add(added[: added.index(eos)] if ended else added, ended)
        yield Step(index, ids, shown, choice.vector, _candidates(lm, choice), choice.draws, seconds)
        index += 1
