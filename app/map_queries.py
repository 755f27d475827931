"""Server functions of the vector map: positions of chunks, and the training chunks nearest to one."""

import numpy as np

import calm

from .errors import answers_with_error
from .limits import MAP_NEIGHBOURS
from .map_requests import ChunksArguments, NearestArguments
from .payloads.latent import map_positions, nearest_chunks
from .payloads.types import MapPosition, NearestChunks
from .registry import loaded
from .shares import LOOKUPS
from .validation import validated_message


@answers_with_error
@validated_message(ChunksArguments, LOOKUPS)
def place_chunks(arguments: ChunksArguments) -> list[MapPosition]:
    """The map positions of the autoencoder's vectors of chunks."""
    model = loaded(arguments.model)
    return map_positions(model.require_map(), list(model.encode(arguments.chunks).mean))


@answers_with_error
@validated_message(NearestArguments, LOOKUPS)
def find_nearest(arguments: NearestArguments) -> NearestChunks:
    """The training chunks whose vectors are nearest to the vector of a chunk: one of the map, or any token ids."""
    model, index = loaded(arguments.model), arguments.index
    if index is None:
        vectors = model.encode(arguments.chunks).mean[:1]
    else:
        vectors = model.require_map().vectors[index : index + 1]
        if not len(vectors):
            raise calm.CalmError("There is no such chunk on the map.")
    return nearest_chunks(model.require_map(), np.asarray(vectors), MAP_NEIGHBOURS, index)
