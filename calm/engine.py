"""Writes several texts at once with one model: continuous batching, joined and left at chunk boundaries.

Whoever waits for the next step of a text moves all texts on by one round; the engine has no thread of its own, unless
``Engine.compute`` gives it one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .backbone import CachedBackbone
from .drawing import ROWS, Chunk, make_drawer
from .errors import CalmError
from .sampling import Choice, ChunkSampler, TokenSampler, choose_tokens, draw_round

if TYPE_CHECKING:
    from .loading import LanguageModel

SLOTS = ROWS
AHEAD = 8  # steps that a text may be ahead of its reader
BURST = 0.02  # seconds for which rounds follow one another before the readers take their steps


@dataclass(eq=False)
class Writing:
    """One text that is being written."""

    ids: Sequence[int]
    """Token ids of whole chunks, at least one, from which the text goes on."""
    steps: int
    """How many steps it may still make; chunks of ``ids`` and steps together fit the context."""
    sampler: ChunkSampler | TokenSampler
    outbox: deque[tuple[Choice | CalmError, float]] = field(default_factory=deque)
    """Choices that the reader has not taken yet, each with the wall seconds of its step."""
    done: bool = False
    last: Chunk = ()
    slot: int = -1
    state: Tensor | None = None
    """What the next chunk or token is drawn from: [blocks, D], as ``Drawer.project`` makes it of the hidden state, or
    the logits [V] of a token-by-token model. None after a choice, until that was read in turn."""
    begun: float = 0.0
    """When its present step began, by the clock of ``time.perf_counter``."""


class Engine:
    """Writes at most ``slots`` texts at a time; more wait in the order in which they came.

    A text depends on its own seed and prompt alone: whatever runs beside it, the same numbers are drawn for it.
    """

    def __init__(self, lm: "LanguageModel", slots: int = SLOTS):
        self.lm, self.slots = lm, slots
        self.drawer = make_drawer(lm.calm) if lm.is_calm else None
        self.backbone = CachedBackbone(lm.backbone, slots, self._embed, self._project)
        self.running: list[Writing] = []
        self.queue: deque[Writing] = deque()
        self.lock = threading.Lock()
        self.compute: Callable[[Callable[[], None]], None] = lambda work: work()
        """Runs a round: at once by default, or in a thread that is better off."""

    def write(self, writing: Writing) -> Iterator[tuple[Choice, float] | int]:
        """The choices of a text and the wall seconds of each step; before them, whenever it changes, how many wait
        before this text. Closing the iterator frees the text's slot. Raises CalmError where a choice cannot be made.
        """
        self.queue.append(writing)
        told = -1
        try:
            while True:
                if not (writing.outbox or writing.done):
                    self.compute(partial(self._advance_for, writing))
                if writing.outbox:
                    found, seconds = writing.outbox.popleft()
                    if isinstance(found, CalmError):
                        raise found
                    yield found, seconds
                elif writing.done:
                    return
                elif (ahead := self._ahead(writing)) not in (None, told):
                    told = ahead
                    yield ahead
        finally:
            writing.done = True  # noticed by the next step; no lock, as a collected iterator may end anywhere

    def _advance_for(self, writing: Writing) -> None:
        """Rounds, unless somebody else has made them meanwhile: one, and more for a moment where nobody waits for a
        slot, because to wake a reader takes as long as a quick step. The lock is taken only by who has come to compute:
        nobody who holds it ever waits for another thread."""
        with self.lock:
            if writing.outbox or writing.done:
                return
            until = time.perf_counter() + BURST
            self._advance()
            while not self.queue and self._behind() and time.perf_counter() < until:
                self._advance()

    def _behind(self) -> list[Writing]:
        """The running texts that are not far ahead of their readers."""
        return [w for w in self.running if not w.done and len(w.outbox) < AHEAD]

    def _ahead(self, writing: Writing) -> int | None:
        """How many texts wait before this one; None once it runs."""
        waiting = [w for w in list(self.queue) if not w.done or w is writing]
        return waiting.index(writing) if writing in waiting else None

    @torch.inference_mode()
    def _advance(self) -> None:
        """One round of the running texts, but those that are ahead of their reader while nobody waits for a slot.

        A text that made its choice in the last round is read on, then each gets its next draws: one that needs many
        rounds at an open place does not hold up the others.
        """
        if self.backbone.kernels:
            self.backbone.kernels.use_threads(torch.get_num_threads())
        now = time.perf_counter()
        self._admit(now)
        active = self.running if self.queue else self._behind()
        self._read([w for w in active if w.state is None], now)
        for writing, found in self._choose(active):
            writing.outbox.append((found, time.perf_counter() - writing.begun))
            writing.state = None
            writing.last = () if isinstance(found, CalmError) else found.chunk
            writing.steps -= 1
            if not writing.last or not writing.steps or self.lm.tokenizer.eos_token_id in writing.last:
                writing.done = True

    def _admit(self, now: float) -> None:
        """Fills the free slots from the queue, in order, and reads the prompts."""
        self.running = [w for w in self.running if not w.done]
        free = sorted(set(range(self.slots)) - {w.slot for w in self.running})
        while free and self.queue:
            writing = self.queue.popleft()
            if writing.done:
                continue
            writing.slot = free.pop(0)
            chunks = torch.tensor(writing.ids).view(-1, self.lm.chunk_size)
            writing.begun, writing.state = now, self.backbone.prefill(writing.slot, chunks)
            self.running.append(writing)

    def _embed(self, chunks: Tensor) -> Tensor:
        """chunks [T, K] -> backbone inputs [T, D]."""
        return self.drawer.embed(chunks) if self.drawer else self.lm.llama.model.embed_tokens(chunks[:, 0])

    def _project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> the states [R, ...] of as many writings."""
        return self.drawer.project(hidden).transpose(0, 1) if self.drawer else self.lm.llama.lm_head(hidden)

    def _read(self, writings: list[Writing], now: float) -> None:
        """One backbone step: reads the chunk that each text chose last."""
        if not writings:
            return
        chunks = torch.tensor([w.last for w in writings])
        states = self.backbone.step([w.slot for w in writings], chunks)
        for writing, state in zip(writings, states):
            writing.begun, writing.state = now, state

    def _choose(self, writings: list[Writing]) -> Iterable[tuple[Writing, Choice | CalmError]]:
        """One round of draws; those that are decided by it, each with its choice or why there is none."""
        if not writings:
            return []
        states = torch.stack([w.state for w in writings if w.state is not None])
        samplers: list[Any] = [w.sampler for w in writings]  # of the model's kind, as its callers made them
        if not self.drawer:
            return zip(writings, choose_tokens(states, samplers))
        draw_round(self.drawer, states.transpose(0, 1), samplers)
        return [(w, _choice(sampler)) for w, sampler in zip(writings, samplers) if not sampler.wanted()]


def _choice(sampler: ChunkSampler) -> Choice | CalmError:
    try:
        return sampler.choice()
    except CalmError as error:
        return error
