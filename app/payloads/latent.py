"""Builds the payloads about latent vectors: map positions, clouds, reconstructions, walks, fitted maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..registry import LoadedModel
from .types import ChunkPayload, Cloud, FittedMap, MapPosition, OwnRun, ReconstructionPayload, Walk

if TYPE_CHECKING:
    from calm import LanguageModel, ReconstructedChunk, Reconstruction
    from calm.vector_map import VectorMap


def rounded(numbers: np.ndarray, digits: int = 3) -> list[float]:
    """Numbers as JSON takes them."""
    return np.round(numbers.astype(float), digits).tolist()


def map_positions(vector_map: VectorMap, vectors: Sequence[np.ndarray]) -> list[MapPosition]:
    """The position of each vector [L]."""
    stacked = np.stack(vectors)
    principal = vector_map.project(stacked, 3)
    plane, space = vector_map.transform(stacked)
    return [
        {"plane": rounded(p), "space": rounded(s), "principal": rounded(a)} for p, s, a in zip(plane, space, principal)
    ]


def cloud(model: LoadedModel, vectors: np.ndarray, token_ids: Sequence[Sequence[int]]) -> Cloud:
    """Sampled vectors [N, L] on the map, with the chunks [N, K] that they decode to."""
    return {
        "positions": map_positions(model.require_map(), list(vectors)),
        "texts": [model.lm.detokenize(list(ids)) for ids in token_ids],
    }


def reconstruction(model: LoadedModel, result: Reconstruction) -> ReconstructionPayload:
    """Each chunk beside its reconstruction, token by token, with its posterior."""
    return {"model": model.name, "chunks": [_chunk(model.lm, chunk) for chunk in result.chunks]}


def _chunk(lm: LanguageModel, chunk: ReconstructedChunk) -> ChunkPayload:
    pairs = [(lm.detokenize([a]), lm.detokenize([b]), a == b) for a, b in zip(chunk.token_ids, chunk.decoded_ids)]
    if chunk.exact:  # shown as its text, because a single token may hold only a part of a character
        pairs = [(chunk.text, chunk.text, True)]
    return {
        "text": chunk.text,
        "decoded_text": chunk.decoded_text,
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
                "tokens": [lm.detokenize([i]) for i in ids],
                "text": lm.detokenize(list(ids)),
                "neighbours": [
                    {"text": vector_map.texts[index], "distance": round(float(distance), 2)}
                    for index, distance in zip(*row)
                ],
            }
            for ids, row in zip(token_ids, zip(nearest, distances))
        ],
    }


def fitted_map(
    coordinates: np.ndarray, base: VectorMap, chunks: int, own: Sequence[OwnRun], dimensions: int
) -> FittedMap:
    """Splits fitted coordinates [n, 2 or 3]: the first ``chunks`` rows are training chunks, the next ones the vectors
    of each run in turn."""
    rows = np.round(coordinates.astype(float), 3).tolist()
    runs, start = {}, chunks
    for run in own:
        runs[run["run_id"]] = rows[start : start + len(run["vectors"])]
        start += len(run["vectors"])
    return {
        "dimensions": 3 if dimensions == 3 else 2,
        "texts": base.texts[:chunks],
        "positions": rows[:chunks],
        "runs": runs,
    }
