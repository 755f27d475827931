"""One call for each part of a model: backbone, energy head, decoder."""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import copy
from .compilation import FALSE, ONE, TRUE, WorkSplit, part_bounds, serial, stored, stored_parallel
from .layers import attend, gated, gated_layer, layer_norm, linear, rms_norm, rotate
from .vocabulary import argmax

Arrays = tuple[ndarray, ...]


@stored
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
    """The backbone: inputs x [R, D] at positions [R] of slots [R] -> hidden states [R, D].

    Keys and values are written into the cache [layers, slots, 2 kv_heads, capacity, W]. The weights of the layers are
    stacked.
    """
    norms, qkvs, qkv_biases, outs, out_biases, mlp_norms, gates, gate_biases, ups, up_biases = layers[:10]
    downs, down_biases = layers[10:]
    rows, heads = len(x), cos.shape[1] - cache.shape[2]
    for i in range(len(norms)):
        y = linear(rms_norm(x, norms[i], eps), qkvs[i], qkv_biases[i], x[:0], FALSE, threads)
        y = rotate(y.reshape(rows, cos.shape[1], cos.shape[2]), cos, sin, positions)
        for r in range(rows):
            copy(y[r, heads:], cache[i, slots[r], :, positions[r]])
        x = linear(attend(y, cache[i], slots, positions), outs[i], out_biases[i], x, FALSE, threads)
        x = gated_layer(
            x, eps, threads, mlp_norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return rms_norm(x, last_norm, eps)


@serial
def _vectors(noise, states, rows, threads, ends, blocks):
    embedding, bias, norm, norm_bias, last_norm, last_norm_bias, first, first_bias, last, last_bias = ends
    norms, norm_biases, mixes, mix_biases, seconds, second_biases, gates, gate_biases, ups, up_biases = blocks[:10]
    downs, down_biases = blocks[10:]
    x = layer_norm(linear(noise, embedding, bias, noise[:0], FALSE, threads), norm, norm_bias)
    condition = np.empty_like(x)
    for i in range(len(norms)):
        for r in range(len(x)):
            state = states[rows[r], i]
            for j in range(len(state)):
                condition[r, j] = state[j]
        y = linear(layer_norm(x, norms[i], norm_biases[i]), mixes[i], mix_biases[i], condition, TRUE, threads)
        y = linear(y, seconds[i], second_biases[i], x[:0], TRUE, threads)
        y = gated(y, gates[i], gate_biases[i], ups[i], up_biases[i], threads)
        x = linear(y, downs[i], down_biases[i], x, FALSE, threads)
    x = linear(layer_norm(x, last_norm, last_norm_bias), first, first_bias, x[:0], TRUE, threads)
    return linear(x, last, last_bias, x[:0], FALSE, threads)


@stored_parallel
def vectors(
    noise: ndarray,
    states: ndarray,
    rows: ndarray,
    split: WorkSplit,
    ends: Arrays,
    blocks: Arrays,
) -> ndarray:
    """The energy head: noise [n, noise_size], for each the row [n] of its head state in states [R, blocks, D] -> draws
    [n, L]. The weights of the blocks are stacked."""
    parts, threads = split
    if parts == 1:
        return _vectors(noise, states, rows, threads, ends, blocks)
    y = np.empty((len(noise), len(ends[-1])), np.float32)
    for part in prange(parts):
        a, b = part_bounds(part, parts, len(noise))
        copy(_vectors(noise[a:b], states, rows[a:b], ONE, ends, blocks), y[a:b])
    return y


@serial
def _decode(x, eps, threads, ends, layers, vocabulary):
    entry, entry_bias, expansion, expansion_bias, last_norm = ends
    norms, gates, gate_biases, ups, up_biases, downs, down_biases = layers
    x = linear(x, entry, entry_bias, x[:0], FALSE, threads)
    for i in range(len(norms)):
        if i == len(norms) // 2:
            x = linear(x, expansion, expansion_bias, x[:0], FALSE, threads).reshape(-1, x.shape[1])
        x = gated_layer(
            x, eps, threads, norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return argmax(rms_norm(x, last_norm, eps), threads, vocabulary)


@stored_parallel
def decode(
    x: ndarray,
    eps: float,
    split: WorkSplit,
    ends: Arrays,
    layers: Arrays,
    vocabulary: tuple,
) -> ndarray:
    """The autoencoder's decoder: vectors x [n, L] -> the argmax token ids [n, K]. The weights of the layers are
    stacked."""
    (parts, threads), rows, k = split, len(x), len(ends[3]) // len(ends[1])
    if parts == 1:
        return _decode(x, eps, threads, ends, layers, vocabulary).reshape(rows, k)
    ids = np.empty((rows, k), np.int64)
    for part in prange(parts):
        a, b = part_bounds(part, parts, rows)
        copy(_decode(x[a:b], eps, ONE, ends, layers, vocabulary).reshape(b - a, k), ids[a:b])
    return ids
