"""Reads the weights of a model folder: safetensors or pickles, single files or shards.

The shapes come from the headers of the files. The tensors are read one after another, so that a model that is filled
from them needs little more memory than its own weights.
"""

import ctypes
import mmap
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CalmError
from . import checksums
from .folders import check_complete, read_json, short

FORMATS = ("model.safetensors", "pytorch_model.bin")
"""Names of a single file, in the order of preference. The index of shards has the suffix .index.json."""

PIECE = 2**24
"""Bytes of a tensor that are read at a time."""

DERIVED = "rotary_emb.inv_freq"
"""Old Llama folders also store this buffer. The model computes it from its configuration."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, which has not been read yet."""

    file: Path
    key: str
    """The name of the tensor in the file."""
    shape: torch.Size


def list_weights(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a folder by name, from the headers of its files.

    Raises CalmError if files are missing or damaged, or if a bundled file does not match its checksum.
    """
    return {
        name: StoredTensor(file, name, shape)
        for file in _files(folder)
        for name, shape in _shapes(file).items()
        if not name.endswith(DERIVED)
    }


@torch.no_grad()
def copy_weights(stored: Mapping[str, StoredTensor], parameters: Mapping[str, Tensor]) -> None:
    """Copies the listed tensors to the parameters of the same names, which have a device and a dtype of their own.

    The files are read one after another, in pieces. The pages of a piece are dropped from memory after its copy. Raises
    CalmError for damaged files.
    """
    for path in dict.fromkeys(tensor.file for tensor in stored.values()):
        names = {name: tensor.key for name, tensor in stored.items() if tensor.file == path}
        with _reporting(path), _opened(path) as (read, is_mapped):
            for name, key in names.items():
                tensor, parameter = read(key), parameters[name]
                rows = max(1, PIECE * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1
                pieces = zip(tensor.split(rows), parameter.split(rows)) if tensor.ndim else [(tensor, parameter)]
                for source, target in pieces:
                    target.copy_(source)
                    if is_mapped and source.is_contiguous():  # others may have fewer bytes than their size says
                        _drop_pages(source)


def _files(folder: Path) -> list[Path]:
    for single in FORMATS:
        index = folder / f"{single}.index.json"
        if index.is_file():
            names = read_json(index).get("weight_map")
            files = sorted(set(map(str, names.values()))) if isinstance(names, dict) else []
            if not files or any(Path(file).name != file for file in files):
                raise CalmError(f"{short(index)} does not list the files of the weights; download it again.")
            return [folder / file for file in files]
        if (folder / single).is_file():
            return [folder / single]
    raise CalmError(f"The folder {folder.name} holds no weights ({' or '.join(FORMATS)}).")


def _shapes(path: Path) -> dict[str, torch.Size]:
    check_complete(path)
    checksums.verify(path)
    with _reporting(path):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.offset_keys()}
        weights = torch.load(path, map_location="meta", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise CalmError(f"{short(path)} does not hold tensors by name; save the model's state_dict.")
        return {name: tensor.shape for name, tensor in weights.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Callable[[str], Tensor], bool]]:
    """A function that reads a tensor of a file by its name, and whether its tensors are views of the mapped file.

    Pickles are read with ``weights_only=True``, so that they cannot run code.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            yield file.get_tensor, True
    else:
        is_mapped = zipfile.is_zipfile(path)  # files of PyTorch before 1.6 are no archives, and cannot be mapped
        yield torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped).__getitem__, is_mapped


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turns the errors of the two formats into CalmError. They raise a dozen kinds for damaged files."""
    try:
        yield
    except (CalmError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise CalmError(
                f"{short(path)} holds more than tensors and could run code, so it is not read; "
                "ask for the model in safetensors format."
            ) from error
        raise CalmError(f"{short(path)} is cut or damaged; download it again.") from error


def _drop_pages(tensor: Tensor) -> None:
    """Drops the whole pages of a contiguous tensor of a mapped file from memory. They are read from the file again if
    needed.

    Without it, the pages of a file stay in memory until the file is closed, beside the model that they were copied to.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - start
    if size > 0:
        advise = ctypes.CDLL(None).madvise
        advise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
