"""Server functions of the vector map: positions of chunks, and the training chunks nearest to one."""

import numpy as np

import calm

from .errors import answers_with_error
from .limits import MAP_NEIGHBOURS, MAX_PLACED_CHUNKS
from .payloads.latent import map_positions, nearest_chunks
from .payloads.types import ChunksRequest, MapPosition, NearestChunks, NearestRequest
from .registry import LoadedModel, loaded


@answers_with_error
def place_chunks(request: ChunksRequest) -> list[MapPosition]:
    """The map positions of the autoencoder's vectors of chunks."""
    model, chunks = _parse(request)
    if not 1 <= len(chunks) <= MAX_PLACED_CHUNKS:
        raise calm.CalmError(f"Between 1 and {MAX_PLACED_CHUNKS} chunks can be placed at once.")
    return map_positions(model.require_map(), list(calm.encode(model.lm, chunks).mean))


@answers_with_error
def find_nearest(request: NearestRequest) -> NearestChunks:
    """The training chunks whose vectors are nearest to the vector of a chunk: one of the map, or any token ids."""
    index = request.get("index")
    if index is None:
        model, chunks = _parse(request)
        vectors = calm.encode(model.lm, chunks).mean[:1]
    else:
        model = loaded(request["model"])
        known = model.require_map().vectors
        if not isinstance(index, int) or not 0 <= index < len(known):
            raise calm.CalmError("There is no such chunk on the map.")
        vectors = known[index : index + 1]
    return nearest_chunks(model.require_map(), np.asarray(vectors), MAP_NEIGHBOURS, index)


def _parse(request: ChunksRequest) -> tuple[LoadedModel, list[list[int]]]:
    try:
        model = loaded(request["model"])
        return model, [[int(token) for token in chunk] for chunk in request["chunks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise calm.CalmError("These are no chunks of token ids.") from error
