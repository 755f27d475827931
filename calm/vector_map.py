"""A map of chunk vectors: UMAP in two and three dimensions, fitted once, with a transform for new vectors.

UMAP's own transform needs its pickled model and ten seconds of compiling, so the map carries a transform of its own:
a new vector is placed among its nearest neighbours in latent space, weighted as UMAP initialises new points.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CalmError

if TYPE_CHECKING:
    from .hub.language_model import LanguageModel

NEIGHBOURS = 15
METRICS = ("euclidean", "cosine", "manhattan", "correlation")


@dataclass(frozen=True)
class VectorMap:
    """Vectors [n, L] of training chunks, their texts and counts, and their places in the plane and in space."""

    vectors: np.ndarray
    texts: list[str]
    counts: list[int]
    plane: np.ndarray
    """float32 [n, 2]"""
    space: np.ndarray
    """float32 [n, 3]"""

    def count_of(self, text: str) -> int:
        """How often a chunk was told in the texts that the map was made of; 0 if it is none of its chunks."""
        return self._counts.get(text, 0)

    @cached_property
    def _counts(self) -> dict[str, int]:
        return dict(zip(self.texts, self.counts))

    def project(self, vectors: np.ndarray, dimensions: int) -> np.ndarray:
        """Vectors [m, L] along the first principal directions of the map's own [m, dimensions]."""
        return (vectors - self._mean) @ self.principal[0][:dimensions].T

    @cached_property
    def _mean(self) -> np.ndarray:
        return self.vectors.mean(0)

    @cached_property
    def _squares(self) -> np.ndarray:
        return (self.vectors**2).sum(1)

    @cached_property
    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """The principal directions of the map's vectors [L, L], one a row, widest first, and the standard deviation of
        the vectors along each [L]."""
        centred = self.vectors - self._mean
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        return directions, singular / np.sqrt(len(centred))

    def nearest(self, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors [m, L] -> indices [m, count] of the nearest training chunks and their Euclidean distances, in
        order."""
        squared = (vectors**2).sum(1)[:, None] + self._squares - 2 * vectors @ self.vectors.T
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        distance = np.sqrt(np.maximum(np.take_along_axis(squared, nearest, 1), 0))
        order = distance.argsort(1)
        return np.take_along_axis(nearest, order, 1), np.take_along_axis(distance, order, 1)

    def place(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """New vectors [m, L] -> their places in the plane [m, 2] and in space [m, 3], float32.

        Each lands on the mean of its 15 nearest training chunks, weighted by exp(-(d - d_1) / s) with d_1 the distance
        to the nearest and s the mean excess distance: a chunk of the map lands on itself.
        """
        vectors = np.asarray(vectors, np.float32).reshape(-1, self.vectors.shape[1])
        nearest, distance = self.nearest(vectors, min(NEIGHBOURS, len(self.vectors)))
        first = distance[:, :1]
        # A vector that lies on a training chunk stays there, however near the next ones are.
        scale = np.minimum(distance.mean(1, keepdims=True) - first, 0.5 * first + 1e-3) + 1e-6
        weight = np.exp(-(distance - first) / scale)
        weight = (weight / weight.sum(1, keepdims=True))[..., None]
        plane, space = ((target[nearest] * weight).sum(1).astype(np.float32) for target in (self.plane, self.space))
        return plane, space


def path_of(lm_name: str, folder: str | Path) -> Path:
    """The map's file: texts, counts and places, which a page can read; the vectors lie beside it in a .npy."""
    return Path(folder) / f"map-{lm_name.replace('/', '--')}.json"


def read(path: str | Path) -> VectorMap:
    """Reads a map. Raises CalmError if there is none; nothing in the file is pickled."""
    path = Path(path)
    if not (path.is_file() and path.with_suffix(".npy").is_file()):
        raise CalmError(f"There is no vector map at {path}; build one with: python -m calm map.")
    told = json.loads(path.read_text(encoding="utf-8"))
    vectors = np.load(path.with_suffix(".npy"), allow_pickle=False).astype(np.float32)
    places = (np.array(told[name], np.float32) for name in ("plane", "space"))
    return VectorMap(vectors, told["texts"], told["counts"], *places)


def collect(lm: LanguageModel, sources: Sequence[str], points: int, texts: int = 2000) -> tuple[np.ndarray, list, list]:
    """The most frequent distinct chunks of the sources: mean vectors [n, L], texts, counts."""
    import torch

    from .data.documents import read_documents

    k = lm.chunk_size
    counts: Counter[tuple[int, ...]] = Counter()
    for source in sources:
        for text in islice(read_documents(source), texts):
            ids = lm.tokenize(text)
            for offset in range(k):  # chunks at every phase, as texts begin anywhere in a chunk
                counts.update(tuple(ids[i : i + k]) for i in range(offset, len(ids) - k + 1, k))
    common = counts.most_common(points)
    if len(common) < 100:
        raise CalmError(f"A map needs at least 100 distinct chunks; the sources hold {len(common)}.")
    chunks = torch.tensor([chunk for chunk, _ in common], device=lm.device)
    with torch.no_grad():
        mean = lm.calm.ae_model.encode(chunks)[0].float().cpu().numpy()
    return mean, [lm.detokenize(list(chunk)) for chunk, _ in common], [count for _, count in common]


@dataclass(frozen=True)
class FitSettings:
    """Of a UMAP fit, as umap-learn takes them."""

    neighbours: int = NEIGHBOURS
    min_dist: float = 0.15
    metric: str = "euclidean"
    dimensions: int = 2
    seed: int = 0

    def check(self, points: int) -> None:
        """Raises CalmError for what cannot be fitted to so many points."""
        if points < 20:
            raise CalmError(f"A map needs at least 20 vectors; there are {points}.")
        if not 2 <= self.neighbours < points:
            raise CalmError(f"Neighbours must be from 2 to {points - 1}, one less than there are vectors.")
        if not 0 <= self.min_dist <= 1:
            raise CalmError("The minimum distance must be from 0 to 1.")
        if self.metric not in METRICS:
            raise CalmError(f"The metric {self.metric!r} is not known; use {', '.join(METRICS)}.")
        if self.dimensions not in (2, 3):
            raise CalmError(f"The map has 2 or 3 dimensions, not {self.dimensions!r}.")


def fit(vectors: np.ndarray, settings: FitSettings, progress: Any = None) -> np.ndarray:
    """UMAP of vectors [n, L] -> [n, dimensions]. ``progress`` is a file that takes what a progress bar writes."""
    import umap

    return umap.UMAP(
        n_components=settings.dimensions,
        n_neighbors=settings.neighbours,
        min_dist=settings.min_dist,
        metric=settings.metric,
        random_state=settings.seed,
        n_jobs=1,
        verbose=progress is not None,
        tqdm_kwds={"file": progress, "mininterval": 0.2} if progress is not None else None,
    ).fit_transform(vectors)


class _Bar:
    """A file for a progress bar, which hands on the percentages that are written to it."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def write(self, text: str) -> None:
        if found := re.search(r"(\d+)%", text):
            self.pipe.send(int(found[1]))

    def flush(self) -> None:
        pass


def _fit_apart(pipe: Connection, vectors: np.ndarray, settings: FitSettings) -> None:
    os.nice(10)  # texts that are being written come first
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            pipe.send(fit(vectors, settings, _Bar(pipe)))
        except Exception as error:  # whatever UMAP makes of unusual settings
            pipe.send(CalmError(f"UMAP could not be fitted: {str(error).splitlines()[0]}"))


def follow_fit(vectors: np.ndarray, settings: FitSettings) -> Generator[int | np.ndarray, None, None]:
    """``fit`` in a process of its own: the percentage that is done, several times a second, then the coordinates.

    Closing the generator ends the process. Raises CalmError for settings that cannot be fitted.
    """
    settings.check(len(vectors))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_fit_apart, args=(sender, vectors, settings), daemon=True)
    process.start()
    found: int | np.ndarray | CalmError = 0
    try:
        while isinstance(found, int):
            if receiver.poll(0.3):
                found = receiver.recv()
            elif not process.is_alive() and not receiver.poll():
                raise CalmError("The fit ended without a map.")
            if isinstance(found, CalmError):
                raise found
            yield found
    finally:
        process.kill()
        process.join()


def build(lm: LanguageModel, sources: Sequence[str], points: int, folder: str | Path, seed: int = 0) -> Path:
    """Fits UMAP on the chunks of the sources and writes the map (half a minute to minutes). Returns its path.

    Raises CalmError for a token-by-token model, which has no vectors, or sources with too few chunks.
    """
    vectors, texts, counts = collect(lm, sources, points)
    places = {}
    for name, dimensions in (("plane", 2), ("space", 3)):
        found = fit(vectors, FitSettings(dimensions=dimensions, seed=seed))
        places[name] = np.round(found.astype(float), 3).tolist()
    path = path_of(lm.name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), vectors.astype(np.float16))
    along = VectorMap(vectors, texts, counts, vectors[:, :2], vectors[:, :3]).project(vectors, 3)
    places["principal"] = np.round(along.astype(float), 3).tolist()
    told = {"texts": texts, "counts": counts, **places}
    path.write_text(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    return path
