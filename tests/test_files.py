import os
import resource
import threading

import pytest

import calm
from calm.files import filling, replacing, write_json, write_text
from calm.hub.saving import save


@pytest.fixture
def full_disk():
    """Files cannot grow beyond 1,000 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"a": "é"}, ensure_ascii=False)
    assert contents(tmp_path) == {"new/figures.json": '{"a": "é"}\n'.encode()}
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == '{"a": "é"}\n'
    assert contents(tmp_path) == {"new/figures.json": b"new"}
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as partial:
        partial.write_text("half")
        raise error
    assert contents(tmp_path) == {"figures.json": b"old"}


def test_a_full_disk_leaves_the_file_as_it_was_and_names_it(tmp_path, full_disk):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(OSError, match=r"figures\.json") as raised:
        write_text(path, "x" * 2000)
    assert raised.value.filename == str(path) and raised.value.strerror
    assert contents(tmp_path) == {"figures.json": b"old"}


def test_a_link_stays_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "text")
    reader.join()
    assert received == ["text"] and (tmp_path / "pipe").is_fifo()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "text")


def test_a_folder_is_filled_completely_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(ValueError), filling(folder) as partial:
        (partial / "config.json").write_text("half")
        raise ValueError
    assert not folder.exists()
    for text in ("old", "new"):
        with filling(folder) as partial:
            (partial / "config.json").write_text(text)
    (folder / "README.md").write_text("card")
    with pytest.raises(KeyboardInterrupt), filling(folder) as partial:
        (partial / "config.json").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"model/config.json": b"new", "model/README.md": b"card"}


def test_a_folder_whose_files_move_has_no_configuration(tmp_path, monkeypatch):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("old")
    replace, moved = os.replace, []

    def fail_at_the_second(source, target):
        moved.append(target.name)
        if len(moved) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="Input/output error"), filling(tmp_path) as partial:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (partial / name).write_text("new")
    assert "config.json" not in moved and not (tmp_path / "config.json").exists()


def test_an_empty_folder_stays_after_a_failure(tmp_path):
    with pytest.raises(ValueError), filling(tmp_path / "empty") as partial:
        raise ValueError
    assert not (tmp_path / "empty").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError), filling(tmp_path / "empty") as partial:
        assert not any(partial.iterdir())
        raise ValueError
    assert (tmp_path / "empty").is_dir()


def test_a_model_is_saved_completely_or_not_at_all(tiny, tmp_path, request):
    lm = tiny()
    save(lm, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("card")
    for stale in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"):
        (tmp_path / "model" / stale).write_text("stale")
    save(lm, tmp_path / "model")
    whole = contents(tmp_path)
    assert {"model/README.md", "model/config.json", "model/model.safetensors"} <= whole.keys()
    assert not any("stale" in str(content) for content in whole.values())
    request.getfixturevalue("full_disk")
    for folder in ("model", "other"):
        with pytest.raises(OSError, match=folder):
            save(lm, tmp_path / folder)
    assert contents(tmp_path) == whole and not (tmp_path / "other").exists()
    assert lm.dtype.itemsize == 4
    assert calm.load(tmp_path / "model", device="cpu").chunk_size == 4
