"""Where numba stores the compiled kernels: a folder named by a digest of their sources.

numba recompiles a function when its own file changes, but not when a file changes that the function imports. With the
digest in the folder's name, changed sources never run code that was compiled from older ones.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numba
from numba import config

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
    a folder for temporary files that no other user can write to.
    """
    name = f"calm-kernels-{source_digest()}"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    parents = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []  # type: ignore[attr-defined]
    for parent in [*parents, SOURCES / "__pycache__", user_cache]:
        if _is_writable(parent / name):
            return parent / name
    shared = Path(tempfile.gettempdir()) / f"{name}-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return shared if _is_writable(shared) and _is_private(shared) else Path(tempfile.mkdtemp(prefix=name))


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


@contextmanager
def numba_cache() -> Iterator[None]:
    """Functions that enable numba's cache in this context store their code in ``FOLDER``."""
    previous = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        config.CACHE_DIR = previous  # type: ignore[attr-defined]
