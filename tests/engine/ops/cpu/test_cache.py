"""The storage of compiled kernels: its folder, and that changed sources never run older code."""

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


def start(package: Path, setup: str = "", **variables: str) -> tuple[str, list[str], str]:
    """The kernel's result for 1 in a new process, how often it was loaded from the cache, and the warnings."""
    code = f"{setup}\nfrom kernels.kernel import kernel\nprint(kernel(1), sum(kernel.stats.cache_hits.values()))"
    folders = {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(package.parent / "cache")}
    environment = {**os.environ, **folders, **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    result, hits = done.stdout.split()
    return result, [hits], done.stderr


def run(package: Path) -> tuple[str, list[str]]:
    """Result and hits of ``start``, where there is no warning."""
    result, hits, warnings = start(package)
    assert warnings == ""
    return result, hits


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_damaged_files_are_compiled_again_with_one_warning(package):
    run(package)
    for kind, damage in (
        ("nbi", lambda content: b""),
        ("nbi", lambda content: content[: len(content) // 2]),
        ("nbi", lambda content: b"<!doctype html>"),
        ("nbc", lambda content: content[:-5]),
        ("nbc", flip),
    ):
        (path,) = (package.parent / "cache").rglob(f"*.{kind}")
        path.write_bytes(damage(path.read_bytes()))
        result, hits, warnings = start(package)
        assert (result, hits) == ("2", ["0"])
        assert len(warnings.splitlines()) == 1 and "are damaged and are compiled again" in warnings
    assert run(package) == ("2", ["1"]), "the new file is complete"


def test_on_a_full_disk_the_kernel_runs_but_is_not_stored(package):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    result, hits, warnings = start(package, full)
    assert (result, hits) == ("2", ["0"])
    assert len(warnings.splitlines()) == 1 and "cannot be stored" in warnings
    assert not list((package.parent / "cache").rglob("*.nb?")) and run(package) == ("2", ["0"])


def test_each_cpu_has_its_own_code(package):
    assert run(package) == ("2", ["0"])
    assert start(package, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[:2] == ("2", ["0"])
    assert run(package) == ("2", ["1"])


def test_without_any_writable_folder_the_kernels_are_compiled_in_memory(package):
    nowhere = f"""
import pathlib
from kernels import cache
cache.FOLDER = pathlib.Path({str(package / "kernel.py" / "folder")!r})
"""
    result, hits, warnings = start(package, nowhere)
    assert (result, hits) == ("2", ["0"])
    assert len(warnings.splitlines()) == 1 and "cannot be stored" in warnings


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
