"""A model that does not fit is refused before its weights are read, with both figures in the sentence."""

import pytest
import torch

import calm
from calm import CalmError
from calm.hub import memory
from calm.hub.saving import save


@pytest.fixture
def folder(tiny, tmp_path):
    save(tiny(4), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def test_a_model_that_does_not_fit_is_refused(folder, tiny, monkeypatch):
    needed = 4 * tiny(4).num_parameters
    monkeypatch.setattr("calm.hub.loading.copy_weights", None)  # no weights are read
    monkeypatch.setattr(memory, "available_memory", lambda: (100_000, 10**9))
    with pytest.raises(CalmError, match=rf"model needs {needed / 1e9:.2f} GB of memory and 0.00 GB are free on cpu"):
        calm.load(folder, device="cpu")
    monkeypatch.setattr(memory, "available_memory", lambda: (10**9, 10**9))
    monkeypatch.setenv("CALM_MEMORY", "100KB")
    with pytest.raises(CalmError, match=r"needs .* GB of memory and CALM_MEMORY allows 0.00 GB"):
        calm.load(folder, device="cpu")


def test_a_model_of_the_exact_size_fits(folder, tiny, monkeypatch):
    monkeypatch.setenv("CALM_MEMORY", str(4 * tiny(4).num_parameters))
    assert calm.load(folder, device="cpu").chunk_size == 4


@pytest.mark.parametrize(
    "text, size", [("", None), ("1234", 1234), ("12GB", 12 * 10**9), ("1.5 gib", 3 * 2**29), ("700M", 7 * 10**8)]
)
def test_sizes_have_units(text, size, monkeypatch):
    monkeypatch.setenv("CALM_MEMORY", text)
    assert memory.memory_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "1XB", "GB"])
def test_other_texts_are_refused(text, monkeypatch):
    monkeypatch.setenv("CALM_MEMORY", text)
    with pytest.raises(CalmError, match="CALM_MEMORY must be a number of bytes such as 12GB or 8GiB, not"):
        memory.memory_limit()


def test_cached_files_of_a_container_count_as_available(tmp_path, monkeypatch):
    files = {"memory.max": "1000000", "memory.current": "900000", "memory.stat": "inactive_file 500000\nactive_file 1"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_memory() == (600001, 1000000)
