"""Where compiled kernels are stored, and that changed sources never run older code."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from calm.engine.ops.cpu import cache

KERNEL = """
from .compilation import stored
from .helper import increase

@stored
def kernel(x):
    return increase(x)
"""
HELPER = """
from .compilation import serial

@serial
def increase(x):
    return x + {}
"""


@pytest.fixture
def package(tmp_path) -> Path:
    """A package of one stored kernel, which calls a function of another file."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name in ("cache.py", "compilation.py"):
        shutil.copy(cache.SOURCES / name, folder)
    (folder / "kernel.py").write_text(KERNEL)
    (folder / "helper.py").write_text(HELPER.format(1))
    return folder


def run(package: Path) -> tuple[str, list[str]]:
    """What the kernel makes of 1 in a process of its own, and how often it was loaded from the cache."""
    code = "from kernels.kernel import kernel; print(kernel(1), sum(kernel.stats.cache_hits.values()))"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(package.parent / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    result, hits = done.stdout.split()
    return result, [hits]


def test_a_change_in_another_file_leads_to_another_cache(package):
    assert run(package) == ("2", ["0"])
    assert run(package) == ("2", ["1"])
    (package / "helper.py").write_text(HELPER.format(5))
    assert run(package) == ("6", ["0"]), "the kernel's own file is the same, and its stored code is not"
    assert len(list((package.parent / "cache").iterdir())) == 2


def test_the_digest_depends_on_every_source(package):
    digests = {cache.source_digest(package)}
    for name in ("helper.py", "kernel.py"):
        (package / name).write_text((package / name).read_text() + "\n")
        digests.add(cache.source_digest(package))
    (package / "helper.py").rename(package / "other.py")
    digests.add(cache.source_digest(package))
    assert len(digests) == 4


@pytest.fixture
def no_writable_folder(monkeypatch, tmp_path) -> Path:
    """A machine where only the folder for temporary files can be written to; files stand where folders should be."""
    blocked = tmp_path / "blocked"
    blocked.touch()
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    monkeypatch.setattr(cache, "SOURCES", blocked)
    monkeypatch.setattr(cache, "source_digest", lambda: "0" * 16)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def test_the_last_resort_is_a_folder_for_temporary_files(no_writable_folder):
    folder = cache.cache_folder()
    assert folder.parent == no_writable_folder and folder.is_dir()
    assert cache.cache_folder() == folder, "the next process finds what this one compiled"


def test_a_folder_that_others_can_write_to_is_not_used(no_writable_folder):
    shared = cache.cache_folder()
    shared.chmod(0o777)
    folder = cache.cache_folder()
    assert folder != shared and folder.stat().st_mode & 0o777 == 0o700


def test_the_folder_beside_the_sources_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    assert cache.cache_folder().parent == cache.SOURCES / "__pycache__"
    monkeypatch.setattr(cache.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert cache.cache_folder().parent == tmp_path / "numba"
