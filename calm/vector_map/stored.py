"""Maps of any model, stored for this user under the model's fingerprint."""

from __future__ import annotations

import os
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from .. import storyland
from .positions import map_path

if TYPE_CHECKING:
    from ..hub.language_model import LanguageModel

TEXTS = "CALM_MAP_TEXTS"
"""Environment variable with the sources of text of such maps, separated by commas."""
HELD_OUT_STORIES = storyland.source("vector_map", 200)


def stored_maps() -> Path:
    """The folder of the stored maps: ``CALM_MAPS``, else one in the user's cache, else a temporary one of the user."""
    if chosen := os.environ.get("CALM_MAPS"):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calm" / "maps"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"calm-maps-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return cache


def stored_map_path(lm: LanguageModel) -> Path:
    """The JSON file of a model's stored map, whether it exists or not. Raises CalmError for a token-by-token model."""
    return map_path(fingerprint(lm), stored_maps())


def fingerprint(lm: LanguageModel) -> str:
    """16 hexadecimal digits that depend on what a map depends on: the autoencoder's weights and the vocabulary.

    Reads all weights of the autoencoder. Raises CalmError for a token-by-token model.
    """
    digest = blake2b(digest_size=8)
    for name, parameter in sorted(lm.calm.ae_model.named_parameters()):
        values = parameter.detach().cpu().float().contiguous()
        digest.update(f"{name} {list(values.shape)}".encode())
        digest.update(values.numpy().data)
    for token, number in sorted(lm.tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        digest.update(f"{number} {token}\n".encode())
    return digest.hexdigest()


def map_sources() -> list[str]:
    """The sources of text of a stored map: those in ``CALM_MAP_TEXTS``, else held-out stories."""
    named = [source.strip() for source in os.environ.get(TEXTS, "").split(",") if source.strip()]
    return named or [HELD_OUT_STORIES]
