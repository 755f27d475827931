"""Writes several texts at once with one model: continuous batching, joined and left at chunk boundaries.

Whoever waits for the next step of a text moves all texts on; the engine has no thread of its own, unless
``Engine.submit`` gives it one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CalmError
from .backbone import CachedBackbone
from .head import ROWS, Chunk, make_drawer
from .samplers import Choice, ChunkSampler, TokenSampler, choose_tokens, draw_round

if TYPE_CHECKING:
    from ..hub.language_model import LanguageModel

Submit = Callable[..., object]  # a function and its arguments

SLOTS = ROWS
AHEAD = 32  # steps that a text may be ahead of its reader
BURST = 0.05  # seconds of rounds before their readers are woken, which takes as long as a quick step


@dataclass(eq=False)
class Writing:
    """One text that is being written."""

    ids: Sequence[int]
    """Token ids of whole chunks, at least one, from which the text goes on."""
    steps: int
    """How many steps it may still make; chunks of ``ids`` and steps together fit the context."""
    sampler: ChunkSampler | TokenSampler
    outbox: deque[tuple[Choice | Exception, float]] = field(default_factory=deque)
    """Choices that the reader has not taken yet, each with the wall seconds of its step."""
    news: threading.Event = field(default_factory=threading.Event)
    """Set when the reader should look again."""
    done: bool = False
    unread: Sequence[Chunk] = ()
    """What its backbone reads next: the chunks of its prompt, later the one that it chose last."""
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

    def __init__(self, lm: "LanguageModel", slots: int = SLOTS, interim: bool = False):
        self.lm, self.slots, self.eos = lm, slots, lm.tokenizer.eos_token_id
        self.interim = interim
        """Whether it does without the kernels of a CPU, as long as they are being compiled (``calm.compiling``)."""
        self.drawer = make_drawer(lm.calm, interim) if lm.is_calm else None
        self.backbone = CachedBackbone(lm.backbone, slots, self._embed, self._project, interim)
        self.running: list[Writing] = []
        self.queue: deque[Writing] = deque()
        self.lock, self.asking = threading.Lock(), threading.Lock()
        self.asked = False
        """Whether a thread that is better off makes rounds, or will."""
        self.submit: Callable[[], Submit | None] = lambda: None
        """How the thread that asks may have work done by one that is better off; None where there is none."""

    def write(self, writing: Writing) -> Iterator[tuple[Choice, float] | int]:
        """The choices of a text and the wall seconds of each step; before them, whenever it changes, how many wait
        before this text. Closing the iterator frees the text's slot. Raises CalmError where a choice cannot be made.
        """
        self.queue.append(writing)
        told = -1
        try:
            while True:
                if not (writing.outbox or writing.done):
                    self._await(writing)
                if writing.outbox:
                    found, seconds = writing.outbox.popleft()
                    if isinstance(found, Exception):
                        raise found
                    yield found, seconds
                elif writing.done:
                    return
                elif (ahead := self._ahead(writing)) not in (None, told):
                    told = ahead
                    yield ahead
        finally:
            writing.done = True  # noticed by the next step; no lock, as a collected iterator may end anywhere

    def _await(self, writing: Writing) -> None:
        """Returns when there may be something new of a text: after a round, unless somebody else has made it, or when
        the thread that is better off has made some. The lock is taken only by who has come to compute: nobody who holds
        it ever waits for another thread."""
        submit = self.submit()
        if not submit:
            with self.lock:
                if not (writing.outbox or writing.done):
                    self._advance()
            return
        writing.news.clear()
        if writing.outbox or writing.done:
            return
        with self.asking:
            idle, self.asked = not self.asked, True
        if idle:
            submit(self._rounds, submit)
        writing.news.wait()

    def _rounds(self, submit: Submit) -> None:
        """Rounds for a moment, by the thread that is better off, and more later, as long as a text wants them."""
        until = time.perf_counter() + BURST
        try:
            with self.lock:
                self._advance()
                while self._wanted() and time.perf_counter() < until:
                    self._advance()
        except Exception as error:  # of the libraries below: whoever waits must hear of it
            for writing in self.running:
                writing.outbox.append((error, 0.0))
                writing.done = True
        finally:
            with self.asking:  # who comes from now on either is seen here or sees that nobody makes rounds
                going = self.asked = self._wanted()
            for writing in [*self.running, *self.queue]:
                writing.news.set()
        if going:
            submit(self._rounds, submit)  # behind what else waits for the thread

    def _wanted(self) -> bool:
        return bool(self._behind() or self.queue)

    def _behind(self) -> list[Writing]:
        """The running texts that are not far ahead of their readers."""
        return [w for w in self.running if not w.done and len(w.outbox) < AHEAD]

    def _ahead(self, writing: Writing) -> int | None:
        """How many texts wait before this one; None once it runs."""
        waiting = [w for w in list(self.queue) if not w.done or w is writing]
        return waiting.index(writing) if writing in waiting else None

    def _active(self) -> list[Writing]:
        """The texts of a round: not those that are ahead of their readers, as long as nobody waits for a slot."""
        return [w for w in self.running if not w.done] if self.queue else self._behind()

    @torch.inference_mode()
    def _advance(self) -> None:
        """One round: each text gets its next draws, and those that have made their choice by them read on.

        A text that needs many rounds at an open place so does not hold up the others.
        """
        if self.backbone.kernels:
            self.backbone.kernels.use_threads(torch.get_num_threads())
        for writing, found in self._choose([w for w in self._active() if w.state is not None]):
            writing.outbox.append((found, time.perf_counter() - writing.begun))
            writing.state = None
            writing.steps -= 1
            if isinstance(found, CalmError) or not writing.steps or self.eos in found.chunk:
                writing.done = True
                writing.news.set()
            else:
                writing.unread = [found.chunk]
        self._read_on()  # now, so that a GPU does it while the readers take what was chosen

    def _read_on(self) -> None:
        """One backbone step of the texts that have something to read, if they are half of the active ones: a step of
        few takes nearly as long as one of many, and the rest will soon have chosen."""
        now = time.perf_counter()
        self._admit()
        active = self._active()
        writings = [w for w in active if w.state is None]
        if not writings or 2 * len(writings) < len(active):
            return
        chunks = torch.tensor([chunk for w in writings for chunk in w.unread])
        states = self.backbone.read([w.slot for w in writings], [len(w.unread) for w in writings], chunks)
        for writing, state in zip(writings, states):
            writing.begun, writing.state = now, state

    def _admit(self) -> None:
        """Fills the free slots from the queue, in order."""
        self.running = [w for w in self.running if not w.done]
        free = sorted(set(range(self.slots)) - {w.slot for w in self.running})
        while free and self.queue:
            writing = self.queue.popleft()
            if writing.done:
                continue
            writing.slot, ids = free.pop(0), iter(writing.ids)
            writing.unread = list(zip(*[ids] * self.lm.chunk_size))
            self.backbone.begin(writing.slot)
            self.running.append(writing)

    def _embed(self, chunks: Tensor) -> Tensor:
        """chunks [T, K] -> backbone inputs [T, D]."""
        return self.drawer.embed(chunks) if self.drawer else self.lm.llama.model.embed_tokens(chunks[:, 0])

    def _project(self, hidden: Tensor) -> Tensor:
        """hidden [R, D] -> the states [R, ...] of as many writings."""
        return self.drawer.project(hidden) if self.drawer else self.lm.llama.lm_head(hidden)

    def _choose(self, writings: list[Writing]) -> Iterable[tuple[Writing, Choice | CalmError]]:
        """One round of draws; those that are decided by it, each with its choice or why there is none."""
        if not writings:
            return []
        states = torch.stack([w.state for w in writings if w.state is not None])
        samplers: list[Any] = [w.sampler for w in writings]  # of the model's kind, as its callers made them
        if not self.drawer:
            return zip(writings, choose_tokens(states, samplers))
        draw_round(self.drawer, states, samplers)
        return [(w, _choice(sampler)) for w, sampler in zip(writings, samplers) if not sampler.wanted()]


def _choice(sampler: ChunkSampler) -> Choice | CalmError:
    try:
        return sampler.choice()
    except CalmError as error:
        return error
