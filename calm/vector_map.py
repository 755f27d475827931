"""A map of chunk vectors: UMAP in two and three dimensions, fitted once, with a transform for new vectors.

UMAP's own transform needs its pickled model and ten seconds of compilation, so the map has a transform of its own: a
new vector lands among its nearest neighbours in latent space, weighted as UMAP initialises new points.

Shapes: n vectors of the map, m new vectors, L latent.
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
from .files import replacing, write_json

if TYPE_CHECKING:
    from .hub.language_model import LanguageModel

NEIGHBOURS = 15
METRICS = ("euclidean", "cosine", "manhattan", "correlation")
LEAST_CHUNKS = 100
"""A map needs at least this many distinct chunks."""


@dataclass(frozen=True)
class VectorMap:
    """Latent vectors [n, L] of frequent chunks, with their texts, counts and positions on the map."""

    vectors: np.ndarray
    texts: list[str]
    counts: list[int]
    """Count of each chunk in the texts of the map."""
    plane: np.ndarray
    """float32 [n, 2]"""
    space: np.ndarray
    """float32 [n, 3]"""

    def count_of(self, text: str) -> int:
        """Count of a chunk in the texts of the map; 0 for a chunk that is not on the map."""
        return self._counts.get(text, 0)

    @cached_property
    def _counts(self) -> dict[str, int]:
        return dict(zip(self.texts, self.counts))

    @cached_property
    def _mean(self) -> np.ndarray:
        return self.vectors.mean(0)

    @cached_property
    def _squared_norms(self) -> np.ndarray:
        return (self.vectors**2).sum(1)

    @cached_property
    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """PCA of the map's vectors: directions [L, L], one a row, largest variance first, and the standard deviation
        along each [L]."""
        centred = self.vectors - self._mean
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        return directions, singular / np.sqrt(len(centred))

    def project(self, vectors: np.ndarray, dimensions: int) -> np.ndarray:
        """Vectors [m, L] -> their first principal components [m, dimensions]."""
        return (vectors - self._mean) @ self.principal[0][:dimensions].T

    def nearest(self, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors [m, L] -> indices [m, count] of the nearest chunks of the map and the Euclidean distances to them,
        nearest first."""
        squared = (vectors**2).sum(1)[:, None] + self._squared_norms - 2 * vectors @ self.vectors.T
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        distance = np.sqrt(np.maximum(np.take_along_axis(squared, nearest, 1), 0))
        order = distance.argsort(1)
        return np.take_along_axis(nearest, order, 1), np.take_along_axis(distance, order, 1)

    def transform(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """New vectors [m, L] -> their positions in the plane [m, 2] and in space [m, 3], float32.

        Each position is the mean over the 15 nearest chunks, weighted by exp(-(d - d_1) / s), with d_1 the distance to
        the nearest chunk and s the mean excess distance. A chunk of the map keeps its own position.
        """
        vectors = np.asarray(vectors, np.float32).reshape(-1, self.vectors.shape[1])
        nearest, distance = self.nearest(vectors, min(NEIGHBOURS, len(self.vectors)))
        first = distance[:, :1]
        # A vector that equals a chunk keeps its position even if other chunks are close.
        scale = np.minimum(distance.mean(1, keepdims=True) - first, 0.5 * first + 1e-3) + 1e-6
        weight = np.exp(-(distance - first) / scale)
        weight = (weight / weight.sum(1, keepdims=True))[..., None]
        plane, space = ((target[nearest] * weight).sum(1).astype(np.float32) for target in (self.plane, self.space))
        return plane, space


def map_path(model: str, folder: str | Path) -> Path:
    """The JSON file of a model's map. The vectors are in the .npy file of the same name."""
    return Path(folder) / f"map-{model.replace('/', '--')}.json"


def read(path: str | Path) -> VectorMap:
    """Reads a map. Raises CalmError if a file is missing. Pickled arrays are refused."""
    path = Path(path)
    if not (path.is_file() and path.with_suffix(".npy").is_file()):
        raise CalmError(f"There is no vector map at {path}; build one with: python -m calm map.")
    content = json.loads(path.read_text(encoding="utf-8"))
    vectors = np.load(path.with_suffix(".npy"), allow_pickle=False).astype(np.float32)
    positions = (np.array(content[name], np.float32) for name in ("plane", "space"))
    return VectorMap(vectors, content["texts"], content["counts"], *positions)


def collect(
    lm: LanguageModel, sources: Sequence[str], points: int, texts: int = 2000
) -> tuple[np.ndarray, list[str], list[int]]:
    """The ``points`` most frequent chunks of the sources: mean vectors [n, L], texts and counts.

    Reads at most ``texts`` documents of each source. Raises CalmError if the sources hold fewer than 100 distinct
    chunks, and for a token-by-token model.
    """
    from .data.documents import read_documents
    from .reconstruction import encode

    k = lm.calm.config.patch_size
    counts: Counter[tuple[int, ...]] = Counter()
    for source in sources:
        for text in islice(read_documents(source), texts):
            ids = lm.tokenize(text)
            for offset in range(k):  # chunks at every phase, because a text may begin anywhere in a chunk
                counts.update(tuple(ids[i : i + k]) for i in range(offset, len(ids) - k + 1, k))
    common = counts.most_common(points)
    if len(common) < LEAST_CHUNKS:
        raise CalmError(f"A map needs at least {LEAST_CHUNKS} distinct chunks; the sources hold {len(common)}.")
    mean = encode(lm, [chunk for chunk, _ in common]).mean
    return mean, [lm.chunk_text(chunk) for chunk, _ in common], [count for _, count in common]


@dataclass(frozen=True)
class FitSettings:
    """Parameters of a UMAP fit, with the meaning that umap-learn gives them."""

    neighbours: int = NEIGHBOURS
    min_dist: float = 0.15
    metric: str = "euclidean"
    dimensions: int = 2
    seed: int = 0

    def check(self, points: int) -> None:
        """Raises CalmError for settings that do not fit ``points`` vectors."""
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
    """UMAP of vectors [n, L] -> positions [n, dimensions]. ``progress`` is a file for the text of a progress bar."""
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


class _ProgressFile:
    """A file object that sends the percentages of a progress bar through a pipe."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def write(self, text: str) -> None:
        if percentage := re.search(r"(\d+)%", text):
            self.pipe.send(int(percentage[1]))

    def flush(self) -> None:
        pass


def _fit_in_subprocess(pipe: Connection, vectors: np.ndarray, settings: FitSettings) -> None:
    os.nice(10)  # generation has priority
    with open(os.devnull, "w") as devnull, redirect_stdout(devnull):
        try:
            pipe.send(fit(vectors, settings, _ProgressFile(pipe)))
        except Exception as error:  # UMAP raises many kinds for unusual settings
            pipe.send(CalmError(f"UMAP could not be fitted: {str(error).splitlines()[0]}"))


def stream_fit(vectors: np.ndarray, settings: FitSettings) -> Generator[int | np.ndarray, None, None]:
    """``fit`` in a subprocess: yields the percentage done several times a second, then the positions [n, dimensions].

    Closing the generator ends the subprocess. Raises CalmError for settings that cannot be fitted.
    """
    settings.check(len(vectors))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_fit_in_subprocess, args=(sender, vectors, settings), daemon=True)
    process.start()
    message: int | np.ndarray | CalmError = 0
    try:
        while isinstance(message, int):
            if receiver.poll(0.3):
                message = receiver.recv()
            elif not process.is_alive() and not receiver.poll():
                raise CalmError("The fit ended without a map.")
            if isinstance(message, CalmError):
                raise message
            yield message
    finally:
        process.kill()
        process.join()


def build(lm: LanguageModel, sources: Sequence[str], points: int, folder: str | Path, seed: int = 0) -> Path:
    """Fits UMAP on the chunks of the sources, writes the map and returns the path of its JSON file.

    Takes half a minute to minutes. Raises CalmError for a token-by-token model and for sources with too few chunks.
    """
    vectors, texts, counts = collect(lm, sources, points)
    positions = {}
    for name, dimensions in (("plane", 2), ("space", 3)):
        fitted = fit(vectors, FitSettings(dimensions=dimensions, seed=seed))
        positions[name] = np.round(fitted.astype(float), 3).tolist()
    path = map_path(lm.name, folder)
    components = VectorMap(vectors, texts, counts, vectors[:, :2], vectors[:, :3]).project(vectors, 3)
    positions["principal"] = np.round(components.astype(float), 3).tolist()
    content = {"texts": texts, "counts": counts, **positions}
    with replacing(path.with_suffix(".npy")) as vectors_file, vectors_file.open("wb") as out:
        np.save(out, vectors.astype(np.float16))
        out.flush()
        write_json(path, content, ensure_ascii=False, separators=(",", ":"))
    return path
