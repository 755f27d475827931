"""A model's own continuations of a text, drawn at many of its positions at once.

Shapes: S samples, P positions of a text, K tokens a chunk, D width of the backbone, V vocabulary.
"""

from collections.abc import Generator
from copy import deepcopy
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaModel

from ..engine.head import HeadStep, TokenIds
from ..engine.samplers import ChunkSampler, sample_chunks
from ..generation import GenerationOptions
from ..hub.language_model import LanguageModel

CONTINUATION = 4
"""Tokens of a continuation."""
DRAWS_AT_ONCE = 512
"""Draws in one pass of the head. More would delay the other work of the thread."""


class Pause:
    """An item between two forward passes, at which a caller can let other work run."""


PAUSE = Pause()
Result = TypeVar("Result")


def without_pauses(measuring: Generator[Pause, None, Result]) -> Result:
    """The result of a measurement that nothing interrupts."""
    while True:
        try:
            next(measuring)
        except StopIteration as end:
            return cast(Result, end.value)


class Continuations(NamedTuple):
    """Independent continuations of a text, and for a token-by-token model their exact probabilities."""

    tokens: Tensor
    """[S, P, 4] token ids."""
    probabilities: Tensor | None
    """[S, P, 4], of each token, given the text and the tokens before it; None for a CALM."""
    probabilities_of_text: Tensor | None
    """[P, 4], the same for the next four tokens of the text."""


class ContinuationRequest(NamedTuple):
    """Which continuations to draw: some at every ``stride``-th token of a text, after its first ``context`` tokens."""

    ids: list[int]
    """The token ids of the text."""
    context: int
    """A multiple of K."""
    stride: int
    """A multiple of K."""
    samples: int
    """Continuations at each position."""
    temperature: float = 1.0


Drawing = Generator[Pause, None, Continuations]
"""Yields a pause between two forward passes, and returns the continuations."""


@torch.no_grad()
def draw_continuations(lm: LanguageModel, request: ContinuationRequest, generator: torch.Generator) -> Drawing:
    """Draws the continuations that a request asks for.

    Each position has the true tokens before it as its context, and four more behind it. A CALM draws whole chunks;
    their first four tokens count. At T = 1 the first draw is the sample; at any other temperature the sampler ``auto``
    chooses, as in ``calm.generate``. All random numbers come from ``generator``.
    """
    draw = _draw_chunks if lm.is_calm else _draw_tokens
    return (yield from draw(lm, request, generator))


class Branches:
    """Continuations of one text from many positions [P], advanced together, one step per forward pass.

    All branches share the key/value cache of the text, so a step costs P positions instead of P texts. The attention
    mask lets a branch see the text up to its position, and its own steps.
    """

    def __init__(self, backbone: LlamaModel, cache: DynamicCache, positions: Tensor):
        self.backbone, self.positions, self.cache = backbone, positions, cache
        self.length, self.steps = cache.get_seq_length(), 0

    def step(self, inputs: Tensor) -> Tensor:
        """The next input of each branch [P, D] -> hidden states [P, D]."""
        if not self.steps:
            self.cache = deepcopy(self.cache)  # the branches of the next sample start from the same cache
        self.steps += 1
        text = torch.arange(self.length, device=inputs.device) <= self.positions[:, None]
        branch = torch.eye(len(self.positions), dtype=torch.bool, device=inputs.device).repeat(1, self.steps)
        hidden_from = ~torch.cat([text, branch], dim=-1)
        mask = torch.zeros(hidden_from.shape, dtype=inputs.dtype, device=inputs.device)
        out = self.backbone(
            inputs_embeds=inputs[None],
            attention_mask=mask.masked_fill(hidden_from, torch.finfo(inputs.dtype).min)[None, None],
            position_ids=(self.positions + self.steps)[None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.last_hidden_state[0]


def _draw_chunks(lm: LanguageModel, request: ContinuationRequest, generator: torch.Generator) -> Drawing:
    model, k = lm.calm, lm.chunk_size
    context, stride, temperature = request.context, request.stride, request.temperature
    count = (len(request.ids) - context - CONTINUATION) // stride + 1
    row = torch.tensor([request.ids[: context + (count - 1) * stride]], device=lm.device)
    positions = torch.arange(count, device=lm.device) * (stride // k) + context // k - 1
    cache = DynamicCache()
    first = model(row, past_key_values=cache, use_cache=True)[0, positions]
    drawn = []
    for _ in range(request.samples):
        hidden, branches, chunks = first, Branches(model.transformer, cache, positions), []
        samplers = [] if temperature == 1 else _samplers(lm, count, generator, temperature)
        while True:
            if samplers:
                chunks.append((yield from _sample(lm, hidden, samplers)))
            else:
                noise = model.generative_head.noise((count,), hidden, generator)
                chunks.append(model.ae_model.decode(model.generative_head(hidden, noise)))
            if len(chunks) * k >= CONTINUATION:
                break
            yield PAUSE
            hidden = branches.step(model.embed(chunks[-1]))
        drawn.append(torch.cat(chunks, dim=-1)[:, :CONTINUATION])
        yield PAUSE
    return Continuations(torch.stack(drawn), None, None)


def _samplers(lm: LanguageModel, count: int, generator: torch.Generator, temperature: float) -> list[ChunkSampler]:
    """The samplers of ``count`` positions, each with a seed of its own."""
    options = GenerationOptions(temperature=temperature)
    seeds = torch.randint(2**62, (count,), generator=generator, device=lm.device).tolist()
    return [ChunkSampler(options.temperature, options.pool_size, options.sampler, seed, lm.device) for seed in seeds]


def _sample(lm: LanguageModel, hidden: Tensor, samplers: list[ChunkSampler]) -> Generator[Pause, None, Tensor]:
    """The choice of each position's sampler: hidden [P, D], P samplers -> chunks [P, K]."""
    head = HeadStep(lm.calm)  # the engine's own may be in use on another thread
    states = head.project(hidden)
    chosen: dict[int, TokenIds] = {}
    waiting = list(range(len(samplers)))
    while waiting:
        rows: list[int] = []
        draws = 0
        for row in waiting:
            draws += samplers[row].draws_needed(head.free_draws)
            if rows and draws > DRAWS_AT_ONCE:
                break
            rows.append(row)
        for row, outcome in zip(rows, sample_chunks(head, states[rows], [samplers[row] for row in rows])):
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                chosen[row] = outcome.token_ids
        waiting = [row for row in waiting if row not in chosen]
        if waiting:
            yield PAUSE
    return torch.tensor([chosen[row] for row in range(len(samplers))], device=lm.device)


def _draw_tokens(lm: LanguageModel, request: ContinuationRequest, generator: torch.Generator) -> Drawing:
    backbone = lm.llama.model
    row = torch.tensor(request.ids, device=lm.device)
    targets = row[request.context :].unfold(0, CONTINUATION, request.stride)
    positions = torch.arange(len(targets), device=lm.device) * request.stride + request.context - 1

    def distribution(states: Tensor) -> Tensor:
        """hidden states [n, D] -> probabilities [n, V]."""
        return (lm.llama.lm_head(states).float() / request.temperature).softmax(-1)

    cache = DynamicCache()
    p = distribution(backbone(row[None], past_key_values=cache, use_cache=True).last_hidden_state[0])
    yield PAUSE
    # Row i of p predicts token i + 1.
    of_text = p[positions[:, None] + torch.arange(CONTINUATION, device=lm.device)].gather(-1, targets[..., None])
    drawn, probabilities = [], []
    for _ in range(request.samples):
        current, branches, tokens, chances = p[positions], Branches(backbone, cache, positions), [], []
        for n in range(CONTINUATION):
            token = torch.multinomial(current, 1, generator=generator)
            tokens.append(token[:, 0])
            chances.append(current.gather(-1, token)[:, 0])
            if n + 1 < CONTINUATION:
                yield PAUSE
                current = distribution(branches.step(backbone.embed_tokens(tokens[-1])))
        drawn.append(torch.stack(tokens, -1))
        probabilities.append(torch.stack(chances, -1))
    return Continuations(torch.stack(drawn), torch.stack(probabilities), of_text[..., 0])
