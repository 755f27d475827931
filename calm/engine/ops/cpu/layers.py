"""What the networks consist of: affine maps, gated maps, norms, attention."""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import exponential, greatest, sigmoid
from .compilation import NO, ZERO, Flag, kept, kept_parallel, parallel, part_of, serial
from .packing import GROUP, LANES
from .products import done, groups_of, multiply, operand_of

# First digits of the SHA-256 of the files, one behind another, that this one imports, and they in turn.
COMPILED_WITH = "031900bd2ddb"


@serial
def _cut(y, outer):
    """[R, O] of y [R, O or more]."""
    return y if y.shape[1] == outer else np.ascontiguousarray(y[:, :outer])


@serial
def _linear_groups(x, weight, bias, add, activated, y, start, end):
    operand, outer = operand_of(x, weight), len(bias)
    for group in range(start, end):
        multiply(operand, weight, y, group)
        first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, outer)
        to_all = bias[first:last]
        for r in range(len(x)):
            here = y[r, first:last]
            for o in range(len(here)):
                here[o] += to_all[o]
            if add.size:
                more = add[r, first:last]
                for o in range(len(here)):
                    here[o] += more[o]
            if activated:
                for o in range(len(here)):
                    here[o] = here[o] * sigmoid(here[o])
    done(weight)


@kept_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, threads: int) -> ndarray:
    """x [R, I] -> [R, O]: by a packed weight, plus bias [O], plus add [R, O] where that is not empty, then SiLU if
    activated; the outputs are shared out among threads."""
    y, groups = np.empty((len(x), len(weight) * LANES), np.float32), groups_of(weight)
    if threads == 1:
        _linear_groups(x, weight, bias, add, activated, y, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = part_of(np.int64(part), parts, groups)
            _linear_groups(x, weight, bias, add, activated, y, start, end)
    return _cut(y, len(bias))


@serial
def _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end):
    operand, outer = operand_of(x, gate), len(gate_bias)
    for group in range(start, end):
        multiply(operand, gate, y, group)
        multiply(operand, up, z, group)
        first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, outer)
        to_y, to_z = gate_bias[first:last], up_bias[first:last]
        for r in range(len(x)):
            here, factor = y[r, first:last], z[r, first:last]
            for o in range(len(here)):
                opened = here[o] + to_y[o]
                here[o] = opened * sigmoid(opened) * (factor[o] + to_z[o])
    done(gate)


@kept_parallel
def gated(x, gate, gate_bias, up, up_bias, threads):
    """x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x) [R, O]."""
    y, groups = np.empty((len(x), len(gate) * LANES), np.float32), groups_of(gate)
    z = np.empty_like(y)
    if threads == 1:
        _gated_groups(x, gate, gate_bias, up, up_bias, y, z, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = part_of(np.int64(part), parts, groups)
            _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end)
    return _cut(y, len(gate_bias))


@serial
def rms_norm(x, weight, eps):
    """x [R, D], weight [D] -> [R, D]."""
    y = np.empty_like(x)
    for r in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[r, i] * x[r, i]
        scale = np.float32(1 / np.sqrt(total / x.shape[1] + eps))
        for i in range(x.shape[1]):
            y[r, i] = x[r, i] * scale * weight[i]
    return y


@kept
def layer_norm(x, weight, bias):
    """x [R, D], weight and bias [D] -> [R, D]; epsilon is 1e-6, as everywhere in CALM."""
    centred = np.empty_like(x)
    for r in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[r, i]
        mean = total / np.float32(x.shape[1])
        for i in range(x.shape[1]):
            centred[r, i] = x[r, i] - mean
    return rms_norm(centred, weight, 1e-6) + bias


@serial
def turn(x, cos, sin, positions):
    """Rotary embedding: x [R, heads, W], cos and sin [length, heads, W], positions [R] -> [R, heads, W]."""
    y, half = np.empty_like(x), x.shape[2] // 2
    for r in range(x.shape[0]):
        p = positions[r]
        for h in range(x.shape[1]):
            for i in range(half):
                j = i + half
                y[r, h, i] = x[r, h, i] * cos[p, h, i] + x[r, h, j] * sin[p, h, i]
                y[r, h, j] = x[r, h, j] * cos[p, h, j] + x[r, h, i] * sin[p, h, j]
    return y


@parallel
def attend(x, cache, slots, positions):
    """x [R, heads + 2 kv_heads, W], queries and behind them keys and values, slots and positions [R] -> [R, heads * W].

    A row attends to its slot up to its position; cache [slots, 2 kv_heads, length, W] has keys, then values, those of
    a head side by side, as memory is read in order; four positions at a time.
    """
    rows, heads, width, kv_heads = len(x), x.shape[1] - cache.shape[1], x.shape[2], cache.shape[1] // 2
    y = np.zeros((rows, heads * width), np.float32)
    for head_and_row in prange(heads * rows):  # each thread has some heads of all rows: late rows have more to do
        h, r = head_and_row // rows, head_and_row % rows
        k, seen = h * kv_heads // heads, positions[r] + 1
        keys, values = cache[slots[r], k], cache[slots[r], kv_heads + k]
        asked, told = x[r, h], y[r, h * width : (h + 1) * width]  # cut first, as in ``linear``
        scores, four = np.empty(seen, np.float32), seen // 4 * 4
        for t in range(0, four, 4):
            at_a, at_b, at_c, at_d = keys[t], keys[t + 1], keys[t + 2], keys[t + 3]
            a = b = c = d = np.float32(0)
            for i in range(width):
                q = asked[i]
                a, b, c, d = a + q * at_a[i], b + q * at_b[i], c + q * at_c[i], d + q * at_d[i]
            scores[t], scores[t + 1], scores[t + 2], scores[t + 3] = a, b, c, d
        for t in range(four, seen):
            total = np.float32(0)
            for i in range(width):
                total += asked[i] * keys[t, i]
            scores[t] = total
        highest, scale, total = greatest(scores.view(np.int32)), np.float32(1 / np.sqrt(width)), np.float32(0)
        for t in range(seen):
            scores[t] = exponential((scores[t] - highest) * scale)
            total += scores[t]
        for t in range(0, four, 4):
            at_a, at_b, at_c, at_d = values[t], values[t + 1], values[t + 2], values[t + 3]
            a, b, c, d = scores[t] / total, scores[t + 1] / total, scores[t + 2] / total, scores[t + 3] / total
            for i in range(width):
                told[i] += a * at_a[i] + b * at_b[i] + c * at_c[i] + d * at_d[i]
        for t in range(four, seen):
            share = scores[t] / total
            for i in range(width):
                told[i] += share * values[t, i]
    return y


@serial
def gated_layer(x, eps, threads, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, H] -> [R, H] behind a layer of the autoencoder, or the second half of one of the backbone."""
    y = gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, threads)
    return linear(y, down, down_bias, x, NO, threads)
