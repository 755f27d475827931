"""Token ids of many documents in one memory-mapped file, and training rows that depend on seed and step alone."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ..data.documents import read_documents
from ..errors import CalmError
from ..files import replacing, write_json
from ..hub.tokenization import token_bytes, tokenize
from ..modeling.losses import MASKED

T = TypeVar("T")
DOCUMENTS_AT_ONCE = 512
"""Documents that the tokenizer gets in one call."""


class TokenFile:
    """Token ids of many documents, each followed by end-of-text.

    ``ids`` [tokens], ``starts`` [documents] (offset of each document's first token), ``targets`` [documents] (offset of
    each document's first target; None if all tokens are targets), ``eos`` the end-of-text id.
    """

    def __init__(self, folder: str | Path):
        self.folder = folder = Path(folder)
        meta = json.loads((folder / "meta.json").read_text())
        self.eos: int = meta["eos"]
        self.ids = np.memmap(folder / "ids.bin", dtype=meta["dtype"], mode="r")
        self.starts = np.load(folder / "starts.npy")
        self.targets = np.load(folder / "targets.npy") if meta.get("targets_after") else None

    @classmethod
    def build(
        cls, folder: str | Path, sources: list[str], tokenizer: Any, field: str = "text", targets_after: str = ""
    ) -> "TokenFile":
        """Tokenizes the sources once and returns the file. A finished file of the same sources and tokenizer is reused.

        The tokens of a document up to the end of the first ``targets_after`` are no targets; a document without this
        text has only targets. Raises CalmError if the folder holds the tokens of other sources or of another tokenizer,
        or if the sources hold no text.
        """
        folder = Path(folder)
        meta = {"sources": sources, "vocabulary": len(tokenizer), "eos": tokenizer.eos_token_id}
        meta |= {"tokenizer": _fingerprint(tokenizer)}
        meta |= {"targets_after": targets_after} if targets_after else {}
        meta_path = folder / "meta.json"
        if meta_path.exists():
            stored = {"tokenizer": meta["tokenizer"], **json.loads(meta_path.read_text())}  # older files do not have it
            if {key: stored.get(key) for key in (*meta, "targets_after")} != {"targets_after": None, **meta}:
                raise CalmError(
                    f"{folder} holds the tokens of other sources or of another tokenizer; "
                    "name another folder or delete it."
                )
            return cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = "uint16" if len(tokenizer) < 2**16 else "uint32"
        starts, targets, offset = [], [], 0
        bytes_of = token_bytes(tokenizer)
        with replacing(folder / "ids.bin") as partial, partial.open("wb") as out:
            documents = (text for source in sources for text in read_documents(source, field))
            bar = tqdm(documents, desc=f"tokenizing {folder.name}", unit=" documents", mininterval=2)
            for texts in _groups(bar, DOCUMENTS_AT_ONCE):
                for text, ids in zip(texts, tokenize(tokenizer, texts)):
                    starts.append(offset)
                    if targets_after:
                        targets.append(offset + _context_tokens(text, targets_after, map(bytes_of, ids)))
                    out.write(np.array([*ids, tokenizer.eos_token_id], dtype).tobytes())
                    offset += len(ids) + 1
        if not offset:
            raise CalmError(f"The sources {', '.join(sources)} hold no text.")
        with replacing(folder / "starts.npy") as partial, partial.open("wb") as out:
            np.save(out, np.array(starts, np.int64))
        if targets_after:
            with replacing(folder / "targets.npy") as partial, partial.open("wb") as out:
                np.save(out, np.array(targets, np.int64))
        write_json(meta_path, {**meta, "dtype": dtype, "tokens": offset})  # marks the file as complete
        return cls(folder)

    def rows(self, step: int, batch: int, length: int, chunk: int, seed: int) -> np.ndarray:
        """Batch number ``step`` of training rows [batch, length]; with masked targets [batch, 2, length], the rows and
        their labels, which are ``MASKED`` where a token is no target.

        A row starts with 1 to ``chunk`` end-of-text tokens, so that a text may start anywhere in a chunk, as a prompt
        of any length needs. It continues with the tokens from one entry point on. Every entry point (the start of each
        document, and inside a longer document so many that each of its tokens is in a row) comes once an epoch, in an
        order drawn from the seed.
        """
        entries = _entries(self, max(1, length - chunk - 1))
        picks = []
        for index in range(step * batch, (step + 1) * batch):
            epoch, position = divmod(index, len(entries))
            picks.append(entries[_order(len(entries), seed, epoch)[position]])
        padding = np.random.default_rng((seed, step)).integers(1, chunk + 1, batch)
        rows = make_rows(self.ids, picks, padding, length, self.eos)
        if self.targets is None:
            return rows
        return np.stack((rows, self._labels(self.targets, rows, picks, padding)), 1)

    def _labels(self, targets: np.ndarray, rows: np.ndarray, starts: Sequence[int], padding: np.ndarray) -> np.ndarray:
        """The labels of rows [R, length] that ``make_rows`` made."""
        labels = rows.copy()
        for row, start, pad in zip(labels, starts, padding):
            positions = np.arange(start, min(start + len(row) - pad, len(self.ids)))
            documents = np.searchsorted(self.starts, positions, side="right") - 1
            row[pad : pad + len(positions)][positions < targets[documents]] = MASKED
        return labels

    def chunks(self, rng: np.random.Generator, count: int, chunk: int) -> np.ndarray:
        """``count`` chunks [count, chunk] from offsets drawn uniformly.

        Raises CalmError for a file of at most ``chunk`` tokens.
        """
        if len(self.ids) <= chunk:
            raise CalmError(
                f"{self.folder} holds {len(self.ids)} tokens and chunks of {chunk} need more; "
                "delete it and name sources with more text."
            )
        offsets = rng.integers(0, len(self.ids) - chunk, count)
        return self.ids[offsets[:, None] + np.arange(chunk)].astype(np.int64)


def make_rows(
    ids: np.ndarray, starts: Sequence[int] | np.ndarray, padding: np.ndarray, length: int, eos: int
) -> np.ndarray:
    """Rows [R, length]: ``padding`` [R] end-of-text tokens, then ``ids`` from ``starts`` [R] on, and end-of-text after
    the last of them."""
    rows = np.full((len(starts), length), eos, np.int64)
    for row, start, pad in zip(rows, starts, padding):
        piece = ids[start : start + length - pad]
        row[pad : pad + len(piece)] = piece
    return rows


@lru_cache(maxsize=1)
def _fingerprint(tokenizer: Any) -> str:
    """16 hexadecimal digits that depend on the vocabulary. All files of a run have one tokenizer."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    return blake2b(json.dumps(vocabulary).encode(), digest_size=8).hexdigest()


def _context_tokens(text: str, targets_after: str, tokens: Iterable[bytes]) -> int:
    """The number of tokens that begin before the end of the first ``targets_after`` in a text; 0 without one."""
    found = text.find(targets_after)
    context = len(text[: found + len(targets_after)].encode()) if found >= 0 else 0
    begins = accumulate(map(len, tokens), initial=0)
    return sum(1 for _ in takewhile(lambda begin: begin < context, begins))


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


@lru_cache(maxsize=4)
def _entries(tokens: TokenFile, stride: int) -> np.ndarray:
    """Offsets [entry points] at which a row may start: the first token of each document, and every ``stride`` tokens
    after it in the document, its end-of-text token left out."""
    ends = np.append(tokens.starts[1:], len(tokens.ids)) - 1
    counts = np.maximum(1, -((tokens.starts - ends) // stride))
    first = np.repeat(tokens.starts, counts)
    rank = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first + rank * stride


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
