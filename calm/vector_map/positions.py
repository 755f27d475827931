"""Positions of chunk vectors on a map that was fitted once, with a transform for new vectors.

UMAP's own transform needs its pickled model and ten seconds of compilation, so the map has a transform of its own: a
new vector lands among its nearest neighbours in latent space, weighted as UMAP initialises new points.

Shapes: n vectors of the map, m new vectors, L latent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ..errors import CalmError

NEIGHBOURS = 15


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


def digest(vectors: np.ndarray) -> str:
    """16 hexadecimal digits that depend on the stored vectors. The JSON file of a map has them, because its two files
    cannot be replaced at once."""
    return blake2b(vectors.tobytes(), digest_size=8).hexdigest()


def read(path: str | Path) -> VectorMap:
    """Reads a map. Raises CalmError if a file is missing or belongs to another map. Pickled arrays are refused."""
    path = Path(path)
    if not (path.is_file() and path.with_suffix(".npy").is_file()):
        raise CalmError(f"There is no vector map at {path}; build one with: python -m calm map.")
    content = json.loads(path.read_text(encoding="utf-8"))
    vectors = np.load(path.with_suffix(".npy"), allow_pickle=False)
    if content.get("vectors") not in (None, digest(vectors)):  # older maps have no digest
        raise CalmError(
            f"The files of the vector map at {path} are of two maps; build it again with: python -m calm map."
        )
    positions = (np.array(content[name], np.float32) for name in ("plane", "space"))
    return VectorMap(vectors.astype(np.float32), content["texts"], content["counts"], *positions)
