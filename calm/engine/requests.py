"""A request to generate one text, and what its caller receives."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from .head import TokenIds
from .samplers import Choice, ChunkSampler, TokenSampler


class Generated(NamedTuple):
    """One step of a request."""

    choice: Choice
    seconds: float
    """Seconds of the engine's steps that led to the choice. The steps computed the other requests of the batch, too.
    The steps of a run share its seconds equally."""


@dataclass(frozen=True)
class Queued:
    """A request that waits for a slot."""

    position: int
    """Number of queued requests ahead of it."""


@dataclass(eq=False)
class Request:
    """One text to generate."""

    token_ids: Sequence[int]
    """The prompt: token ids of whole chunks, at least one."""
    steps: int
    """Number of steps left. The chunks of the prompt and the steps together fit the context."""
    sampler: ChunkSampler | TokenSampler
    client: str = ""
    """Requests of one client share slots; an empty name is no client."""
    replayed: deque[TokenIds] = field(default_factory=deque)
    """Chunks of the text that were chosen elsewhere. The backbone reads one a step, as it did there: read all at once,
    as a prompt is, they could give other states in the last bits."""
    results: deque[Generated | Exception] = field(default_factory=deque)
    """Results that the caller has not taken."""
    updated: threading.Event = field(default_factory=threading.Event)
    """Set when the caller should look at the results again."""
    finished: bool = False
    unread: Sequence[TokenIds] = ()
    """The chunks that the backbone reads next: those of the prompt, later the last chosen one."""
    slot: int = -1
    state: Tensor | None = None
    """Input of the next draw: the head state [blocks, D], or the logits [V] of a token-by-token model. None between a
    choice and the backbone step that reads it."""
    run: Tensor | None = None
    """The draws [n, C] of a run whose choices are not made yet (``Engine._start_run``). The state is the one after
    them."""
    run_length: int = 1
    """Steps of the next run. Runs grow, so that the first chunks are not late."""
    seconds: float = 0.0
    """Seconds of the engine's steps since the last choice of this request."""
    is_new: bool = True
    """Whether its first step is not complete."""

    def finish(self, error: Exception | None = None) -> None:
        """Ends the text, with an error as its last result if there is one."""
        if error is not None:
            self.results.append(error)
        self.finished = True
        self.updated.set()
