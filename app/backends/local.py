"""The backend of this process: models share the compute thread."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from threading import Lock, Thread
from typing import TYPE_CHECKING
from weakref import ReferenceType, WeakValueDictionary, ref

import calm
from calm.errors import reason_of

from .. import compute, zero_gpu
from .base import Backend, Chunks, Item, LoadedModel, MakeRoom, Report

if TYPE_CHECKING:
    import numpy as np
    import torch

    from calm import BrierLM, Candidate, Encoding, GenerationOptions, LanguageModel, Queued, Reconstruction, Step
    from calm.evaluation.continuations import Pause
    from calm.vector_map import VectorMap

    from ..leases import Lease


class LocalModel(LoadedModel):
    """A model whose weights are in this process."""

    @property
    def device(self) -> str:
        return str(self.lm.device)

    @property
    def uses_fallback(self) -> bool:
        return uses_fallback(self.lm)

    def stream(
        self, prompt: str, options: GenerationOptions, client: str = "", encodings: bool = False
    ) -> Generator[Step | Queued, None, None]:
        return calm.stream(self.lm, prompt, options, client)

    def draw_pool(self, prompt: str, prefix_chunks: Chunks, count: int) -> list[Candidate]:
        # Not on the compute thread: the request may wait for a slot, and all other work would wait with it.
        compute.check_open()
        return calm.draw_pool(self.lm, prompt, prefix_chunks, count)

    def draw_vectors(self, prompt: str, prefix_chunks: Chunks, count: int) -> tuple[np.ndarray, list[list[int]]]:
        return compute.run(calm.draw_vectors, self.lm, prompt, prefix_chunks, count)

    def encode(self, chunks: str | Chunks) -> Encoding:
        return calm.encode(self.lm, chunks)

    def decode(self, vectors: np.ndarray) -> list[list[int]]:
        return calm.decode(self.lm, vectors)

    def reconstruct(self, text: str, noise: float, seed: int) -> Reconstruction:
        return calm.reconstruct(self.lm, text, noise, seed)

    def robustness(self, text: str, noises: Sequence[float], seed: int) -> Iterator[tuple[float, float]]:
        return compute.iterate(calm.robustness(self.lm, text, noises, seed=seed))

    def brier_lm(
        self, texts: Sequence[str], seed: int, samples: int, temperature: float
    ) -> Generator[BrierLM | Pause | None, None, None]:
        return calm.stream_brier_lm(self.lm, texts, seed, samples, pauses=True, temperature=temperature)


class LocalBackend(Backend):
    """Computes in this process, or in the workers of a ZeroGPU Space."""

    def load(self, name: str, make_room: MakeRoom, report: Report) -> LanguageModel:
        """Downloads on this thread, so that the compute thread can run requests meanwhile, then loads the model."""
        from calm.hub.loading import fetch

        fetch(name, report=report)
        return compute.run(_load, name, make_room)

    def model(self, name: str, lm: LanguageModel, map: VectorMap | None, lease: Lease | None = None) -> LoadedModel:
        return LocalModel(name, lm, map, lease)

    def in_memory(self, name: str) -> LanguageModel | None:
        return _loaded.get(name)

    def memory(self, parameters: int) -> tuple[int, int | None] | None:
        from calm.engine.memory import packed_memory
        from calm.hub.loading import default_device, default_dtype
        from calm.hub.memory import free_memory

        device = default_device()
        weights = parameters * default_dtype(device).itemsize
        return weights + packed_memory(weights, device), free_memory(device)

    def iterate(self, items: Generator[Item, None, None]) -> Iterator[Item]:
        return compute.iterate(items)


_loaded: WeakValueDictionary[str, LanguageModel] = WeakValueDictionary()
"""The models with an engine in the memory of this process, by name."""


def _load(name: str, make_room: MakeRoom) -> LanguageModel:
    """Only the compute thread loads models, so that one load cannot take the memory that another one made free."""
    from calm.engine.memory import packed_memory
    from calm.hub.memory import free_memory

    def reserve(weights: int, device: torch.device) -> None:
        make_room(weights + packed_memory(weights, device), free_memory(device))

    try:
        lm = calm.load(name, device="cpu" if zero_gpu.ENABLED else None, reserve=reserve)
    except (OSError, RuntimeError) as error:  # damaged files, or too little memory
        raise calm.CalmError(f"{name} could not be loaded: {reason_of(error)}") from error
    from calm.engine.warmup import warm_up_or_fall_back

    compute.use_one_core_elsewhere()
    is_fastest = lm.is_autoencoder or warm_up_or_fall_back(lm, compute.executor())
    _loaded[name] = lm
    if not is_fastest:
        compute.use_cores(leave_one=True)
        Thread(target=_compile, args=(name, ref(lm)), daemon=True).start()
    return lm


_compile_lock = Lock()


def _compile(name: str, model: ReferenceType[LanguageModel]) -> None:
    """Compiles the kernels of a model in another process, while its fallback engine generates. The fallback engine
    remains if compilation fails, and nothing remains if the model is unloaded meanwhile."""
    from calm.engine.warmup import compile_in_subprocess

    with _compile_lock:
        if compile_in_subprocess(name) and not compute.is_closed():
            compute.run(_replace_fallback, model)


def _replace_fallback(model: ReferenceType[LanguageModel]) -> None:
    from calm.engine.warmup import replace_fallback

    if (lm := model()) is not None:
        replace_fallback(lm)
    compute.use_cores(leave_one=any(map(uses_fallback, _loaded.values())))


def uses_fallback(lm: LanguageModel) -> bool:
    """Whether a model generates without its kernels, because they are still being compiled."""
    from calm.engine import engine_for

    return not lm.is_autoencoder and engine_for(lm).is_fallback
