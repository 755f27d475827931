"""The parts of a model, each one call: backbone, energy head, decoder."""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import copy
from .compilation import NO, ONE, YES, Share, kept, kept_parallel, part_of, serial
from .layers import attend, gated, gated_layer, layer_norm, linear, rms_norm, turn
from .vocabulary import likeliest

COMPILED_WITH = "58acb06ee73c"  # as in ``layers``
Arrays = tuple[ndarray, ...]


@kept
def llama(
    x: ndarray,
    cache: ndarray,
    slots: ndarray,
    positions: ndarray,
    cos: ndarray,
    sin: ndarray,
    eps: float,
    threads: int,
    last_norm: ndarray,
    layers: Arrays,
) -> ndarray:
    """x [R, D], at positions [R] of slots [R] of the cache [layers, ...], which takes their keys and values -> hidden
    states [R, D]. The weights of the layers are stacked."""
    norms, qkvs, qkv_biases, outs, out_biases, mlp_norms, gates, gate_biases, ups, up_biases = layers[:10]
    downs, down_biases = layers[10:]
    rows, heads = len(x), cos.shape[1] - cache.shape[2]
    for i in range(len(norms)):
        y = linear(rms_norm(x, norms[i], eps), qkvs[i], qkv_biases[i], x[:0], NO, threads)
        y = turn(y.reshape(rows, cos.shape[1], cos.shape[2]), cos, sin, positions)
        for r in range(rows):
            copy(y[r, heads:], cache[i, slots[r], :, positions[r]])
        x = linear(attend(y, cache[i], slots, positions), outs[i], out_biases[i], x, NO, threads)
        x = gated_layer(
            x, eps, threads, mlp_norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return rms_norm(x, last_norm, eps)


@serial
def _vectors(noise, states, places, threads, ends, blocks):
    embedding, bias, norm, norm_bias, last_norm, last_norm_bias, first, first_bias, last, last_bias = ends
    norms, norm_biases, mixes, mix_biases, seconds, second_biases, gates, gate_biases, ups, up_biases = blocks[:10]
    downs, down_biases = blocks[10:]
    x = layer_norm(linear(noise, embedding, bias, noise[:0], NO, threads), norm, norm_bias)
    condition = np.empty_like(x)
    for i in range(len(norms)):
        for r in range(len(x)):
            of_place = states[places[r], i]
            for j in range(len(of_place)):
                condition[r, j] = of_place[j]
        y = linear(layer_norm(x, norms[i], norm_biases[i]), mixes[i], mix_biases[i], condition, YES, threads)
        y = linear(y, seconds[i], second_biases[i], x[:0], YES, threads)
        y = gated(y, gates[i], gate_biases[i], ups[i], up_biases[i], threads)
        x = linear(y, downs[i], down_biases[i], x, NO, threads)
    x = linear(layer_norm(x, last_norm, last_norm_bias), first, first_bias, x[:0], YES, threads)
    return linear(x, last, last_bias, x[:0], NO, threads)


@kept_parallel
def vectors(
    noise: ndarray,
    states: ndarray,
    places: ndarray,
    share: Share,
    ends: Arrays,
    blocks: Arrays,
) -> ndarray:
    """noise [R, noise_size], of places [R] in states [places, blocks, D], as ``project`` makes them -> draws [R, L].
    The weights of the blocks are stacked."""
    parts, threads = share
    if parts == 1:
        return _vectors(noise, states, places, threads, ends, blocks)
    y = np.empty((len(noise), len(ends[-1])), np.float32)
    for part in prange(parts):
        a, b = part_of(part, parts, len(noise))
        copy(_vectors(noise[a:b], states, places[a:b], ONE, ends, blocks), y[a:b])
    return y


@serial
def _decode(x, eps, threads, ends, layers, vocabulary):
    entry, entry_bias, expansion, expansion_bias, last_norm = ends
    norms, gates, gate_biases, ups, up_biases, downs, down_biases = layers
    x = linear(x, entry, entry_bias, x[:0], NO, threads)
    for i in range(len(norms)):
        if i == len(norms) // 2:
            x = linear(x, expansion, expansion_bias, x[:0], NO, threads).reshape(-1, x.shape[1])
        x = gated_layer(
            x, eps, threads, norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return likeliest(rms_norm(x, last_norm, eps), threads, vocabulary)


@kept_parallel
def decode(
    x: ndarray,
    eps: float,
    share: Share,
    ends: Arrays,
    layers: Arrays,
    vocabulary: tuple,
) -> ndarray:
    """Vectors x [R, L] -> the likeliest token ids [R, K]. The weights of the decoder's layers are stacked."""
    (parts, threads), rows, k = share, len(x), len(ends[3]) // len(ends[1])
    if parts == 1:
        return _decode(x, eps, threads, ends, layers, vocabulary).reshape(rows, k)
    ids = np.empty((rows, k), np.int64)
    for part in prange(parts):
        a, b = part_of(part, parts, rows)
        copy(_decode(x[a:b], eps, ONE, ends, layers, vocabulary).reshape(b - a, k), ids[a:b])
    return ids
