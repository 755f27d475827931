"""One call for each part of a model: input, backbone, energy head, decoder."""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import copy
from .compilation import FALSE, TRUE, WorkSplit, part_bounds, serial, stored_parallel
from .layers import (
    layer_norm,
    rms_norm,
    share_attention,
    share_gated,
    share_gated_layer,
    share_keys,
    share_layer_norm,
    share_linear,
)
from .team import new_team
from .vocabulary import argmax_buffers, argmax_phases, share_argmax

Arrays = tuple[ndarray, ...]

# Phases of a team for a layer of the backbone, a block of the head, and a layer of the decoder.
BACKBONE_PHASES, BLOCK_PHASES, DECODER_PHASES = 6, 4, 2


@serial
def _token_rows(tokens, table):
    """The embeddings of tokens [R, K] in a table [V, D], side by side: [R, K * D]. Raises IndexError for others."""
    (rows, k), width = tokens.shape, table.shape[1]
    x = np.empty((rows, k * width), np.float32)
    for r in range(rows):
        for i in range(k):
            token = tokens[r, i]
            if token < 0 or token >= len(table):
                raise IndexError("a token id is outside the vocabulary")
            source, target = table[token], x[r, i * width : (i + 1) * width]
            for j in range(width):
                target[j] = source[j]
    return x


@serial
def _backbone_buffers(rows, backbone):
    """Where a team keeps the values of some positions: queries, keys and values; attended values; inner values."""
    cache, cos, gate_biases = backbone[0], backbone[3], backbone[13]
    heads, width = cos.shape[1:]
    attended = np.empty((rows, (heads - cache.shape[2]) * width), np.float32)
    return np.empty((rows, heads * width), np.float32), attended, np.empty((rows, gate_biases.shape[1]), np.float32)


@serial
def _llama(team, x, eps, backbone, buffers):
    """This thread's share of the backbone; x [R, D] holds its inputs, and then its states before the last norm."""
    cache, slots, positions, cos, sin = backbone[:5]
    norms, qkvs, qkv_biases, outs, out_biases = backbone[6:11]
    mlp_norms, gates, gate_biases, ups, up_biases, downs, down_biases = backbone[11:]
    qkv, attended, inner = buffers
    for i in range(len(norms)):
        phases = team[BACKBONE_PHASES * i :]
        share_linear(phases[0], rms_norm(x, norms[i], eps), qkvs[i], qkv_biases[i], x[:0], FALSE, qkv)
        share_keys(phases[1], qkv, cache[i], slots, positions, cos, sin)
        share_attention(phases[2], qkv, cache[i], slots, positions, cos, sin, attended)
        share_linear(phases[3], attended, outs[i], out_biases[i], x, FALSE, x)
        mlp = gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        share_gated_layer(phases[4:], x, eps, mlp_norms[i], mlp, inner)


@stored_parallel
def llama(inputs: ndarray, eps: float, backbone: Arrays, threads: int, y: ndarray) -> None:
    """The backbone: inputs [R, D] -> hidden states, into y [R, D]. Keys and values are written into the cache.

    ``eps`` is the epsilon of the norms. ``backbone`` holds the cache [layers, slots, 2 kv_heads, capacity, W], the
    slots and positions [R] of the inputs, the rotary tables cos and sin [length, heads + 2 kv_heads, W], the weight of
    the last norm, and the stacked weights of the layers.
    """
    team, x = new_team(BACKBONE_PHASES * len(backbone[0])), inputs.copy()
    buffers = _backbone_buffers(len(x), backbone)
    for _ in prange(threads):
        _llama(team, x, eps, backbone, buffers)
    copy(rms_norm(x, backbone[5], eps), y)


@serial
def _last_states(x, last, eps, backbone):
    """The hidden states of the rows ``last`` [S] of x [R, D] -> [S, D]."""
    states = np.empty((len(last), x.shape[1]), np.float32)
    for s in range(len(last)):
        for i in range(x.shape[1]):
            states[s, i] = x[last[s], i]
    return rms_norm(states, backbone[5], eps)


@serial
def _read_tokens(team, x, last, output, eps, backbone, buffers, y):
    _llama(team, x, eps, backbone, buffers)
    share_linear(team[-1], _last_states(x, last, eps, backbone), output[0], output[1], x[:0], FALSE, y)


@stored_parallel
def read_tokens(
    tokens: ndarray,
    last: ndarray,
    table: ndarray,
    output: Arrays,
    eps: float,
    backbone: Arrays,
    threads: int,
    y: ndarray,
) -> None:
    """A step of a token-by-token model: tokens [R, 1], token embeddings [V, D], output matrix and bias -> the logits
    of the rows ``last`` [S], into y [S, V]. ``llama`` describes the backbone."""
    team, x = new_team(BACKBONE_PHASES * len(backbone[0]) + 1), _token_rows(tokens, table)
    buffers = _backbone_buffers(len(x), backbone)
    for _ in prange(threads):
        _read_tokens(team, x, last, output, eps, backbone, buffers, y)


@serial
def _read_chunks(team, tokens, last, entry, projection, eps, backbone, buffers, values):
    wide, wide_bias, narrow, narrow_bias, norm, norm_bias = entry
    embedding, bias, hidden_norm, hidden_norm_bias, conditions, condition_bias = projection
    inner, squeezed, x, hidden, y = values
    share_linear(team[0], tokens, wide, wide_bias, x[:0], TRUE, inner)
    share_linear(team[1], inner, narrow, narrow_bias, x[:0], FALSE, squeezed)
    share_layer_norm(team[2], squeezed, norm, norm_bias, x)
    _llama(team[3:], x, eps, backbone, buffers)
    phases = team[3 + BACKBONE_PHASES * len(backbone[0]) :]
    share_linear(phases[0], _last_states(x, last, eps, backbone), embedding, bias, x[:0], FALSE, hidden)
    normed = layer_norm(hidden, hidden_norm, hidden_norm_bias)
    share_linear(phases[1], normed, conditions, condition_bias, x[:0], FALSE, y)


@stored_parallel
def read_chunks(
    chunks: ndarray,
    last: ndarray,
    table: ndarray,
    entry: Arrays,
    projection: Arrays,
    eps: float,
    backbone: Arrays,
    threads: int,
    y: ndarray,
) -> None:
    """A step of a CALM up to its head: chunks [R, K], token embeddings [V, H] -> the head states of the rows ``last``
    [S], into y [S, blocks * D]. ``entry`` squeezes embeddings into inputs of the backbone, which ``llama`` describes;
    ``projection`` makes head states of hidden states."""
    rows, count, width = len(chunks), len(last), len(entry[3])
    team, tokens = new_team(BACKBONE_PHASES * len(backbone[0]) + 5), _token_rows(chunks, table)
    inner, squeezed = np.empty((rows, len(entry[1])), np.float32), np.empty((rows, width), np.float32)
    hidden = np.empty((count, width), np.float32)
    buffers, values = _backbone_buffers(rows, backbone), (inner, squeezed, np.empty_like(squeezed), hidden, y)
    for _ in prange(threads):
        _read_chunks(team, tokens, last, entry, projection, eps, backbone, buffers, values)


@serial
def _head_buffers(draws, ends, blocks):
    """Where a team keeps the values of ``draws`` draws: a map's first values, a block's values, and inner values."""
    shape = draws, len(ends[1])
    y = (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )
    return *y, np.empty((draws, blocks[7].shape[1]), np.float32)


@serial
def _vectors(team, noise, states, rows, ends, blocks, buffers, y):
    embedding, bias, norm, norm_bias, last_norm, last_norm_bias, first, first_bias, last, last_bias = ends
    norms, norm_biases, mixes, mix_biases, seconds, second_biases, gates, gate_biases, ups, up_biases = blocks[:10]
    downs, down_biases = blocks[10:]
    embedded, x, mixed, second, inner = buffers
    share_linear(team[0], noise, embedding, bias, x[:0], FALSE, embedded)
    residual, condition = layer_norm(embedded, norm, norm_bias), np.empty_like(x)
    for i in range(len(norms)):
        phases = team[1 + BLOCK_PHASES * i :]
        for r in range(len(x)):
            state = states[rows[r], i]
            for j in range(len(state)):
                condition[r, j] = state[j]
        normed = layer_norm(residual, norms[i], norm_biases[i])
        share_linear(phases[0], normed, mixes[i], mix_biases[i], condition, TRUE, mixed)
        share_linear(phases[1], mixed, seconds[i], second_biases[i], x[:0], TRUE, second)
        share_gated(phases[2], second, gates[i], gate_biases[i], ups[i], up_biases[i], inner)
        share_linear(phases[3], inner, downs[i], down_biases[i], residual, FALSE, x)
        residual = x
    phases = team[1 + BLOCK_PHASES * len(norms) :]
    share_linear(phases[0], layer_norm(x, last_norm, last_norm_bias), first, first_bias, x[:0], TRUE, mixed)
    share_linear(phases[1], mixed, last, last_bias, x[:0], FALSE, y)


@serial
def _decoder_buffers(draws, ends, layers):
    """Where a team keeps the values of ``draws`` chunks: before and after they are expanded, and inner values."""
    width, expanded = len(ends[1]), len(ends[3])
    x, y = np.empty((draws, width), np.float32), np.empty((draws, expanded), np.float32)
    return x, y, np.empty((draws * expanded // width, layers[2].shape[1]), np.float32)


@serial
def _decoder_states(team, vectors, eps, ends, layers, buffers):
    entry, entry_bias, expansion, expansion_bias = ends[:4]
    norms, gates, gate_biases, ups, up_biases, downs, down_biases = layers
    x, expanded, inner = buffers
    share_linear(team[0], vectors, entry, entry_bias, x[:0], FALSE, x)
    phases = team[1:]
    for i in range(len(norms)):
        if i == len(norms) // 2:
            share_linear(phases[0], x, expansion, expansion_bias, x[:0], FALSE, expanded)
            x, phases = expanded.reshape(-1, x.shape[1]), phases[1:]
        mlp = gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        share_gated_layer(phases, x, eps, norms[i], mlp, inner[: len(x)])
        phases = phases[DECODER_PHASES:]


@serial
def _draw(arrays, weights, team, head_buffers, decoder_buffers, vocabulary_buffers, y, ids):
    noise, states, rows = arrays
    head_ends, blocks, eps, decoder_ends, layers, vocabulary = weights
    _vectors(team, noise, states, rows, head_ends, blocks, head_buffers, y)
    phases = team[BLOCK_PHASES * len(blocks[0]) + 3 :]
    _decoder_states(phases, y, eps, decoder_ends, layers, decoder_buffers)
    phases = phases[DECODER_PHASES * len(layers[0]) + 2 :]
    expanded, width = decoder_buffers[1], len(decoder_ends[1])
    x = rms_norm(expanded.reshape(expanded.size // width, width), decoder_ends[4], eps)
    share_argmax(phases, x, vocabulary, vocabulary_buffers, ids.reshape(ids.size))


@serial
def _draw_team(draws, head_ends, blocks, decoder_ends, layers, vocabulary):
    """A team for ``draws`` draws, and where it keeps their values in the head, the decoder and the vocabulary."""
    states = draws * len(decoder_ends[3]) // len(decoder_ends[1])
    phases = BLOCK_PHASES * len(blocks[0]) + 3 + DECODER_PHASES * len(layers[0]) + 2
    team = new_team(phases + argmax_phases(states, vocabulary))
    head, decoder = _head_buffers(draws, head_ends, blocks), _decoder_buffers(draws, decoder_ends, layers)
    return team, head, decoder, argmax_buffers(states, vocabulary)


@serial
def _draw_alone(arrays, weights, y, ids):
    head_ends, blocks, _, decoder_ends, layers, vocabulary = weights
    team, head, decoder, searched = _draw_team(len(y), head_ends, blocks, decoder_ends, layers, vocabulary)
    _draw(arrays, weights, team, head, decoder, searched, y, ids)


@stored_parallel
def draw(
    noise: ndarray,
    states: ndarray,
    rows: ndarray,
    split: WorkSplit,
    head_ends: Arrays,
    blocks: Arrays,
    eps: float,
    decoder_ends: Arrays,
    layers: Arrays,
    vocabulary: tuple,
    y: ndarray,
    ids: ndarray,
) -> None:
    """Draws and decodes: noise [n, noise_size], for each the row [n] of its head state in states [R, blocks, D] ->
    vectors of the energy head, into y [n, L], and the argmax token ids of the autoencoder's decoder, into ids [n, K].
    The weights of the blocks and of the layers are stacked."""
    (parts, threads), n = split, len(noise)
    if parts == 1:
        # Tuples of tuples cannot enter a parallel region, so they are made and taken apart in it.
        team, head, decoder, searched = _draw_team(n, head_ends, blocks, decoder_ends, layers, vocabulary)
        for _ in prange(threads):
            weights = head_ends, blocks, eps, decoder_ends, layers, vocabulary
            _draw((noise, states, rows), weights, team, head, decoder, searched, y, ids)
    else:
        for part in prange(parts):
            a, b = part_bounds(part, parts, n)
            weights = head_ends, blocks, eps, decoder_ends, layers, vocabulary
            _draw_alone((noise[a:b], states, rows[a:b]), weights, y[a:b], ids[a:b])
