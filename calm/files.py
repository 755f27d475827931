"""Writes files and model folders completely or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to. The file there replaces ``path`` if the block ends without an exception.

    Otherwise ``path`` stays as it is and the new file is deleted. Missing folders are created. A pipe or a device, such
    as /dev/stdout, is written to directly. Raises OSError that names ``path``, for example if the disk is full.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    if target.exists() and not target.is_file():
        partial = target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if partial != target:
            os.replace(partial, target)
    except OSError as error:
        raise _about(path, error, partial) from error
    finally:
        if partial != target:
            with suppress(OSError):
                partial.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8 as ``replacing`` does."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, **options: Any) -> None:
    """Writes a JSON file as ``replacing`` does, with the options of ``json.dumps`` and a line break at its end."""
    write_text(path, json.dumps(value, **options) + "\n")


@contextmanager
def filling(folder: str | Path) -> Iterator[Path]:
    """An empty folder inside ``folder`` to write files to. They move to ``folder`` if the block ends without exception.

    If the block raises, ``folder`` stays as it is, and is deleted if it is new. While the files move, ``folder`` has no
    ``config.json``: the old one is deleted first and the new one moves last. A process that is killed meanwhile leaves
    a folder that no program takes for a complete model. Raises OSError that names ``folder``, for example if the disk
    is full.
    """
    target = Path(folder)
    is_new = not target.exists()
    partial = target / f".{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        if (partial / "config.json").exists():
            (target / "config.json").unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, target / path.name)
    except OSError as error:
        raise _about(folder, error, partial) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # a folder that holds files
                target.rmdir()


def _about(path: str | Path, error: OSError, partial: Path) -> OSError:
    """The error with ``path`` as its file instead of the temporary ``partial``. Errors of other files stay."""
    if error.filename and not str(error.filename).startswith(str(partial)):
        return error
    return OSError(error.errno, error.strerror or str(error), str(path))
