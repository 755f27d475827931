"""Maps of models that come without one: fitted in the background, once for all visitors, and stored for this user."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread

import calm
from calm.vector_map import map_sources, read, stored_map_path, stream_build

from .backends import LoadedModel
from .leases import forget_variables
from .model_maps import set_map

logger = logging.getLogger(__name__)


class MapFit:
    """A running or finished fit of a model's map. Its attributes may be read from any thread."""

    def __init__(self, model: LoadedModel, sources: Sequence[str]):
        self.status = "Chunks of texts are being encoded …"
        self.path: Path | None = None
        """The JSON file of the latest map: first of principal components, at the end of UMAP."""
        self.error: Exception | None = None
        self._thread = Thread(target=self._run, args=(model, sources), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Returns when the fit has ended, or after some seconds."""
        self._thread.join(seconds)

    def _run(self, model: LoadedModel, sources: Sequence[str]) -> None:
        try:
            for item in stream_build(model.lm, sources, stored_map_path(model.lm)):
                if isinstance(item, Path):
                    set_map(model.lm, read(item))
                    self.path = item
                else:
                    self.status = f"The map shows principal components, and {_activity(item)}"
        except Exception as error:
            logger.info("The map of %s could not be fitted.", model.name, exc_info=error)
            forget_variables(error)
            self.error = error
        finally:
            del model  # the traceback of an error would keep it, and with it its lease


def _activity(percentage: int) -> str:
    """What a fit does at a percentage of ``stream_build``."""
    if percentage == 0:
        return (
            "UMAP is being prepared. It is compiled if this machine has not used it yet, which takes up to a minute …"
        )
    if percentage == 100:
        return "the usual prediction error is being measured …"
    return f"UMAP is being fitted: {percentage} %"


_fits: dict[str, MapFit] = {}
_lock = Lock()


def map_fit(model: LoadedModel) -> MapFit:
    """The fit of a model's map. The first call starts it. After a failure, or if the map was lost, the next call starts
    it again."""
    with _lock:
        known = _fits.get(model.name)
        if known is None or (not known.running and (known.error or model.map is None)):
            known = _fits[model.name] = MapFit(model, map_sources())
        return known


def new_map_fit(model: LoadedModel, source: str) -> MapFit:
    """Starts a fit of a model's map from the texts of a source; the map replaces the earlier one. Raises CalmError
    while another fit of this model runs."""
    with _lock:
        known = _fits.get(model.name)
        if known is not None and known.running:
            raise calm.CalmError("A map of this model is being made: make the next one when it is ready.")
        _fits[model.name] = MapFit(model, [source])
        return _fits[model.name]
