"""Writes models to folders: as they are, as the mean of several, with another autoencoder, or without theirs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import CalmError
from .loading import AUTOENCODER, LanguageModel, lender_of, load_autoencoder


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


def save(lm: LanguageModel, folder: str | Path, dtype: torch.dtype = torch.bfloat16, lender: str = "") -> None:
    """Writes a model in Hugging Face layout, in shards below 9 MB as Spaces without LFS need them.

    ``lender`` names a CALM in a folder beside ``folder`` whose autoencoder is the model's too: it is read from there
    and not written again. Raises CalmError if theirs are not the same, or if it has none of its own.
    """
    folder, before = Path(folder), lm.model.dtype
    if lender:
        _check_lender(lm, folder.parent / lender, folder, dtype)
    weights = lm.model.to(dtype).state_dict()
    autoencoder = lm.calm.config.autoencoder if lm.is_calm else None
    if autoencoder:
        autoencoder.pop("_name_or_path", None)  # a folder of the machine that it was trained on
        lm.calm.config.ae_path = lender or None
    if lender:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(AUTOENCODER)}
        lm.calm.config.autoencoder = None
    lm.model.save_pretrained(folder, state_dict=weights, max_shard_size="8MB")
    lm.model.to(before)
    if lender:
        lm.calm.config.autoencoder = autoencoder
    lm.tokenizer.save_pretrained(folder)


def _check_lender(lm: LanguageModel, lender: Path, folder: Path, dtype: torch.dtype) -> None:
    lent = load_autoencoder(lender).to(lm.device, dtype).state_dict()
    if lender.resolve() == folder.resolve() or lender_of(lender):
        raise CalmError(f"{lender.name} cannot lend an autoencoder: it would have none of its own.")
    own = lm.calm.ae_model.state_dict()
    if own.keys() != lent.keys() or not all(torch.equal(own[name].to(dtype), lent[name]) for name in own):
        raise CalmError(f"The autoencoder of {lm.name} is not that of {lender.name}.")
