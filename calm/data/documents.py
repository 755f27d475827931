"""Documents of text from folders, files, the Hub and the text generators of this project."""

import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import storyland
from ..errors import CalmError
from . import synthetic_text

SUFFIXES = (".txt", ".md", ".jsonl", ".json", ".gz", ".xz", ".zst")

MAKERS: dict[str, Callable[[int, int], Iterator[str]]] = {
    "storyland": storyland.corpus,
    "primer": storyland.primer,
    "prompted": storyland.prompted_stories,
    "synthetic": synthetic_text.corpus,
}
"""Source kind -> its generator, which makes COUNT documents from SEED on."""


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
    ``synthetic:SEED:COUNT`` (names, numbers, code-like and other-script text). Raises CalmError if there is no such
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
