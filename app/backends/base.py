"""What the page asks of whatever computes: a backend loads models, and a loaded model generates, encodes and measures.

Arguments and results are plain data: numbers, texts, arrays and the dataclasses of the library. A backend may therefore
compute in this process or elsewhere. B, T, K and L are batch, chunks, tokens of a chunk and latent size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import calm

from ..leases import Lease

if TYPE_CHECKING:
    import numpy as np

    from calm import BrierLM, Candidate, Encoding, GenerationOptions, LanguageModel, Queued, Reconstruction, Step
    from calm.evaluation.continuations import Pause
    from calm.vector_map import VectorMap

Item = TypeVar("Item")
Report = Callable[[int, int], None]
"""A function of the bytes of a download that have arrived and of all its bytes. It raises CalmError to end it."""
MakeRoom = Callable[[int, int | None], None]
"""A function of the bytes that a model needs and of those that are free, if they are known. It unloads other models, or
raises CalmError."""
Chunks = Sequence[Sequence[int]]


@dataclass(frozen=True)
class LoadedModel(ABC):
    """A model under its name in the menu, with the map of its chunk vectors, if there is one.

    Every method raises CalmError as the function of the library does that it names.
    """

    name: str
    lm: LanguageModel
    """Tokenizer, text format and configuration. Only a local model has weights."""
    map: VectorMap | None
    lease: Lease | None = None
    """Keeps the model in memory while this object lives; None outside of the page."""

    def require_map(self) -> VectorMap:
        """The map. Raises CalmError if there is none."""
        if self.map is None:
            hint = "build one with python -m calm map" if self.lm.is_calm else "a token-by-token model has no vectors"
            hint = "an autoencoder predicts no vectors" if self.lm.is_autoencoder else hint
            raise calm.CalmError(f"There is no map of {self.name}: {hint}.")
        return self.map

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the model computes, in words."""

    @property
    @abstractmethod
    def uses_fallback(self) -> bool:
        """Whether the model generates without its kernels, because they are still being compiled."""

    @abstractmethod
    def stream(
        self, prompt: str, options: GenerationOptions, client: str = "", encodings: bool = False
    ) -> Generator[Step | Queued, None, None]:
        """The steps of a text, and its positions in the queue (``calm.stream``). With ``encodings``, a replica sends
        with each step the vector that ``encoded`` returns."""

    def encoded(self, steps: Sequence[Step]) -> np.ndarray:
        """float32 [n, L], the mean to which the autoencoder encodes the chunk of each step."""
        return self.encode([step.token_ids for step in steps]).mean

    @abstractmethod
    def draw_pool(self, prompt: str, prefix_chunks: Chunks, count: int) -> list[Candidate]:
        """Fresh candidates for the chunk after ``prefix_chunks`` (``calm.draw_pool``)."""

    @abstractmethod
    def draw_vectors(self, prompt: str, prefix_chunks: Chunks, count: int) -> tuple[np.ndarray, list[list[int]]]:
        """Fresh vectors, float32 [count, L], and the chunks that they decode to (``calm.draw_vectors``)."""

    @abstractmethod
    def encode(self, chunks: str | Chunks) -> Encoding:
        """The posteriors of the chunks of a text, or of chunks [n, K] (``calm.encode``)."""

    @abstractmethod
    def decode(self, vectors: np.ndarray) -> list[list[int]]:
        """The chunks [n, K] of vectors [n, L] (``calm.decode``)."""

    @abstractmethod
    def reconstruct(self, text: str, noise: float, seed: int) -> Reconstruction:
        """A text through the autoencoder (``calm.reconstruct``)."""

    @abstractmethod
    def robustness(self, text: str, noises: Sequence[float], seed: int) -> Iterator[tuple[float, float]]:
        """The share of tokens restored at each level of noise (``calm.robustness``)."""

    @abstractmethod
    def brier_lm(
        self, texts: Sequence[str], seed: int, samples: int, temperature: float
    ) -> Generator[BrierLM | Pause | None, None, None]:
        """BrierLM after each text (``calm.stream_brier_lm``), None as long as all are too short. Other work may run at
        each ``Pause``."""


class Backend(ABC):
    """Loads models and computes with them."""

    @abstractmethod
    def load(self, name: str, make_room: MakeRoom, report: Report) -> LanguageModel:
        """The model of this name, for ``model``. Waits until it can generate. Raises CalmError if it cannot be
        loaded. A backend that keeps models in this process calls ``report`` while it downloads the model, and
        ``make_room`` before it loads it."""

    @abstractmethod
    def model(self, name: str, lm: LanguageModel, map: VectorMap | None, lease: Lease | None = None) -> LoadedModel:
        """The interface to a model that ``load`` has returned."""

    def in_memory(self, name: str) -> LanguageModel | None:
        """A model that ``load`` has put into the memory of this process and may not have returned yet; None if there is
        none."""
        return None

    def memory(self, parameters: int) -> tuple[int, int | None] | None:
        """The bytes that the load of a model of so many parameters reserves in this process, and the free bytes of its
        device, if they are known; None if models are elsewhere."""
        return None

    @abstractmethod
    def iterate(self, items: Generator[Item, None, None]) -> Iterator[Item]:
        """The items of a generator that computes with models of this backend. Closing the iterator closes it."""
