"""Writes models to folders: as they are, as the mean of several, or with another autoencoder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from .errors import CalmError
from .loading import LanguageModel, load_autoencoder


def average(models: Sequence[LanguageModel]) -> LanguageModel:
    """The first model, with the mean of all their weights in place of its own. Between runs that went apart from a
    common start mostly lies a better model ("model soups", arXiv 2203.05482). Raises CalmError if the shapes differ."""
    first = models[0]
    states = [lm.model.state_dict() for lm in models]
    shapes = [{name: w.shape for name, w in state.items()} for state in states]
    for lm, shape in zip(models, shapes):
        if shape != shapes[0]:
            raise CalmError(f"{first.name} and {lm.name} are of different shapes; their weights have no mean.")
    first.model.load_state_dict({name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]})
    return first


def exchange_autoencoder(lm: LanguageModel, name: str | Path) -> None:
    """Gives a CALM on the CPU another autoencoder, which has learned the latent vectors of its own. Raises CalmError if
    it cannot be loaded or its vectors have another shape."""
    lm.calm.ae_model = load_autoencoder(name, like=lm.calm.config).eval()
    lm.calm.config.autoencoder = lm.calm.ae_model.config.to_dict()


def save(lm: LanguageModel, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes a model in Hugging Face layout, in shards below 9 MB as Spaces without LFS need them."""
    folder = Path(folder)
    before = lm.model.dtype
    if lm.is_calm and lm.calm.config.autoencoder:
        lm.calm.config.autoencoder.pop("_name_or_path", None)  # a folder of the machine that it was trained on
    lm.model.to(dtype).save_pretrained(folder, max_shard_size="8MB")
    lm.model.to(before)
    lm.tokenizer.save_pretrained(folder)
