"""Builds the map of a model from texts and writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import storyland
from ..errors import CalmError
from ..files import replacing, write_json
from .fitting import FitSettings, fit, stream_fit
from .positions import VectorMap, digest, read
from .prediction_error import PredictionError, prediction_error
from .regions import density, regions
from .summary import MapSummary, summary_of, write_summary

if TYPE_CHECKING:
    from ..hub.language_model import LanguageModel

POINTS = 3000
"""Chunks of a map by default."""
LEAST_CHUNKS = 100
"""A map needs at least this many distinct chunks."""
MEASURED_TEXTS = 10
"""Texts of each source on which ``stream_build`` measures the usual prediction error: few, because a visitor waits."""
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
    lm: LanguageModel, sources: Sequence[str], points: int, path: str | Path, held_out: Sequence[str] = HELD_OUT
) -> Path:
    """Fits UMAP on the chunks of the sources, writes the map to a JSON file and its summary beside it, and returns the
    path of the file. The usual prediction error is measured on the ``held_out`` sources.

    Takes half a minute to minutes. Raises CalmError for a token-by-token model and for sources with too few chunks.
    """
    chunks = collect(lm, sources, points)
    plane, space = (fit(chunks[0], FitSettings(dimensions=dimensions)) for dimensions in (2, 3))
    _write(Path(path), VectorMap(*chunks, plane, space))
    summarize(lm, path, held_out)
    return Path(path)


def stream_build(lm: LanguageModel, sources: Sequence[str], path: Path) -> Generator[int | Path, None, None]:
    """Builds a map of ``POINTS`` chunks in steps. Yields the path of a first map, whose positions are principal
    components; then the percentage done of the UMAP fits, which run in a subprocess; 100 before the usual prediction
    error is measured on the first texts of the sources; then ``path`` itself.

    Closing the generator ends the subprocess. Raises CalmError as ``build`` does.
    """
    chunks = collect(lm, sources, POINTS)
    vectors = chunks[0]
    first = path.with_name(f"{path.stem}-pca.json")
    principal = VectorMap(*chunks, vectors[:, :2], vectors[:, :3]).project(vectors, 3)
    _write(first, VectorMap(*chunks, principal[:, :2], principal))
    _summarize(first, None)
    yield first
    fitted: list[np.ndarray] = []
    for done in stream_fit(vectors, *(FitSettings(dimensions=dimensions) for dimensions in (2, 3))):
        if isinstance(done, int):
            yield (done + 100 * len(fitted)) // 2
        else:
            fitted.append(done)
    yield 100
    usual = None
    with suppress(CalmError):  # the model ends every text at once
        usual = prediction_error(lm, sources, MEASURED_TEXTS)
    _write(path, VectorMap(*chunks, *fitted))
    _summarize(path, usual)
    yield path


def _write(path: Path, vector_map: VectorMap) -> None:
    """Writes the two files of a map."""

    def rounded(positions: np.ndarray) -> list:
        return np.round(positions.astype(float), 3).tolist()

    vectors = vector_map.vectors.astype(np.float16)
    content = {
        "texts": vector_map.texts,
        "counts": vector_map.counts,
        "plane": rounded(vector_map.plane),
        "space": rounded(vector_map.space),
        "principal": rounded(vector_map.project(vector_map.vectors, 3)),
        "vectors": digest(vectors),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path.with_suffix(".npy")) as vectors_file, vectors_file.open("wb") as out:
        np.save(out, vectors)
        out.flush()
        write_json(path, content, ensure_ascii=False, separators=(",", ":"))


def summarize(lm: LanguageModel, path: str | Path, held_out: Sequence[str] = HELD_OUT) -> Path:
    """Writes the summary of a map beside its JSON file ``path``, and returns the path of the summary.

    Raises CalmError if the map is missing, for held-out sources without text, and for a token-by-token model.
    """
    return _summarize(path, prediction_error(lm, held_out))


def _summarize(path: str | Path, usual: PredictionError | None) -> Path:
    vector_map = read(path)
    principal = vector_map.project(vector_map.vectors, 3)
    summary = MapSummary(
        regions(vector_map),
        {"plane": density(vector_map.plane), "principal": density(principal)},
        usual,
    )
    target = summary_of(path)
    write_summary(summary, target)
    return target
