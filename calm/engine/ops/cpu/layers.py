"""Linear and gated layers, norms and attention. R rows, I inputs, O outputs, D width, W width of a head."""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import exponential, maximum, sigmoid
from .compilation import FALSE, ZERO, Flag, parallel, part_bounds, serial, stored, stored_parallel
from .packing import GROUP, LANES
from .products import begin_products, count_groups, end_products, multiply


@serial
def _first_columns(y, outer):
    """y [R, O or more] -> its first O columns [R, O]."""
    return y if y.shape[1] == outer else np.ascontiguousarray(y[:, :outer])


@serial
def _linear_groups(x, weight, bias, add, activated, y, start, end):
    operand, outer = begin_products(x, weight), len(bias)
    for group in range(start, end):
        multiply(operand, weight, y, group)
        first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, outer)
        group_bias = bias[first:last]
        for r in range(len(x)):
            row = y[r, first:last]  # sliced once, so that LLVM vectorises the loops
            for o in range(len(row)):
                row[o] += group_bias[o]
            if add.size:
                addend = add[r, first:last]
                for o in range(len(row)):
                    row[o] += addend[o]
            if activated:
                for o in range(len(row)):
                    row[o] = row[o] * sigmoid(row[o])
    end_products(weight)


@stored_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, threads: int) -> ndarray:
    """x [R, I] -> [R, O]: packed weight times x, plus bias [O], plus add [R, O] unless that is empty, then SiLU if
    activated. The threads split the outputs."""
    y, groups = np.empty((len(x), len(weight) * LANES), np.float32), count_groups(weight)
    if threads == 1:
        _linear_groups(x, weight, bias, add, activated, y, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = part_bounds(np.int64(part), parts, groups)
            _linear_groups(x, weight, bias, add, activated, y, start, end)
    return _first_columns(y, len(bias))


@serial
def _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end):
    operand, outer = begin_products(x, gate), len(gate_bias)
    for group in range(start, end):
        multiply(operand, gate, y, group)
        multiply(operand, up, z, group)
        first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, outer)
        y_bias, z_bias = gate_bias[first:last], up_bias[first:last]
        for r in range(len(x)):
            row, factor = y[r, first:last], z[r, first:last]
            for o in range(len(row)):
                gated_value = row[o] + y_bias[o]
                row[o] = gated_value * sigmoid(gated_value) * (factor[o] + z_bias[o])
    end_products(gate)


@stored_parallel
def gated(x, gate, gate_bias, up, up_bias, threads):
    """x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x) [R, O]. The threads split the outputs."""
    y, groups = np.empty((len(x), len(gate) * LANES), np.float32), count_groups(gate)
    z = np.empty_like(y)
    if threads == 1:
        _gated_groups(x, gate, gate_bias, up, up_bias, y, z, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = part_bounds(np.int64(part), parts, groups)
            _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end)
    return _first_columns(y, len(gate_bias))


@serial
def rms_norm(x, weight, eps):
    """RMSNorm: x [R, D], weight [D] -> [R, D]."""
    y = np.empty_like(x)
    for r in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[r, i] * x[r, i]
        scale = np.float32(1 / np.sqrt(total / x.shape[1] + eps))
        for i in range(x.shape[1]):
            y[r, i] = x[r, i] * scale * weight[i]
    return y


@stored
def layer_norm(x, weight, bias):
    """LayerNorm: x [R, D], weight and bias [D] -> [R, D]. Its epsilon is 1e-6, as in all layer norms of CALM."""
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
def rotate(x, cos, sin, positions):
    """Rotary position embedding: x [R, heads, W], cos and sin [length, heads, W], positions [R] -> [R, heads, W]."""
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
    """Cached attention: x [R, heads + 2 kv_heads, W] with queries, keys and values, slots and positions [R]
    -> [R, heads * W].

    A row attends to its slot up to its position. The cache [slots, 2 kv_heads, length, W] holds keys, then values; the
    positions of a head lie side by side and are read in order, four at a time.
    """
    rows, heads, width, kv_heads = len(x), x.shape[1] - cache.shape[1], x.shape[2], cache.shape[1] // 2
    y = np.zeros((rows, heads * width), np.float32)
    for task in prange(heads * rows):  # a thread gets some heads of all rows, because later rows attend to more
        h, r = task // rows, task % rows
        k, visible = h * kv_heads // heads, positions[r] + 1
        keys, values = cache[slots[r], k], cache[slots[r], kv_heads + k]
        query, attended = x[r, h], y[r, h * width : (h + 1) * width]  # sliced once, as in ``linear``
        scores, four = np.empty(visible, np.float32), visible // 4 * 4
        for t in range(0, four, 4):
            row_a, row_b, row_c, row_d = keys[t], keys[t + 1], keys[t + 2], keys[t + 3]
            a = b = c = d = np.float32(0)
            for i in range(width):
                q = query[i]
                a, b, c, d = a + q * row_a[i], b + q * row_b[i], c + q * row_c[i], d + q * row_d[i]
            scores[t], scores[t + 1], scores[t + 2], scores[t + 3] = a, b, c, d
        for t in range(four, visible):
            total = np.float32(0)
            for i in range(width):
                total += query[i] * keys[t, i]
            scores[t] = total
        highest, scale, total = maximum(scores.view(np.int32)), np.float32(1 / np.sqrt(width)), np.float32(0)
        for t in range(visible):
            scores[t] = exponential((scores[t] - highest) * scale)
            total += scores[t]
        for t in range(0, four, 4):
            row_a, row_b, row_c, row_d = values[t], values[t + 1], values[t + 2], values[t + 3]
            a, b, c, d = scores[t] / total, scores[t + 1] / total, scores[t + 2] / total, scores[t + 3] / total
            for i in range(width):
                attended[i] += a * row_a[i] + b * row_b[i] + c * row_c[i] + d * row_d[i]
        for t in range(four, visible):
            share = scores[t] / total
            for i in range(width):
                attended[i] += share * values[t, i]
    return y


@serial
def gated_layer(x, eps, threads, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """A gated MLP after an RMSNorm, with a residual: x [R, D] -> [R, D]. It is a layer of the autoencoder, and the
    second half of a layer of the backbone."""
    y = gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, threads)
    return linear(y, down, down_bias, x, FALSE, threads)
