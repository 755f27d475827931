"""Generates texts with a model, many at once: continuous batching over a key/value cache.

``scheduler`` runs ``requests`` in slots; ``backbone``, ``head`` and ``token_step`` compute a step; ``samplers`` choose
chunks and tokens. ``ops`` has the operators of a step; ``warmup`` handles the first steps and the compilation of
kernels.
"""

import threading
from weakref import WeakKeyDictionary

from ..hub.language_model import LanguageModel
from .executor import ComputeThread
from .ops.selection import Backend
from .scheduler import Engine

__all__ = ["Backend", "ComputeThread", "Engine", "create_engine", "engine_for"]

_engines: WeakKeyDictionary[LanguageModel, Engine] = WeakKeyDictionary()
_creation = threading.Lock()


def engine_for(lm: LanguageModel) -> Engine:
    """The engine of a model, which all requests to that model share. The first call creates it."""
    engine = _engines.get(lm)
    if engine is None:
        with _creation:
            engine = _engines.get(lm)
            if engine is None:
                engine = _engines[lm] = Engine(lm)
    return engine


def create_engine(lm: LanguageModel, executor: ComputeThread | None = None, backend: Backend | None = None) -> Engine:
    """Creates an engine for a model. Later calls of ``engine_for`` return it; an earlier engine finishes its requests.

    Steps run on the executor's thread; without one, on the threads of the callers. The default backend is the fastest
    one for the model.
    """
    engine = Engine(lm, executor=executor, backend=backend)
    _engines[lm] = engine
    return engine
