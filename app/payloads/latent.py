"""Builds the payloads about latent vectors: map positions, clouds, reconstructions, walks, fitted maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calm.vector_map import summary_of

from ..backends import LoadedModel
from ..files import file_url
from .types import (
    ChunkPayload,
    Cloud,
    FittedMap,
    FittedRun,
    MapPosition,
    ModelMap,
    NearestChunks,
    ReconstructionPayload,
    Walk,
)

if TYPE_CHECKING:
    from calm import ReconstructedChunk, Reconstruction
    from calm.vector_map import VectorMap


def rounded(numbers: np.ndarray, digits: int = 3) -> list[Any]:
    """Rounded numbers as a list that JSON can encode; of a matrix, a list of its rows."""
    return np.round(numbers.astype(float), digits).tolist()


def map_positions(vector_map: VectorMap, vectors: Sequence[np.ndarray]) -> list[MapPosition]:
    """The position of each vector [L]."""
    stacked = np.stack(vectors)
    principal = vector_map.project(stacked, 3)
    plane, space = vector_map.transform(stacked)
    rows = zip(rounded(plane), rounded(space), rounded(principal))
    return [{"plane": p, "space": s, "principal": a} for p, s, a in rows]


def cloud(model: LoadedModel, vectors: np.ndarray, token_ids: Sequence[Sequence[int]]) -> Cloud:
    """Sampled vectors [N, L] on the map, with the chunks [N, K] that they decode to."""
    return {
        "positions": map_positions(model.require_map(), list(vectors)),
        "texts": [model.lm.label(ids) for ids in token_ids],
    }


def nearest_chunks(vector_map: VectorMap, vector: np.ndarray, count: int, excluded: int | None) -> NearestChunks:
    """The ``count`` training chunks nearest to a vector [1, L]; ``excluded`` is the chunk itself, if it is one."""
    found, distances = vector_map.nearest(vector, count + 1)
    rows = [(int(i), float(d)) for i, d in zip(found[0], distances[0]) if i != excluded][:count]
    return {
        "neighbours": [
            {"text": vector_map.texts[i], "index": i, "count": vector_map.counts[i], "distance": round(d, 2)}
            for i, d in rows
        ]
    }


def reconstruction(model: LoadedModel, result: Reconstruction) -> ReconstructionPayload:
    """Each chunk beside its reconstruction, token by token, with its posterior."""
    return {"model": model.name, "chunks": [_chunk(chunk) for chunk in result.chunks]}


def _chunk(chunk: ReconstructedChunk) -> ChunkPayload:
    same = [a == b for a, b in zip(chunk.token_ids, chunk.decoded_ids)]
    pairs = list(zip(chunk.tokens, chunk.decoded_tokens, same))
    if chunk.exact:  # shown as one piece, because its tokens may be parts of characters that are whole in the chunk
        pairs = [(chunk.label, chunk.label, True)]
    return {
        "text": chunk.label,
        "decoded_text": chunk.decoded_label,
        "tokens": [{"text": a, "decoded_text": b, "exact": exact} for a, b, exact in pairs],
        "token_ids": chunk.token_ids,
        "mean": rounded(chunk.mean),
        "std": rounded(chunk.std),
        "exact": chunk.exact,
    }


def walk(
    model: LoadedModel, offsets: np.ndarray, vectors: np.ndarray, token_ids: Sequence[Sequence[int]], neighbours: int
) -> Walk:
    """The points of a walk: offsets [P], vectors [P, L], and the chunk [P, K] that each vector decodes to."""
    vector_map, lm = model.require_map(), model.lm
    nearest, distances = vector_map.nearest(vectors, neighbours)
    return {
        "offsets": rounded(offsets, 2),
        "points": [
            {
                "token_ids": list(ids),
                "tokens": lm.token_labels(ids),
                "text": lm.label(ids),
                "neighbours": [
                    {"text": vector_map.texts[index], "distance": round(float(distance), 2)}
                    for index, distance in zip(*row)
                ],
            }
            for ids, row in zip(token_ids, zip(nearest, distances))
        ],
    }


@dataclass(frozen=True)
class RunVectors:
    """All vectors of one run that a map of the visitor's own shows."""

    run_id: str
    predicted: np.ndarray
    """[steps, L]"""
    encoded: np.ndarray
    """[steps, L]"""
    prompt: np.ndarray
    """[chunks of the prompt, L]"""

    def stacked(self) -> np.ndarray:
        """All of them [n, L], in the order of the fields."""
        return np.concatenate([self.predicted, self.encoded, self.prompt])


def model_map(name: str, vector_map: VectorMap, path: Path, own: Sequence[RunVectors]) -> ModelMap:
    """The map of a model in the JSON file ``path``, with the positions of runs on it."""

    def placed(vectors: np.ndarray) -> list[MapPosition]:
        return map_positions(vector_map, list(vectors)) if len(vectors) else []

    version = f"?v={path.stat().st_mtime_ns}"  # a browser keeps files, and a map may be made anew
    return {
        "model": name,
        "urls": {"summary": file_url(summary_of(path)) + version, "chunks": file_url(path) + version},
        "runs": {run.run_id: {"predicted": placed(run.predicted), "encoded": placed(run.encoded)} for run in own},
    }


def fitted_map(
    coordinates: np.ndarray, base: VectorMap, chunks: int, own: Sequence[RunVectors], dimensions: int
) -> FittedMap:
    """Splits fitted coordinates [n, 2 or 3]: the first ``chunks`` rows are training chunks, then come the vectors of
    each run."""
    rows = iter(np.round(coordinates.astype(float), 3).tolist())
    positions = list(islice(rows, chunks))
    runs: dict[str, FittedRun] = {
        run.run_id: {
            "predicted": list(islice(rows, len(run.predicted))),
            "encoded": list(islice(rows, len(run.encoded))),
            "prompt": list(islice(rows, len(run.prompt))),
        }
        for run in own
    }
    return {
        "dimensions": 3 if dimensions == 3 else 2,
        "texts": base.texts[:chunks],
        "positions": positions,
        "runs": runs,
    }
