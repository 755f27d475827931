"""Builds ``Config``, the numbers and addresses that Python and JavaScript share."""

import os

from calm.vector_map import summary_path

from .. import limits
from ..files import ASSETS, PLOTLY, file_url
from ..registry import DEFAULT, map_files
from .types import Config

TABS = {
    "generate": "Generate",
    "reconstruct": "Reconstruct",
    "vectors": "Vector space",
    "race": "Race",
    "evaluate": "Evaluate",
    "learn": "Learn",
}
"""The tabs in order: id and title."""

SPACE_PARENT = "https://huggingface.co"
"""The page of a Space shows the playground in a frame and listens for its settings."""


def config() -> Config:
    return {
        "tabs": list(TABS),
        "default_model": DEFAULT,
        "plotly_url": file_url(PLOTLY),
        "map_urls": {
            name: {"summary": file_url(summary_path(name, ASSETS)), "chunks": file_url(path)}
            for name, path in map_files().items()
        },
        "temperature_max": limits.TEMPERATURE_MAX,
        "max_new_tokens": limits.MAX_NEW_TOKENS,
        "fresh_samples": limits.FRESH_SAMPLES,
        "walk_directions": limits.WALK_DIRECTIONS,
        "parent_origin": os.environ.get("CALM_PARENT_ORIGIN", SPACE_PARENT if "SPACE_ID" in os.environ else ""),
    }
