"""Finds passages of a corpus by the latent vectors of their chunks (``calm index``, ``calm search``)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CalmError, check_integer
from .files import replacing
from .hub.language_model import LanguageModel
from .reconstruction import Encoding, encode

OPENING = 1000
"""Characters of a text that are read for its first chunk. Tokens are a few characters long, so they are enough."""
ROUNDING = 0.1
"""Vectors of a chunk on other devices and in other dtypes differ by less than this share of their length."""


@dataclass(frozen=True)
class Passage:
    """A part of a document that is close to a query."""

    document: int
    """The number of the document, from 0."""
    start: int
    end: int
    """The characters of the document from ``start`` to before ``end``."""
    text: str
    distance: float
    """Root mean square of the Euclidean distances between the chunks' vectors and the query's."""


@dataclass(frozen=True)
class ChunkIndex:
    """The posterior means of all chunks of a corpus, in order. Shapes: n chunks, L latent, K tokens a chunk."""

    model: str
    """The name of the model that encoded the corpus."""
    texts: list[str]
    """The documents."""
    vectors: np.ndarray
    """float32 [n, L]"""
    spans: np.ndarray
    """int64 [n, 3]: the chunk's document, and its first character and the one after its last."""

    @classmethod
    def of(cls, model: str, documents: list[str], encodings: Sequence[Encoding]) -> "ChunkIndex":
        """The index of documents that ``calm.encode`` has encoded with a model. Raises CalmError without documents."""
        if not documents:
            raise CalmError("There is no text to index.")
        spans = [(i, *span) for i, encoding in enumerate(encodings) for span in encoding.offsets]
        return cls(model, documents, np.concatenate([e.mean for e in encodings]), np.array(spans, dtype=np.int64))

    def nearest(self, vectors: np.ndarray, count: int) -> list[Passage]:
        """The ``count`` passages of as many chunks as ``vectors`` [m, L] that are nearest to them, the nearest first.

        The chunks of a passage follow one another in one document. Raises CalmError for a count below 1 and for vectors
        of another size.
        """
        check_integer("count", count, 1, 1_000_000)
        if vectors.shape[1] != self.vectors.shape[1]:
            raise CalmError(f"The index has vectors of {self.model}; search it with that model.")
        length, chunks = len(vectors), len(self.vectors)
        if length > chunks:
            return []
        starts = chunks - length + 1
        squares = sum(np.square(self.vectors[i : i + starts] - vector).sum(-1) for i, vector in enumerate(vectors))
        documents = self.spans[:, 0]
        within = documents[:starts] == documents[length - 1 :]
        distances = np.where(within, np.sqrt(squares / length), np.inf)
        nearest = np.argsort(distances, kind="stable")[: min(count, int(within.sum()))]
        return [self._passage(int(i), int(i) + length - 1, float(distances[i])) for i in nearest]

    def _passage(self, first: int, last: int, distance: float) -> Passage:
        document, start, end = int(self.spans[first, 0]), int(self.spans[first, 1]), int(self.spans[last, 2])
        return Passage(document, start, end, self.texts[document][start:end], distance)

    def save(self, path: str | Path) -> None:
        """Writes the index to one file. Raises OSError that names it."""
        about = json.dumps({"model": self.model, "texts": self.texts})
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, vectors=self.vectors, spans=self.spans, about=np.array(about))


def build_index(lm: LanguageModel, texts: Iterable[str]) -> ChunkIndex:
    """Encodes each chunk of each text. Raises CalmError if there is no text, and for a token-by-token model."""
    documents = [text for text in texts if text]
    return ChunkIndex.of(lm.name, documents, [encode(lm, text) for text in documents])


def read_index(path: str | Path) -> ChunkIndex:
    """An index that ``ChunkIndex.save`` wrote. Raises CalmError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return ChunkIndex(about["model"], about["texts"], file["vectors"], file["spans"])
    except FileNotFoundError as error:
        raise CalmError(f"There is no index at {path}; write one with calm index.") from error
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for other files
        raise CalmError(f"{path} is not an index of calm index.") from error


def search(lm: LanguageModel, index: ChunkIndex, query: str, count: int = 10) -> list[Passage]:
    """The ``count`` passages whose chunks are nearest to those of the query, the nearest first.

    Chunks start at every K-th token, so a passage is found where its chunks start like the query's. Raises CalmError
    for an empty query, a count below 1, and a model whose vectors are not those of the index.
    """
    _check_model(lm, index)
    return index.nearest(query_vectors(lm, query, encode(lm, query)), count)


def _check_model(lm: LanguageModel, index: ChunkIndex) -> None:
    """Raises CalmError unless a model encodes the first chunk of an index to its vector."""
    text, vector = index.texts[0][:OPENING], index.vectors[0]
    ids = lm.tokenize(text)[: lm.chunk_size]
    first = encode(lm, [ids] if len(ids) == lm.chunk_size else text)
    same_form = first.mean[0].shape == vector.shape and first.offsets[0] == tuple(index.spans[0, 1:])
    if not (same_form and np.linalg.norm(first.mean[0] - vector) < ROUNDING * np.linalg.norm(vector)):
        if index.model == lm.name:
            raise CalmError(f"The index has vectors of {lm.name} with other weights; write it again with calm index.")
        raise CalmError(f"The index has vectors of {index.model}, not of {lm.name}; search it with that model.")


def query_vectors(lm: LanguageModel, query: str, encoding: Encoding) -> np.ndarray:
    """The vectors [m, L] of an encoded query that are searched for. A last chunk that is not complete is left out if
    there are others."""
    return encoding.mean[: max(1, len(lm.tokenize(query)) // lm.chunk_size)]
