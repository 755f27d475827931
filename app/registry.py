"""The models of the page and their maps. Each is loaded at its first request and shared by all visitors.

When a model needs memory that others take, those that were used longest ago are unloaded, but none that a request uses.
"""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import calm
from calm.errors import short_repr
from calm.hub import folders
from calm.vector_map import map_path, summary_path

from . import backends, zero_gpu
from .backends import LoadedModel
from .backends.local import uses_fallback
from .files import ASSETS
from .leases import DownloadCancelled, Lease, NoRoomError, anew, forget_variables, leased, models_to_unload
from .limits import MAX_OTHER_MODELS
from .malloc import return_free_memory
from .model_maps import has_weights, map_of
from .official import CHUNK_SIZE, LATENT_SIZE, OFFICIAL_MODELS

if TYPE_CHECKING:
    from calm import LanguageModel
    from calm.engine import Engine

logger = logging.getLogger(__name__)

DEFAULT, BASELINE = os.environ.get("CALM_DEFAULT_MODEL", "").strip() or "story-k4", "story-ar"
"""The model that a new page shows, and the token-by-token model that a race compares it with."""
STATUS_SECONDS = 0.5
"""Time between two messages about a model that is being loaded."""


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model that the page shows."""

    name: str
    parameters: int
    chunk_size: int
    latent_size: int
    """0 for a token-by-token model."""


@cache
def bundled() -> list[str]:
    """Names of the models that come with the page, the default one first. Does not import torch."""
    return sorted(folders.bundled(), key=lambda name: name != DEFAULT)


def offered() -> list[str]:
    """Names in the menu: the bundled models, the official ones where visitors may load other models, and the folders
    and Hub ids in the environment variables CALM_DEFAULT_MODEL and CALM_MODELS (separated by commas)."""
    official = OFFICIAL_MODELS if allows_other_models() else ()
    named = [name.strip() for name in os.environ.get("CALM_MODELS", "").split(",") if name.strip()]
    default = [DEFAULT] if DEFAULT not in bundled() else []
    return list(dict.fromkeys([*default, *bundled(), *official, *named]))


def facts(name: str) -> ModelFacts | None:
    """Facts of a bundled model whose files give its size, of a loaded one, or of an official one; None for any other
    model."""
    if name in bundled() and (parameters := _total_parameters(folders.CHECKPOINTS / name)):
        config = json.loads((folders.CHECKPOINTS / name / "config.json").read_text(encoding="utf-8"))
        return ModelFacts(name, parameters, config.get("patch_size", 1), config.get("latent_size", 0))
    if (lm := _model(name)) is not None:
        return ModelFacts(name, lm.num_parameters, lm.chunk_size, lm.latent_size)
    if (official := OFFICIAL_MODELS.get(name)) is not None:
        return ModelFacts(name, official.all_parameters, CHUNK_SIZE, LATENT_SIZE)
    return None


def _total_parameters(folder: Path) -> int | None:
    """The number of parameters in the index of sharded weights; None without one."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return None
    return json.loads(index.read_text(encoding="utf-8")).get("metadata", {}).get("total_parameters")


def allows_other_models() -> bool:
    """Whether visitors may load a folder or a Hub id that is not in the menu: the environment variable
    CALM_ALLOW_MODELS, 1 or 0. By default only on a page that no other machine reaches: it is bound to loopback, stands
    behind no proxy and runs in no Space. Never on ZeroGPU, where all models are loaded before the page starts."""
    if zero_gpu.ENABLED:
        return False
    setting = os.environ.get("CALM_ALLOW_MODELS", "").strip().lower()
    if setting:
        return setting in ("1", "true", "yes", "on")
    if any(os.environ.get(name) for name in ("SPACE_ID", "GRADIO_ROOT_PATH", "GRADIO_SHARE")):
        return False
    return _is_loopback(os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_name(name: object) -> str:
    """The name of a model. Raises CalmError for a model that is not in the menu, unless it is a folder or a Hub id and
    the host allows those."""
    if isinstance(name, str) and name in offered():
        return name
    sentence = f"There is no model {short_repr(name)} here; choose one of {', '.join(offered())}"
    if not isinstance(name, str) or "/" not in name.replace(os.sep, "/"):
        raise calm.CalmError(f"{sentence}.")
    if not allows_other_models():
        raise calm.CalmError(f"{sentence}: this host loads no other models (CALM_ALLOW_MODELS).")
    if not HUB_ID.fullmatch(name) and not _is_folder(name):
        raise calm.CalmError(f"{sentence}, a folder of this machine or a Hub id such as OWNER/NAME.")
    if name not in (others := other_models()) and len(others) >= MAX_OTHER_MODELS:
        raise calm.CalmError(f"The page has loaded as many models besides its own as it may: {MAX_OTHER_MODELS}.")
    return name


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False


def other_models() -> list[str]:
    """The models outside of the menu that are loaded or being loaded."""
    in_menu = offered()
    return [name for name in list(_loads) if name not in in_menu and load_error(name) is None]


def loaded_names() -> list[str]:
    """The names of all loaded models."""
    return [name for name in [*offered(), *other_models()] if is_loaded(name)]


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_loads: dict[str, Future[LanguageModel]] = {}
"""The load of each model, in the order of their last use."""
_loads_lock = Lock()
_unloaded: set[str] = set()
_downloads = ThreadPoolExecutor(thread_name_prefix="download")


def loading(name: str = DEFAULT) -> Future[LanguageModel]:
    """The load of a model. The first call starts it; after a failure, the next call starts it again.

    Raises CalmError as ``check_name`` does.
    """
    check_name(name)
    with _loads_lock:
        known = _loads.pop(name, None)
        if known is None or (known.done() and known.exception()):
            known = _downloads.submit(_load, name)
        _loads[name] = known  # at the end of the dictionary
        return known


def _load(name: str) -> LanguageModel:
    def report(arrived: int, size: int) -> None:
        if name not in leased():
            raise DownloadCancelled(f"The download of {name} was cancelled; the next one continues it.")
        _downloaded[name] = arrived, size

    lease = Lease(name) if name == DEFAULT else None  # no visitor cancels the download of the default model
    try:
        official_memory(name)
        lm = backends.current().load(name, partial(_make_room, name), report)
    except Exception as error:
        forget_variables(error)
        raise
    finally:
        _downloaded.pop(name, None)
        del lease
    _unloaded.discard(name)
    return lm


_downloaded: dict[str, tuple[int, int]] = {}
"""For each running download, the bytes that have arrived and all bytes."""


def is_cancellable(name: str) -> bool:
    """Whether a model is being downloaded for visitors. That of the default model goes on without them."""
    return name in _downloaded and name != DEFAULT


def loading_status(name: str) -> Iterator[str]:
    """Messages about a model until it is loaded. As long as somebody reads them or waits for the model otherwise, its
    download goes on. Raises the error of a load that fails."""
    lease, load = Lease(name), loading(name)
    while not load.done() or isinstance(load.exception(), DownloadCancelled):
        load = loading(name) if load.done() else load
        arrived, size = _downloaded.get(name, (0, 0))
        share = f": {arrived / 1e6:,.0f} of {size / 1e6:,.0f} MB downloaded" if size else " is being loaded"
        yield f"{name}{share} …"
        wait([load], timeout=STATUS_SECONDS)
    if error := load.exception():
        raise anew(error)  # here, because the next call of ``loading`` starts a failed load again
    del lease


def official_memory(name: str) -> int | None:
    """The bytes that the load of an official model reserves in this process, by its published size, so that it can be
    refused before it is downloaded; None for any other model. Raises CalmError if it does not fit even without other
    models."""
    official = OFFICIAL_MODELS.get(name)
    needed = backends.current().memory(official.all_parameters) if official and not is_loaded(name) else None
    if needed is None:
        return None
    with suppress(NoRoomError):
        models_to_unload(name, *needed, used_memory())
    return needed[0]


def _make_room(name: str, needed: int, free: int | None) -> None:
    """Unloads the models that ``models_to_unload`` chooses, with their maps. Raises CalmError as it does."""
    with _loads_lock:
        chosen = models_to_unload(name, needed, free, used_memory())
        for other in chosen:
            logger.info("%s is unloaded to make room for %s.", other, name)
            del _loads[other]
            _unloaded.add(other)
    if chosen:
        gc.collect()  # an engine with CUDA graphs refers to itself
        return_free_memory()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def used_memory() -> dict[str, int]:
    """Bytes of each model in this process, with its engine. The model that was used longest ago comes first."""
    from calm.engine.memory import used_memory

    return {name: used_memory(lm) for name, lm in _loaded_here().items()}


def load_on_zero_gpu() -> None:
    """Loads every model that is not bundled, for the workers of a ZeroGPU Space. Call it on the main thread, before the
    page is launched."""
    zero_gpu.load([name for name in offered() if name not in bundled()])
    for name in offered():
        if (lm := zero_gpu.model(name)) is not None:
            _loads[name] = Future()
            _loads[name].set_result(lm)


def load_error(name: str) -> BaseException | None:
    """The exception of a model's last load; None if it succeeded or is still running."""
    known = _loads.get(name)
    return known.exception() if known is not None and known.done() else None


def _model(name: str) -> LanguageModel | None:
    """The model of this name if it is loaded."""
    known = _loads.get(name)
    return known.result() if known is not None and known.done() and not known.exception() else None


def is_loaded(name: str) -> bool:
    return _model(name) is not None


def is_unloaded(name: str) -> bool:
    """Whether a model has made room for another one. Its next request loads it again."""
    return name in _unloaded


def loaded(name: str = DEFAULT) -> LoadedModel:
    """A model of the menu with its map; waits until it is loaded. It stays in memory while the caller keeps the result.

    Raises CalmError if it cannot be loaded, or if this process has no GPU for it.
    """
    if zero_gpu.model(name) is not None:
        raise calm.CalmError(
            f"This Space runs {name} only to generate text; choose a bundled model, or run the app on your own GPU."
        )
    return described(name)


def described(name: str) -> LoadedModel:
    """Like ``loaded``, but for showing facts of a model only: a ZeroGPU model is returned, too. Raises CalmError if the
    model cannot be loaded."""
    lease = Lease(name)  # before the load, because another load might unload the model before its request gets it
    while isinstance(error := (load := loading(name)).exception(), DownloadCancelled):
        pass  # with the lease, the next one goes on
    if error:
        raise anew(error)
    lm = load.result()
    return backends.current().model(name, lm, map_of(name, lm), lease)


def map_files() -> dict[str, Path]:
    """The file of each map, by the name of its model. A map without a summary is left out."""
    return {name: map_path(name, ASSETS) for name in offered() if summary_path(name, ASSETS).is_file()}


def _loaded_here() -> dict[str, LanguageModel]:
    """The models that run in this process, by name, also those whose load is about to end: they take memory."""
    known = {name: _model(name) or backends.current().in_memory(name) for name in list(_loads)}
    return {name: lm for name, lm in known.items() if lm is not None and has_weights(name, lm)}


def engines() -> list[Engine]:
    """The engines of all loaded models in this process."""
    from calm.engine import engine_for

    return [engine_for(lm) for lm in _loaded_here().values() if not lm.is_autoencoder]


def on_fallback() -> list[str]:
    """The loaded models that generate without their kernels."""
    return [name for name, lm in _loaded_here().items() if uses_fallback(lm)]
