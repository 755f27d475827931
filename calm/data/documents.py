"""Documents in, a memory-mapped file of token ids out, and batches that depend on the step number alone."""

import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import storyland
from ..errors import CalmError
from . import synthetic_text as assorted

SUFFIXES = (".txt", ".md", ".jsonl", ".json", ".gz", ".xz", ".zst")

MAKERS: dict[str, Callable[[int, int], Iterator[str]]] = {
    "storyland": storyland.corpus,
    "primer": storyland.primer,
    "prompted": storyland.prompted_stories,
    "assorted": assorted.corpus,
}
"""What tells COUNT documents from SEED on, by the kind of source."""


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        import zstandard

        return zstandard.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _read_file(path: Path, field: str) -> Iterator[str]:
    stem = path.with_suffix("") if path.suffix in (".gz", ".xz", ".zst") else path
    with _open(path) as lines:
        if stem.suffix not in (".jsonl", ".json"):
            yield lines.read()
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield json.loads(line)[field]
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    raise CalmError(
                        f"{path}, line {number}: expected a JSON object with the field {field!r}."
                    ) from error


def numbers_of(source: str) -> tuple[int, int]:
    """Seed and count of a source ``KIND:SEED:COUNT``. Raises CalmError for another text."""
    kind, _, rest = source.partition(":")
    try:
        seed, count = (int(part) for part in rest.split(":"))
    except ValueError as error:
        raise CalmError(f"{source!r} is not a source; write {kind}:SEED:COUNT with two whole numbers.") from error
    return seed, count


def read_documents(source: str, field: str = "text") -> Iterator[str]:
    """The documents of a source, one string each.

    A source is a folder of text, a text file, a JSON Lines file (plain, .gz, .xz or .zst; ``field`` names the text),
    ``hub:OWNER/NAME`` (optionally ``hub:OWNER/NAME:SPLIT``, a Hub dataset, streamed), ``storyland:SEED:COUNT``,
    ``primer:SEED:COUNT`` (few plots of Storyland), ``prompted:SEED:COUNT`` (prompted stories, of rare words too), or
    ``assorted:SEED:COUNT`` (names, numbers, code-like and other-script text). Raises CalmError if there is no such
    source or a line cannot be read.
    """
    kind, _, rest = source.partition(":")
    if kind in MAKERS:
        seed, count = numbers_of(source)
        yield from MAKERS[kind](count, seed)
    elif kind == "hub":
        from datasets import load_dataset

        name, _, split = rest.partition(":")
        yield from (row[field] for row in load_dataset(name, split=split or "train", streaming=True))
    elif Path(source).is_dir():
        for path in sorted(Path(source).rglob("*")):
            if path.suffix in SUFFIXES:
                yield from _read_file(path, field)
    elif Path(source).is_file():
        yield from _read_file(Path(source), field)
    else:
        raise CalmError(
            f"There is no text at {source!r}: name a folder, a file, hub:OWNER/NAME or storyland:SEED:COUNT."
        )


class TokenFile:
    """Token ids of many documents in one memory-mapped file, each document followed by end-of-text.

    ``ids`` [tokens], ``starts`` [documents] (offset of each document's first token), ``eos`` the end-of-text id.
    """

    def __init__(self, path: str | Path):
        folder = Path(path)
        meta = json.loads((folder / "meta.json").read_text())
        self.eos: int = meta["eos"]
        self.ids = np.memmap(folder / "ids.bin", dtype=meta["dtype"], mode="r")
        self.starts = np.load(folder / "starts.npy")

    @classmethod
    def build(cls, path: str | Path, sources: list[str], tokenizer, field: str = "text") -> "TokenFile":
        """Tokenises the sources once; a finished file at ``path`` for the same sources is used as it is."""
        folder = Path(path)
        wanted = {"sources": sources, "vocabulary": len(tokenizer), "eos": tokenizer.eos_token_id}
        meta_path = folder / "meta.json"
        if meta_path.exists():
            found = json.loads(meta_path.read_text())
            if {key: found[key] for key in wanted} != wanted:
                raise CalmError(f"{folder} holds the tokens of other sources; name another folder or delete it.")
            return cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = "uint16" if len(tokenizer) < 2**16 else "uint32"
        starts, offset = [], 0
        with (folder / "ids.bin").open("wb") as out:
            documents = (text for source in sources for text in read_documents(source, field))
            for texts in _grouped(tqdm(documents, desc=f"tokenising {folder.name}", unit=" documents", mininterval=2)):
                for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
                    starts.append(offset)
                    out.write(np.array([*ids, tokenizer.eos_token_id], dtype).tobytes())
                    offset += len(ids) + 1
        if not offset:
            raise CalmError(f"The sources {', '.join(sources)} hold no text.")
        np.save(folder / "starts.npy", np.array(starts, np.int64))
        meta_path.write_text(json.dumps({**wanted, "dtype": dtype, "tokens": offset}))
        return cls(folder)

    def rows(self, step: int, batch: int, length: int, chunk: int, seed: int) -> np.ndarray:
        """Batch number ``step`` of training rows [batch, length].

        A row begins with 1 to ``chunk`` end-of-text tokens (so that a text may begin anywhere in a chunk, as a prompt
        of any length needs) and goes on with what follows one entry point. Every entry point (each document's start,
        and every ``length`` tokens inside a longer document) comes once an epoch, in an order drawn from the seed.
        """
        entries = _entries(self, length)
        picks = []
        for index in range(step * batch, (step + 1) * batch):
            epoch, place = divmod(index, len(entries))
            picks.append(entries[_order(len(entries), seed, epoch)[place]])
        padding = np.random.default_rng((seed, step)).integers(1, chunk + 1, batch)
        return lay_rows(self.ids, picks, padding, length, self.eos)

    def chunks(self, rng: np.random.Generator, count: int, chunk: int) -> np.ndarray:
        """``count`` chunks [count, chunk] from places drawn uniformly."""
        offsets = rng.integers(0, len(self.ids) - chunk, count)
        return self.ids[offsets[:, None] + np.arange(chunk)].astype(np.int64)


def lay_rows(
    ids: np.ndarray, starts: Sequence[int] | np.ndarray, padding: np.ndarray, length: int, eos: int
) -> np.ndarray:
    """Rows [R, length]: as many end-of-text tokens as ``padding`` [R] says, then ``ids`` from ``starts`` [R] on, and
    end-of-text where these end."""
    rows = np.full((len(starts), length), eos, np.int64)
    for row, start, pad in zip(rows, starts, padding):
        piece = ids[start : start + length - pad]
        row[pad : pad + len(piece)] = piece
    return rows


def _grouped(items, size: int = 512) -> Iterator[list]:
    group: list = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@lru_cache(maxsize=4)
def _entries(tokens: TokenFile, length: int) -> np.ndarray:
    ends = np.append(tokens.starts[1:], len(tokens.ids))
    counts = np.maximum(1, (ends - tokens.starts) // length)
    first = np.repeat(tokens.starts, counts)
    rank = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first + rank * length


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
