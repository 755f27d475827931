"""Where numba stores the compiled kernels: a folder named by a digest of their sources.

numba recompiles a function when its own file changes, but not when a file changes that the function imports. With the
digest in the folder's name, changed sources never run code that was compiled from older ones. numba itself keeps the
code of different CPUs apart. Damaged files are deleted, and their kernels are compiled again.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent


def source_digest(folder: Path = SOURCES) -> str:
    """16 hexadecimal digits that depend on numba's version and on each Python file of a folder."""
    digest = sha256(numba.__version__.encode())
    for path in sorted(folder.glob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.name} {len(source)} ".encode() + source)
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """A writable folder for the code compiled from these sources.

    It lies in numba's folder if NUMBA_CACHE_DIR names one, else beside the sources, else in the user's cache, else in
    a folder for temporary files that no other user can write to. If none of them can be written to, it returns a
    folder in which numba stores nothing.
    """
    name = f"calm-kernels-{source_digest()}"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    chosen = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []  # type: ignore[attr-defined]
    parents = [*chosen, SOURCES / "__pycache__", user_cache]
    for parent in parents:
        if _is_writable(parent / name):
            return parent / name
    try:
        shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid() if hasattr(os, 'getuid') else 0}"
        return shared if _is_writable(shared) and _is_private(shared) else Path(tempfile.mkdtemp(prefix=name))
    except OSError:  # no folder for temporary files either
        return parents[0] / name


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _is_private(folder: Path) -> bool:
    """Whether no other user can write there. numba unpickles its files, which runs code that they contain."""
    status = folder.lstat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


FOLDER = cache_folder()


class _CheckedFiles(IndexDataCacheFile):
    """numba's files, with a SHA-256 digest after the code: damaged machine code would crash the process."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(content + sha256(content).digest())  # unpickling ignores what follows the object

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        size = sha256().digest_size
        if sha256(content[:-size]).digest() != content[-size:]:
            raise ValueError(f"{name} is cut or changed")
        return super()._load_data(name)


class KernelCache(FunctionCache):
    """The stored code of one function. Damaged files are deleted, and a full folder stores nothing; the function is
    compiled in both cases, and one warning a process says why. Raises RuntimeError if ``FOLDER`` cannot be written to.
    """

    def __init__(self, function: Callable):
        super().__init__(function)
        if not Path(self._cache_path).is_relative_to(FOLDER):  # numba falls back to a folder without the digest
            raise RuntimeError("the folder cannot be written to")
        locator = self._impl.locator
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises many kinds
            _warn_of_damage(f"{type(error).__name__}: {error}")
            with suppress(OSError):
                Path(self._cache_file._index_path).unlink()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # the code is in memory, so this process does not need the file
            _warn_not_stored(str(error))


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _warn_of_damage(reason: str) -> None:
    _warn_once(f"Compiled kernels in {FOLDER} are damaged and are compiled again.")
    logger.info("Damaged kernel: %s", reason)


def _warn_not_stored(reason: str) -> None:
    _warn_once(
        f"Compiled kernels cannot be stored in {FOLDER}, so every start compiles them. "
        "Free space there, or set NUMBA_CACHE_DIR to another folder."
    )
    logger.info("Kernel not stored: %s", reason)


@contextmanager
def _numba_cache() -> Iterator[None]:
    """Caches that are created in this context store their code in ``FOLDER``."""
    previous = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        config.CACHE_DIR = previous  # type: ignore[attr-defined]


def store(dispatcher: Any) -> None:
    """Makes numba store the code of a compiled function in ``FOLDER``, and load it from there."""
    with _numba_cache():
        try:
            dispatcher._cache = KernelCache(dispatcher.py_func)
        except RuntimeError as error:
            _warn_not_stored(str(error))
