"""The small file that a page can show before it fetches the map: regions, density, usual prediction error."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CalmError
from ..files import write_json
from .positions import map_path
from .prediction_error import PredictionError
from .regions import Density, Region


@dataclass(frozen=True)
class MapSummary:
    """The parts of a map that are shown without its points."""

    regions: list[Region]
    """The most important first."""
    density: dict[str, Density]
    """The density by layout, ``plane`` and ``principal``."""
    prediction_error: PredictionError | None
    """None for a map on which it was not measured."""


def summary_path(model: str, folder: str | Path) -> Path:
    """The JSON file of the summary of a model's map."""
    return summary_of(map_path(model, folder))


def summary_of(path: str | Path) -> Path:
    """The JSON file of the summary of the map in a JSON file."""
    return Path(path).with_name(Path(path).name.replace("map-", "summary-", 1))


def write_summary(summary: MapSummary, path: Path) -> None:
    write_json(path, asdict(summary), ensure_ascii=False, separators=(",", ":"))


def read_summary(path: str | Path) -> MapSummary:
    """Reads a summary. Raises CalmError if the file is missing."""
    path = Path(path)
    if not path.is_file():
        raise CalmError(f"There is no summary of a vector map at {path}; build one with: python -m calm map.")
    content = json.loads(path.read_text(encoding="utf-8"))
    return MapSummary(
        [Region(**region) for region in content["regions"]],
        {name: Density(**values) for name, values in content["density"].items()},
        PredictionError(**error) if (error := content["prediction_error"]) else None,
    )
