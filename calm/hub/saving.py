"""Writes models to folders, averages models, and replaces the autoencoder of a CALM."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import CalmError
from ..files import filling
from . import autoencoders, checksums
from .language_model import LanguageModel
from .loading import check_tokenizer, load_autoencoder, shared_autoencoder

WEIGHTS = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")
"""Names of weights files in Hugging Face layout."""


def average(models: Sequence[LanguageModel]) -> LanguageModel:
    """Replaces the weights of the first model by the mean over all models and returns it.

    The mean of several runs with a common start is often better than each of them ("model soups", arXiv 2203.05482).
    Raises CalmError if the shapes or the tokenizers differ.
    """
    first = models[0]
    states = [lm.model.state_dict() for lm in models]
    shapes = [{name: w.shape for name, w in state.items()} for state in states]
    for lm, shape in zip(models, shapes):
        if shape != shapes[0]:
            raise CalmError(f"{first.name} and {lm.name} have different shapes, so their weights cannot be averaged.")
        if lm.tokenizer.get_vocab() != first.tokenizer.get_vocab():
            raise CalmError(f"{first.name} and {lm.name} have different tokenizers, so they cannot be averaged.")
    first.model.load_state_dict({name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]})
    return first


def replace_autoencoder(lm: LanguageModel, name: str | Path) -> None:
    """Replaces the autoencoder of a CALM on the CPU by one that was trained on the latent vectors of the present one.

    Raises CalmError if the autoencoder cannot be loaded or has another K, latent size, vocabulary
    or tokenizer.
    """
    autoencoder = load_autoencoder(name)
    autoencoders.check_autoencoder(name, autoencoder.config, lm.calm.config, len(lm.tokenizer))
    check_tokenizer(name, lm.tokenizer)
    lm.calm.ae_model = autoencoder.eval()
    lm.calm.config.autoencoder = lm.calm.ae_model.config.to_dict()


def save(
    lm: LanguageModel, folder: str | Path, dtype: torch.dtype = torch.bfloat16, shared_autoencoder: str = ""
) -> None:
    """Writes a model in Hugging Face layout, in shards below 9 MB, the limit of the Hub for files outside LFS.

    ``shared_autoencoder`` names a CALM in a folder beside ``folder`` with the same autoencoder. The weights of the
    autoencoder are then left out, and ``calm.load`` reads them from that folder. Raises CalmError if the two
    autoencoders differ or if that CALM has no weights of its own for it.
    """
    folder = Path(folder)
    if shared_autoencoder:
        _check_shared(lm, folder.parent / shared_autoencoder, folder, dtype)
    autoencoder = lm.calm.config.autoencoder if lm.is_calm else None
    if autoencoder:
        autoencoder.pop("_name_or_path", None)  # a path on the machine that trained the model
        lm.calm.config.ae_path = shared_autoencoder or None
    if shared_autoencoder:
        lm.calm.config.autoencoder = None
    try:
        with _converted(lm.model, dtype):
            weights = lm.model.state_dict()
            if shared_autoencoder:
                weights = {name: w for name, w in weights.items() if not name.startswith(autoencoders.PREFIX)}
            write_model(folder, lm.model, lm.tokenizer, state_dict=weights, max_shard_size="8MB")
    finally:
        if shared_autoencoder:
            lm.calm.config.autoencoder = autoencoder
    checksums.update(folder)


@contextmanager
def _converted(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Converts a model to another dtype. Afterwards it has its own tensors again, in their full precision."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [(part, name, buffer) for part in model.modules() for name, buffer in part.named_buffers(recurse=False)]
    try:
        model.to(dtype)
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for part, name, buffer in buffers:
            setattr(part, name, buffer)


def write_model(folder: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
    """Writes a model and its tokenizer to a folder, completely or not at all.

    Other weights in the folder are deleted, and other files stay. ``options`` are those of ``save_pretrained``. Raises
    OSError that names the folder, for example if the disk is full.
    """
    folder = Path(folder)
    with filling(folder) as partial:
        try:
            model.save_pretrained(partial, **options)
        except SafetensorError as error:  # what the Rust library raises for an error of the disk
            raise OSError(None, f"the weights cannot be written ({error})") from error
        tokenizer.save_pretrained(partial)
        written = {path.name for path in partial.iterdir()}
    remove_other_weights(folder, written)


def remove_other_weights(folder: Path, written: Collection[str]) -> None:
    """Deletes the weights files of a folder that are not among the names of the ``written`` ones."""
    for path in folder.iterdir():
        if WEIGHTS.fullmatch(path.name) and path.name not in written:
            path.unlink()


def _check_shared(lm: LanguageModel, source: Path, folder: Path, dtype: torch.dtype) -> None:
    """Raises CalmError unless the model in ``source`` owns an autoencoder that equals the model's in ``dtype``."""
    weights = load_autoencoder(source).to(lm.device, dtype).state_dict()
    if source.resolve() == folder.resolve() or shared_autoencoder(source):
        raise CalmError(f"{source.name} cannot share its autoencoder: the folder would hold none of its weights.")
    own = lm.calm.ae_model.state_dict()
    if own.keys() != weights.keys() or not all(torch.equal(own[name].to(dtype), weights[name]) for name in own):
        raise CalmError(f"The autoencoder of {lm.name} is not that of {source.name}.")
