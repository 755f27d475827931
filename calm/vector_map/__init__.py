"""Maps of chunk vectors: positions in UMAP and PCA layouts, labelled regions, density, usual prediction error."""

from .building import build, collect, stream_build, summarize
from .fitting import METRICS, FitSettings, fit, stream_fit
from .positions import VectorMap, map_path, read
from .prediction_error import PredictionError, prediction_error
from .regions import Density, Region, density, regions
from .stored import map_sources, stored_map_path, stored_maps
from .summary import MapSummary, read_summary, summary_of, summary_path

__all__ = [
    "METRICS",
    "Density",
    "FitSettings",
    "MapSummary",
    "PredictionError",
    "Region",
    "VectorMap",
    "build",
    "collect",
    "density",
    "fit",
    "map_path",
    "map_sources",
    "prediction_error",
    "read",
    "read_summary",
    "regions",
    "stored_map_path",
    "stored_maps",
    "stream_build",
    "stream_fit",
    "summarize",
    "summary_of",
    "summary_path",
]
