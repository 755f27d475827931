"""Writes several texts at once with one model: continuous batching at chunk boundaries.

Whoever waits for the next step of a text moves all texts on by one step; the engine has no thread of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .backbone import CachedBackbone
from .drawing import Chunk, make_drawer
from .errors import CalmError
from .sampling import Choice, ChunkSampler, TokenSampler, choose_chunks, choose_tokens

if TYPE_CHECKING:
    from .loading import LanguageModel

SLOTS = 8
AHEAD = 4  # steps that a text may be ahead of its reader


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
    position: int = 0
    hidden: Tensor | None = None
    """[D], the state from which the next chunk is drawn; None after a choice, until that was read in turn."""


class Engine:
    """Writes at most ``slots`` texts at a time; more wait in the order in which they came.

    A text depends on its own seed and prompt alone: whatever runs beside it, the same numbers are drawn for it.
    """

    def __init__(self, lm: "LanguageModel", slots: int = SLOTS):
        self.lm, self.slots = lm, slots
        self.backbone = CachedBackbone(lm.calm.transformer if lm.is_calm else lm.llama.model, slots)
        self.drawer = make_drawer(lm.calm) if lm.is_calm else None
        self.running: list[Writing] = []
        self.queue: deque[Writing] = deque()
        self.lock = threading.Lock()

    def write(self, writing: Writing) -> Iterator[tuple[Choice, float] | int]:
        """The choices of a text and the wall seconds of each step; before them, whenever it changes, how many wait
        before this text. Closing the iterator frees the text's slot. Raises CalmError where a choice cannot be made.
        """
        self.queue.append(writing)
        told = -1
        try:
            while True:
                with self.lock:
                    if not (writing.outbox or writing.done):
                        self._advance()
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

    def _ahead(self, writing: Writing) -> int | None:
        """How many texts wait before this one; None once it runs."""
        waiting = [w for w in list(self.queue) if not w.done or w is writing]
        return waiting.index(writing) if writing in waiting else None

    @torch.inference_mode()
    def _advance(self) -> None:
        """One step of the running texts, but those that are ahead of their reader while nobody waits for a slot."""
        start = time.perf_counter()
        if self.backbone.kernels:
            self.backbone.kernels.use_threads(torch.get_num_threads())
        self._admit()
        active = [w for w in self.running if self.queue or len(w.outbox) < AHEAD]
        self._read([w for w in active if w.hidden is None])
        if not active:
            return
        for writing, found in zip(active, self._choose(active)):
            writing.outbox.append((found, time.perf_counter() - start))
            writing.hidden = None
            writing.last = () if isinstance(found, CalmError) else found.chunk
            writing.steps -= 1
            if not writing.last or not writing.steps or self.lm.tokenizer.eos_token_id in writing.last:
                writing.done = True

    def _admit(self) -> None:
        """Fills the free slots from the queue, in order, and reads the prompts."""
        self.running = [w for w in self.running if not w.done]
        free = sorted(set(range(self.slots)) - {w.slot for w in self.running})
        while free and self.queue:
            writing = self.queue.popleft()
            if writing.done:
                continue
            writing.slot = free.pop(0)
            ids = torch.tensor(writing.ids, device=self.lm.device).view(-1, self.lm.chunk_size)
            writing.hidden = self.backbone.prefill(writing.slot, self._embed(ids))
            writing.position = len(ids)
            self.running.append(writing)

    def _embed(self, chunks: Tensor) -> Tensor:
        """chunks [T, K] -> backbone inputs [T, D]."""
        return self.drawer.embed(chunks) if self.drawer else self.lm.llama.model.embed_tokens(chunks[:, 0])

    def _read(self, writings: list[Writing]) -> None:
        """One backbone step: reads the chunk that each text chose last."""
        if not writings:
            return
        used = 1 + max(w.slot for w in writings)
        rows = self.backbone.rows(used)
        chunks = [(0,) * self.lm.chunk_size] * rows
        positions = [0] * self.slots
        for writing in self.running:
            positions[writing.slot] = min(writing.position, self.backbone.length - 1)
        for writing in writings:
            chunks[writing.slot] = writing.last
        hidden = self.backbone.step(
            self._embed(torch.tensor(chunks, device=self.lm.device)),
            torch.tensor(positions[:rows], device=self.lm.device),
            used=used,
            longest=1 + max(positions),
        )
        for writing in writings:
            writing.hidden = hidden[writing.slot]
            writing.position += 1

    def _choose(self, writings: list[Writing]) -> Sequence[Choice | CalmError]:
        hidden = torch.stack([w.hidden for w in writings if w.hidden is not None])
        samplers: list[Any] = [w.sampler for w in writings]  # of the model's kind, as its callers made them
        if self.drawer:
            return choose_chunks(self.drawer, hidden, samplers)
        return choose_tokens(self.lm.llama, hidden, samplers)
