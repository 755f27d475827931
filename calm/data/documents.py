"""Documents of text from folders, files, the Hub and the text generators of this project."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import storyland
from ..errors import CalmError, reason_of
from . import synthetic_text
from .text_files import is_text_file, read_file

GENERATORS: dict[str, Callable[[int, int], Iterator[str]]] = {
    "storyland": storyland.corpus,
    "primer": storyland.primer,
    "prompted": storyland.prompted_stories,
    "synthetic": synthetic_text.corpus,
}
"""Source kind -> the function of (count, seed) that generates its documents."""


def seed_and_count(source: str) -> tuple[int, int]:
    """Seed and count of a source ``KIND:SEED:COUNT``. Raises CalmError for any other text."""
    kind, _, rest = source.partition(":")
    try:
        seed, count = (int(part) for part in rest.split(":"))
    except ValueError as error:
        raise CalmError(f"{source!r} is not a source; write {kind}:SEED:COUNT with two whole numbers.") from error
    if seed < 0 or count < 0:  # Python's random generator treats a seed and its negative alike
        raise CalmError(f"{source!r} is not a source; seed and count are at least 0.")
    return seed, count


def read_documents(source: str, field: str = "text") -> Iterator[str]:
    """The documents of a source, one string each.

    A source is one of:

    - a folder, a text file, or a JSON Lines file, plain or compressed (see ``text_files``); ``field`` names the text
    - ``hub:OWNER/NAME`` or ``hub:OWNER/NAME:SPLIT``, a dataset on the Hub, streamed
    - ``storyland:SEED:COUNT``, stories
    - ``primer:SEED:COUNT``, stories of few plots
    - ``prompted:SEED:COUNT``, stories with a story prompt
    - ``synthetic:SEED:COUNT``, names, numbers, code-like text and other scripts

    Documents without text are left out. Raises CalmError if there is no such source, and, after the documents before
    the fault, if a file or line cannot be read; the message names it.
    """
    kind, _, rest = source.partition(":")
    if kind in GENERATORS:
        seed, count = seed_and_count(source)
        yield from GENERATORS[kind](count, seed)
    elif kind == "hub":
        yield from _read_dataset(rest, field)
    elif os.path.isdir(source):
        for path in _text_files(Path(source)):
            yield from read_file(path, field)
    elif os.path.exists(source):
        yield from read_file(Path(source), field)
    else:
        raise CalmError(
            f"There is no text at {source[:300]!r}: name a folder, a file, hub:OWNER/NAME or storyland:SEED:COUNT."
        )


def _text_files(folder: Path) -> Iterator[Path]:
    """The text files of a folder and its subfolders, in order, without hidden files and folders."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_text_file(path) and not hidden and path.is_file():
            yield path


def _read_dataset(name: str, field: str) -> Iterator[str]:
    """The texts of a Hub dataset, named ``OWNER/NAME`` or ``OWNER/NAME:SPLIT``."""
    from datasets import load_dataset

    repository, _, split = name.partition(":")
    try:
        for number, row in enumerate(load_dataset(repository, split=split or "train", streaming=True), 1):
            if not isinstance(row.get(field), str):
                raise CalmError(f"The Hub dataset {name}, row {number}, holds no text in the field {field!r}.")
            if row[field].strip():
                yield row[field]
    except CalmError:
        raise
    except Exception as error:  # the library and the Hub's client raise dozens of kinds
        reason = reason_of(error).rstrip(".")
        raise CalmError(f"The Hub dataset {name} cannot be read ({reason}).") from error
