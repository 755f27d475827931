"""Builds the map of a model from texts and writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import storyland
from ..errors import CalmError
from ..files import replacing, write_json
from .fitting import FitSettings, fit
from .positions import VectorMap, map_path, read
from .prediction_error import prediction_error
from .regions import density, regions
from .summary import MapSummary, summary_path, write_summary

if TYPE_CHECKING:
    from ..hub.language_model import LanguageModel

LEAST_CHUNKS = 100
"""A map needs at least this many distinct chunks."""
HELD_OUT = (storyland.source("vector_map", 40),)
"""Texts on which the usual prediction error is measured by default."""


def collect(
    lm: LanguageModel, sources: Sequence[str], points: int, texts: int = 2000
) -> tuple[np.ndarray, list[str], list[int]]:
    """The ``points`` most frequent chunks of the sources: mean vectors [n, L], texts and counts.

    Reads at most ``texts`` documents of each source. Raises CalmError if the sources hold fewer than 100 distinct
    chunks, and for a token-by-token model.
    """
    from ..data.documents import read_documents
    from ..reconstruction import encode

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


def build(
    lm: LanguageModel, sources: Sequence[str], points: int, folder: str | Path, held_out: Sequence[str] = HELD_OUT
) -> Path:
    """Fits UMAP on the chunks of the sources, writes the map and its summary, and returns the path of the map's JSON
    file. The usual prediction error is measured on the ``held_out`` sources.

    Takes half a minute to minutes. Raises CalmError for a token-by-token model and for sources with too few chunks.
    """
    vectors, texts, counts = collect(lm, sources, points)
    positions = {}
    for name, dimensions in (("plane", 2), ("space", 3)):
        fitted = fit(vectors, FitSettings(dimensions=dimensions))
        positions[name] = np.round(fitted.astype(float), 3).tolist()
    path = map_path(lm.name, folder)
    components = VectorMap(vectors, texts, counts, vectors[:, :2], vectors[:, :3]).project(vectors, 3)
    positions["principal"] = np.round(components.astype(float), 3).tolist()
    content = {"texts": texts, "counts": counts, **positions}
    with replacing(path.with_suffix(".npy")) as vectors_file, vectors_file.open("wb") as out:
        np.save(out, vectors.astype(np.float16))
        out.flush()
        write_json(path, content, ensure_ascii=False, separators=(",", ":"))
    summarize(lm, path, held_out)
    return path


def summarize(lm: LanguageModel, path: str | Path, held_out: Sequence[str] = HELD_OUT) -> Path:
    """Writes the summary of a map beside its JSON file ``path``, and returns the path of the summary.

    Raises CalmError if the map is missing, for held-out sources without text, and for a token-by-token model.
    """
    vector_map = read(path)
    principal = vector_map.project(vector_map.vectors, 3)
    summary = MapSummary(
        regions(vector_map),
        {"plane": density(vector_map.plane), "principal": density(principal)},
        prediction_error(lm, held_out),
    )
    target = summary_path(lm.name, Path(path).parent)
    write_summary(summary, target)
    return target
