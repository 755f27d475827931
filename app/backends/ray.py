"""The backend of a page whose models are served by replicas on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from .. import compute, logs
from .base import Backend, Chunks, Item, LoadedModel, MakeRoom, Report

if TYPE_CHECKING:
    from calm import BrierLM, Candidate, Encoding, GenerationOptions, LanguageModel, Queued, Reconstruction, Step
    from calm.evaluation.continuations import Pause
    from calm.serving.client import Client
    from calm.vector_map import VectorMap

    from ..leases import Lease

ADDRESS = "CALM_RAY_ADDRESS"
"""Environment variable with the address of the cluster; by default, the one on this machine."""

_clients: dict[str, Client] = {}
_devices: dict[str, str] = {}


class RemoteModel(LoadedModel):
    """A model that replicas serve. ``lm`` has no weights here."""

    @property
    def device(self) -> str:
        return f"{_devices[self.name]} of a Ray cluster"

    @property
    def uses_fallback(self) -> bool:
        return False  # a replica compiles its kernels before it takes requests

    @property
    def client(self) -> Client:
        return _clients[self.name]

    def stream(
        self, prompt: str, options: GenerationOptions, client: str = "", encodings: bool = False
    ) -> Generator[Step | Queued, None, None]:
        return _until_closed(self.client.stream(prompt, options, client, logs.request_id(), encodings))

    def encoded(self, steps: Sequence[Step]) -> np.ndarray:
        sent = [getattr(step, "encoded", None) for step in steps]
        vectors = [vector for vector in sent if vector is not None]
        return np.stack(vectors) if len(vectors) == len(steps) else super().encoded(steps)

    def draw_pool(self, prompt: str, prefix_chunks: Chunks, count: int) -> list[Candidate]:
        return self._compute("draw_pool", prompt, prefix_chunks, count)

    def draw_vectors(self, prompt: str, prefix_chunks: Chunks, count: int) -> tuple[np.ndarray, list[list[int]]]:
        return self._compute("draw_vectors", prompt, prefix_chunks, count)

    def encode(self, chunks: str | Chunks) -> Encoding:
        return self._compute("encode", chunks)

    def decode(self, vectors: np.ndarray) -> list[list[int]]:
        return self._compute("decode", vectors)

    def reconstruct(self, text: str, noise: float, seed: int) -> Reconstruction:
        return self._compute("reconstruct", text, noise, seed)

    def robustness(self, text: str, noises: Sequence[float], seed: int) -> Iterator[tuple[float, float]]:
        return _until_closed(self.client.iterate("robustness", text, noises, seed, request_id=logs.request_id()))

    def brier_lm(
        self, texts: Sequence[str], seed: int, samples: int, temperature: float
    ) -> Generator[BrierLM | Pause | None, None, None]:
        arguments = texts, seed, samples, temperature
        return _until_closed(self.client.iterate("brier_lm", *arguments, request_id=logs.request_id()))

    def _compute(self, operation: str, *arguments: object):
        compute.check_open()
        return self.client.compute(operation, *arguments, request_id=logs.request_id())


def _until_closed(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yields the items. Raises the error of ``compute.close`` once the page stops."""
    with closing(items):
        compute.check_open()
        for item in items:
            compute.check_open()
            yield item


class RayBackend(Backend):
    """Models of a Ray cluster (``calm serve --ray``)."""

    def load(self, name: str, make_room: MakeRoom, report: Report) -> LanguageModel:
        from calm.serving import deployment
        from calm.serving.client import Client

        deployment.connect(os.environ.get(ADDRESS, "auto"))
        client = Client(name, deployment.ServeReplicas(name))
        description = client.describe()
        _clients[name], _devices[name] = client, description.device
        return description.lm

    def model(self, name: str, lm: LanguageModel, map: VectorMap | None, lease: Lease | None = None) -> LoadedModel:
        return RemoteModel(name, lm, map, lease)

    def iterate(self, items: Generator[Item, None, None]) -> Iterator[Item]:
        return items
