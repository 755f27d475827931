"""Reads the weights of a model folder: safetensors or pickles, single files or shards."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CalmError
from . import checksums
from .folders import check_complete, read_json, short

FORMATS = ("model.safetensors", "pytorch_model.bin")
"""Names of a single file, in the order of preference. The index of shards has the suffix .index.json."""

DERIVED = "rotary_emb.inv_freq"
"""Old Llama folders also store this buffer. The model computes it from its configuration."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder on the CPU, by name.

    Pickles are read with ``weights_only=True``, so they cannot run code. Raises CalmError if files are missing or
    damaged, or if a bundled file does not match its checksum.
    """
    weights: dict[str, Tensor] = {}
    for name in _files(folder):
        weights |= _read_file(folder / name)
    return {name: tensor for name, tensor in weights.items() if not name.endswith(DERIVED)}


def _files(folder: Path) -> list[str]:
    for single in FORMATS:
        index = folder / f"{single}.index.json"
        if index.is_file():
            names = read_json(index).get("weight_map")
            files = sorted(set(map(str, names.values()))) if isinstance(names, dict) else []
            if not files or any(Path(file).name != file for file in files):
                raise CalmError(f"{short(index)} does not list the files of the weights; download it again.")
            return files
        if (folder / single).is_file():
            return [single]
    raise CalmError(f"The folder {folder.name} holds no weights ({' or '.join(FORMATS)}).")


def _read_file(path: Path) -> dict[str, Tensor]:
    check_complete(path)
    checksums.verify(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two formats raise a dozen kinds for damaged files
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise CalmError(
                f"{short(path)} holds more than tensors and could run code, so it is not read; "
                "ask for the model in safetensors format."
            ) from error
        raise CalmError(f"{short(path)} is cut or damaged; download it again.") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CalmError(f"{short(path)} does not hold tensors by name; save the model's state_dict.")
    return weights
