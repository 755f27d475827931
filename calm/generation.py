"""Text from a prompt, one latent vector (or one token) a step.

K tokens a chunk, L latent.
"""

import math
import operator
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from . import tracing
from .engine import engine_for
from .engine.requests import Queued, Request
from .engine.samplers import SAMPLERS, Choice, ChunkSampler, CompletedStep, TokenSampler
from .errors import CalmError, check_integer, check_seed, short_repr
from .hub.language_model import LanguageModel
from .hub.text_format import ALIGNMENTS, CONDITION, END, FRONT
from .hub.tokenization import LONGEST_CHARACTER
from .modeling.temperature import check_temperature

MIN_TEMPERATURE = 0.001
"""Below this temperature, the rounding of float32 logits would change a token's odds by more than a percent."""
MAX_POOL = 10_000


@dataclass(frozen=True)
class Candidate:
    """A distinct chunk among the draws of a step."""

    token_ids: list[int]
    text: str
    count: int
    """Number of draws of this chunk; 0 for a token-by-token model, which computes probabilities instead."""
    probability: float
    """Its tempered probability."""


class Candidates(Sequence[Candidate]):
    """The candidates of a step, most probable first. They are built when somebody first reads them.

    They equal a list of the same candidates, and pickle as one.
    """

    def __init__(self, build: Callable[[], list[Candidate]]):
        self._build = build

    @cached_property
    def _list(self) -> list[Candidate]:
        return self._build()

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __len__(self) -> int:
        return len(self._list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._list == list(other)

    def __repr__(self) -> str:
        return repr(self._list)

    def __reduce__(self) -> tuple[type, tuple]:
        return list, (self._list,)


@dataclass(frozen=True)
class Step:
    """One step of generation: the chosen chunk and what it was chosen from."""

    index: int
    token_ids: list[int]
    """K token ids; an end-of-text token among them ends the text."""
    text: str
    """The text that this chunk adds. The bytes of an incomplete character are held back until it is complete."""
    vector: np.ndarray | None
    """float32 [L], the latent vector that was decoded; None for a token-by-token model."""
    candidates: Sequence[Candidate]
    """The distinct chunks drawn, most probable first."""
    draws: int
    """The number of vectors drawn and decoded for this step."""
    seconds: float
    """Seconds that the engine computed for this step, including the other texts of the batch. Steps that a GPU ran
    without waiting share their time equally."""
    random_numbers: int = 0
    """Uniform numbers that the sampler used besides the noise of the draws."""

    def completed(self) -> CompletedStep:
        """What another engine needs to continue the text after this step (``stream``)."""
        return CompletedStep(tuple(self.token_ids), self.draws, self.random_numbers)


@dataclass(frozen=True)
class GenerationOptions:
    """The options of ``generate``, checked and converted to plain Python numbers.

    Raises CalmError for a value outside the ranges that ``generate`` documents. ``stream`` checks what depends on the
    model: the exact sampler's limit T = 1, and the prefix.
    """

    temperature: float = 0.5
    max_new_tokens: int = 128
    pool_size: int = 200
    sampler: str = "auto"
    seed: int = 0
    alignment: str | None = None
    prefix_chunks: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        temperature = check_temperature(self.temperature)
        if temperature < MIN_TEMPERATURE:
            raise CalmError(f"The temperature must be at least {MIN_TEMPERATURE:g}, not {temperature:g}.")
        _check_choice("sampler", self.sampler, SAMPLERS)
        if self.alignment is not None:
            _check_choice("alignment", self.alignment, ALIGNMENTS)
        try:
            prefix_chunks = tuple(map(tuple, self.prefix_chunks))
        except TypeError:
            raise CalmError("prefix_chunks must be a list of chunks, each a list of token ids.") from None
        checked = {
            "temperature": temperature,
            "max_new_tokens": check_integer("max_new_tokens", self.max_new_tokens, 1),
            "pool_size": check_integer("pool_size", self.pool_size, 1, MAX_POOL),
            "seed": check_seed(self.seed),
            "prefix_chunks": prefix_chunks,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def generate(
    lm: LanguageModel,
    prompt: str = "",
    temperature: float = 0.5,
    max_new_tokens: int = 128,
    pool_size: int = 200,
    sampler: str = "auto",
    seed: int = 0,
    alignment: str | None = None,
    prefix_chunks: Sequence[Sequence[int]] = (),
) -> Generator[Step, None, None]:
    """Continues a prompt, one ``Step`` at a time, until end-of-text, ``max_new_tokens`` or the end of the context.

    ``temperature`` is a number from 0.001 to 2 (paper, section 5, made continuous). Three samplers turn draws into a
    chunk. ``exact`` has no bias and covers temperatures up to 1. ``pooled`` draws ``pool_size`` vectors and weights
    the distinct chunks (``calm.temper``). ``auto`` applies the exact rule to draws in growing batches, and the pooled
    rule to all of them if ``pool_size`` draws did not decide. Its bias is that of the pooled rule in these cases: a
    total variation of at most 0.015 on 50 chunks with weights 1 / rank, or with half of the mass on one of them, for T
    from 0.3 to 1.3 and a pool of 200; it is largest at T = 0.3, and near 0.8 for heavy tails (``benchmarks/pool``).
    All random numbers come from generators seeded for this call, so that a seed gives the same text on one device.

    ``alignment`` decides what happens if the prompt's length is not a multiple of K; the default is that of the model's
    training texts (``lm.text_format``). ``front``, the default of models trained here, puts end-of-text tokens in front
    of the prompt. Its continuations have the best Brier-n: 72.8, against 69.0 for ``condition`` and -26.6 for ``end``,
    on the second stage of ``story-k4`` (``benchmarks/alignment``). ``condition``, the default of official models, draws
    the first chunk among those that start with the leftover tokens. ``end`` puts padding tokens after the prompt, as
    the official code does. A prompt longer than the context loses its beginning.

    ``max_new_tokens`` is rounded up to whole chunks. ``prefix_chunks`` are chunks of K token ids after the prompt,
    for example from earlier steps; the text continues from them.

    Raises CalmError at once for arguments outside these ranges, and while iterating if the exact sampler does not
    accept within 20,000 draws of one step.
    """
    options = GenerationOptions(temperature, max_new_tokens, pool_size, sampler, seed, alignment, prefix_chunks)
    return (event for event in stream(lm, prompt, options) if isinstance(event, Step))


def stream(
    lm: LanguageModel,
    prompt: str,
    options: GenerationOptions,
    client: str = "",
    completed: Sequence[CompletedStep] = (),
) -> Generator[Step | Queued, None, None]:
    """Like ``generate``. While the request is queued, it also yields ``Queued``: whenever the position changes, and
    once a second.

    The engine shares its slots among clients: a ``client`` holds at most all but two, and the one with the fewest comes
    first. An empty name is no client and has no such limit.

    ``completed`` are the first steps of this text, from another engine on equal hardware. The text continues after them
    and equals the text of one engine to the bit. Nothing is drawn for them: the backbone reads their chunks.
    """
    if lm.is_calm and options.sampler == "exact":
        check_temperature(options.temperature, 1.0)
    ids, leftover = align(lm, lm.tokenize(_check_prompt(prompt)), options.alignment)
    if options.prefix_chunks:
        ids, leftover = ids + join_chunks(lm, options.prefix_chunks), []
    before = [*ids[-LONGEST_CHARACTER:], *leftover]  # may end within a character
    steps = min(math.ceil(options.max_new_tokens / lm.chunk_size), lm.context_length - 1)
    ids = ids[-(lm.context_length - steps) * lm.chunk_size :]
    sampler: ChunkSampler | TokenSampler = (
        ChunkSampler(options.temperature, options.pool_size, options.sampler, options.seed, lm.device, tuple(leftover))
        if lm.is_calm
        else TokenSampler(options.temperature, options.seed)
    )
    join_chunks(lm, [step.token_ids for step in completed])  # raises CalmError for chunks of another model
    request = Request(ids, steps - len(completed), sampler, client, deque(step.token_ids for step in completed))
    events = _stream_steps(lm, request, before, len(leftover), completed)
    return _traced(lm, options, events) if tracing.is_on() else events


def draw_pool(
    lm: LanguageModel, prompt: str, prefix_chunks: Sequence[Sequence[int]] = (), pool_size: int = 200, seed: int = 0
) -> list[Candidate]:
    """Draws ``pool_size`` candidates for the chunk that follows a prompt and ``prefix_chunks``, most frequent first.

    The probability of a candidate is its share of the draws. Raises CalmError for a token-by-token model, for numbers
    outside the ranges of ``generate``, and for chunks of another length or with unknown token ids.
    """
    k = lm.calm.config.patch_size  # raises CalmError for a token-by-token model
    return list(next(generate(lm, prompt, 1.0, k, pool_size, "pooled", seed, prefix_chunks=prefix_chunks)).candidates)


@torch.inference_mode()
def draw_vectors(
    lm: LanguageModel, prompt: str, prefix_chunks: Sequence[Sequence[int]] = (), count: int = 200, seed: int = 0
) -> tuple[np.ndarray, list[list[int]]]:
    """Draws latent vectors for the chunk that follows a prompt and ``prefix_chunks``: float32 [count, L], and the K
    token ids that each decodes to. Raises CalmError as ``draw_pool`` does."""
    count, seed = check_integer("count", count, 1, MAX_POOL), check_seed(seed)
    head, k = lm.calm.generative_head, lm.chunk_size
    ids = align(lm, lm.tokenize(_check_prompt(prompt)))[0] + join_chunks(lm, prefix_chunks)
    hidden = lm.calm(torch.tensor([ids[-lm.context_length * k :]], device=lm.device), use_cache=False)[0, -1]
    vectors = head(hidden, head.noise((count,), hidden, torch.Generator(lm.device).manual_seed(seed)))
    return vectors.float().cpu().numpy(), lm.calm.ae_model.decode(vectors).tolist()


def align(lm: LanguageModel, ids: list[int], alignment: str | None = None) -> tuple[list[int], list[int]]:
    """Token ids -> (ids of whole chunks, leftover tokens with which the first generated chunk must start).

    The default alignment is the model's. There is at least one whole chunk.
    """
    k, text_format = lm.chunk_size, lm.text_format
    alignment = alignment or text_format.alignment
    if alignment == FRONT or not ids:
        return [text_format.start_id] * (k - len(ids) % k) + ids, []
    if alignment == CONDITION or text_format.single_start:
        ids = text_format.start(k) + ids
    if alignment == END:
        return ids + [lm.pad_id] * (-len(ids) % k), []
    if len(ids) < k:  # no position could draw the first chunk
        return [text_format.start_id] * (k - len(ids)) + ids, []
    whole = len(ids) // k * k
    return ids[:whole], ids[whole:]


def _check_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise CalmError("The prompt must be text.")
    return prompt


def join_chunks(lm: LanguageModel, chunks: Sequence[Sequence[int]]) -> list[int]:
    """The ids of all chunks, joined. Raises CalmError for a chunk that the model cannot read."""
    k, vocabulary = lm.chunk_size, lm.model.config.vocab_size
    joined: list[int] = []
    for chunk in chunks:
        try:
            ids = [operator.index(i) for i in chunk]
        except TypeError:
            ids = []
        if len(ids) != k or not all(0 <= i < vocabulary for i in ids):
            raise CalmError(f"A chunk must be {k} token ids below {vocabulary:,}.")
        joined += ids
    return joined


def _check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise CalmError(f"{name} must be one of {', '.join(allowed)}, not {short_repr(value)}.")


def _candidates(lm: LanguageModel, choice: Choice) -> list[Candidate]:
    return [Candidate(list(ids), lm.chunk_text(ids), count, p) for ids, count, p in choice.candidates()]


def _stream_steps(
    lm: LanguageModel, request: Request, before: Sequence[int], leftover: int, completed: Sequence[CompletedStep]
) -> Generator[Step | Queued, None, None]:
    """The steps of a request after the ``completed`` ones. ``before`` are the last tokens in front of its text; the
    first chunk repeats ``leftover`` of them."""
    text, index = lm.text_stream(), 0
    text.add(before)

    def shown(ids: Sequence[int]) -> str:
        """The text that the next chunk adds."""
        added = list(ids if index else ids[leftover:])
        end = lm.text_format.end_position(added)
        return text.add(added[:end], end is not None)

    for step in completed:
        shown(step.token_ids)
        index += 1
    if request.steps < 1 or (completed and lm.text_format.end_position(list(completed[-1].token_ids)) is not None):
        return
    _skip(lm, request.sampler, completed)
    for event in engine_for(lm).stream(request):
        if isinstance(event, Queued):
            yield event
            continue
        choice, seconds = event
        ids, candidates = list(choice.token_ids), Candidates(partial(_candidates, lm, choice))
        yield Step(index, ids, shown(ids), choice.vector, candidates, choice.draws, seconds, choice.random_numbers)
        index += 1


def _traced(
    lm: LanguageModel, options: GenerationOptions, events: Generator[Step | Queued, None, None]
) -> Generator[Step | Queued, None, None]:
    """The events, recorded in a span with the names of OpenTelemetry's conventions for generative models."""
    attributes = {
        "gen_ai.request.model": lm.name,
        "gen_ai.request.temperature": options.temperature,
        "gen_ai.request.max_tokens": options.max_new_tokens,
        "calm.sampler": options.sampler,
    }
    steps = tokens = draws = 0
    with tracing.start("calm.generate", attributes) as span, closing(events):
        try:
            for event in events:
                if isinstance(event, Queued):
                    span.event("queued", {"calm.position": event.position})
                else:
                    if not steps:
                        span.event("first chunk")
                    steps, tokens, draws = steps + 1, tokens + len(event.token_ids), draws + event.draws
                yield event
        finally:
            span.set({"calm.steps": steps, "calm.draws": draws, "gen_ai.usage.output_tokens": tokens})


def _skip(lm: LanguageModel, sampler: ChunkSampler | TokenSampler, completed: Sequence[CompletedStep]) -> None:
    """Moves the generators of a new sampler behind completed steps."""
    head = engine_for(lm).head if completed else None
    if isinstance(sampler, TokenSampler):
        sampler.skip(completed)
    elif head is not None:
        sampler.skip(completed, head, torch.empty(0, dtype=lm.dtype, device=lm.device))
