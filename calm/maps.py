"""A map of chunk vectors: UMAP in two and three dimensions, fitted once, with a transform for new vectors.

UMAP's own transform needs its pickled model and ten seconds of compiling, so the map carries a transform of its own:
a new vector is placed among its nearest neighbours in latent space, weighted as UMAP initialises new points.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import CalmError

if TYPE_CHECKING:
    from .loading import LanguageModel

NEIGHBOURS = 15


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

    def place(self, vectors: np.ndarray, dimensions: int = 2) -> np.ndarray:
        """New vectors [m, L] -> map coordinates [m, dimensions], a few milliseconds for hundreds of them.

        Each lands on the mean of its 15 nearest training chunks, weighted by exp(-(d - d_1) / s) with d_1 the distance
        to the nearest and s the mean excess distance: a chunk of the map lands on itself.
        """
        if dimensions not in (2, 3):
            raise CalmError(f"The map has 2 or 3 dimensions, not {dimensions!r}.")
        target = self.plane if dimensions == 2 else self.space
        vectors = np.asarray(vectors, np.float32).reshape(-1, self.vectors.shape[1])
        squared = (vectors**2).sum(1)[:, None] + (self.vectors**2).sum(1) - 2 * vectors @ self.vectors.T
        count = min(NEIGHBOURS, len(self.vectors))
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        distance = np.sqrt(np.maximum(np.take_along_axis(squared, nearest, 1), 0))
        first = distance.min(1, keepdims=True)
        # A vector that lies on a training chunk stays there, however near the next ones are.
        scale = np.minimum(distance.mean(1, keepdims=True) - first, 0.5 * first + 1e-3) + 1e-6
        weight = np.exp(-(distance - first) / scale)
        return (target[nearest] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1).astype(np.float32)


def path_of(lm_name: str, folder: str | Path) -> Path:
    """The map's file: texts, counts and places, which a page can read; the vectors lie beside it in a .npy."""
    return Path(folder) / f"map-{lm_name}.json"


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

    from .training.data import read_documents

    k = lm.chunk_size
    counts: Counter[tuple[int, ...]] = Counter()
    for source in sources:
        for text in islice(read_documents(source), texts):
            ids = lm.encode(text)
            for offset in range(k):  # chunks at every phase, as texts begin anywhere in a chunk
                counts.update(tuple(ids[i : i + k]) for i in range(offset, len(ids) - k + 1, k))
    common = counts.most_common(points)
    if len(common) < 100:
        raise CalmError(f"A map needs at least 100 distinct chunks; the sources hold {len(common)}.")
    chunks = torch.tensor([chunk for chunk, _ in common], device=lm.device)
    with torch.no_grad():
        mean = lm.calm.ae_model.encode(chunks)[0].float().cpu().numpy()
    return mean, [lm.decode(list(chunk)) for chunk, _ in common], [count for _, count in common]


def build(lm: LanguageModel, sources: Sequence[str], points: int, folder: str | Path, seed: int = 0) -> Path:
    """Fits UMAP on the chunks of the sources and writes the map (half a minute to minutes). Returns its path.

    Raises CalmError for a token-by-token model, which has no vectors, or sources with too few chunks.
    """
    import umap

    vectors, texts, counts = collect(lm, sources, points)
    places = {}
    for name, dimensions in (("plane", 2), ("space", 3)):
        fit = umap.UMAP(n_components=dimensions, n_neighbors=NEIGHBOURS, min_dist=0.15, random_state=seed, n_jobs=1)
        places[name] = np.round(fit.fit_transform(vectors).astype(float), 3).tolist()
    path = path_of(lm.name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), vectors.astype(np.float16))
    told = {"texts": texts, "counts": counts, **places}
    path.write_text(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    return path
