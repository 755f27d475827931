"""Several steps of one text in one call, where nothing has to be decided between them."""

import numpy as np
from numpy import ndarray

from .compilation import ONE, serial, stored
from .model import Arrays, draw, read_chunks, read_tokens
from .sampling import sample_tokens


@serial
def _has_any(tokens, ends):
    for token in tokens:
        for end in ends:
            if token == end:
                return True
    return False


@stored
def run_chunks(
    noise: ndarray,
    states: ndarray,
    ends: ndarray,
    head: tuple,
    reading: tuple,
    eps: float,
    backbone: Arrays,
    threads: int,
    y: ndarray,
    ids: ndarray,
    steps: ndarray,
) -> None:
    """Steps of one text without Python between them: each draws a chunk and reads it. They end with a chunk that has
    one of the tokens ``ends``.

    noise [n, noise_size], head state [1, blocks, D] -> vectors [n, L] and token ids [n, K], into y and ids; the number
    of chunks, into steps [1]; and the state of the next draw, into states. ``draw`` and ``read_chunks`` describe the
    other arguments: ``head`` has those of ``draw`` from ``head_ends`` to ``vocabulary``, ``reading`` those of
    ``read_chunks`` from ``table`` to ``projection``. The position in ``backbone`` moves on."""
    row, split, next_states = np.zeros(1, np.int64), (ONE, np.int64(threads)), states.reshape(1, states.size)
    for i in range(len(ids)):
        j = i + 1
        draw(noise[i:j], states, row, split, *head, y[i:j], ids[i:j])
        steps[0] += 1
        if _has_any(ids[i], ends):
            break
        read_chunks(ids[i:j], row, *reading, eps, backbone, threads, next_states)
        backbone[2][0] += 1


@stored
def run_tokens(
    temperatures: ndarray,
    uniforms: ndarray,
    logits: ndarray,
    ends: ndarray,
    table: ndarray,
    output: Arrays,
    eps: float,
    backbone: Arrays,
    threads: int,
    tokens: ndarray,
    best: ndarray,
    probabilities: ndarray,
    steps: ndarray,
) -> None:
    """Steps of a token-by-token model for one text without Python between them. They end with one of the tokens
    ``ends``, or where no token can be drawn.

    temperatures [n], uniforms [n], logits [1, V] -> tokens [n] and the most probable ones, as ``sample_tokens``
    describes; the number of steps that drew, into steps [1]; and the logits of the next draw, into logits.
    ``read_tokens`` describes the other arguments. The position in ``backbone`` moves on."""
    last = np.zeros(1, np.int64)
    for i in range(len(tokens)):
        j = i + 1
        sample_tokens(logits, temperatures[i:j], uniforms[i:j], tokens[i:j], best[i:j], probabilities[i:j])
        steps[0] += 1
        if tokens[i] < 0 or _has_any(tokens[i:j], ends):
            break
        read_tokens(tokens[i:j].reshape(1, 1), last, table, output, eps, backbone, threads, logits)
        backbone[2][0] += 1
