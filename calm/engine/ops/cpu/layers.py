"""Linear and gated layers, norms and attention. R rows, I inputs, O outputs, D width, W width of a head.

Functions named ``share_...`` are phases of a team's work (``team``): all threads of the team call them, and return when
the result is complete.
"""

import numpy as np
from numba import prange
from numpy import ndarray

from .arithmetic import copy, exponential, maximum, sigmoid
from .compilation import FALSE, Flag, serial, stored, stored_parallel
from .packing import GROUP, LANES
from .products import begin_products, count_groups, end_products, multiply
from .team import claim, finish, new_team


@serial
def share_linear(counters, x, weight, bias, add, activated, y):
    """This thread's share of ``linear``, into y [R, O]."""
    groups, done, group = count_groups(weight), 0, claim(counters)
    if group < groups:
        operand, products = begin_products(x, weight), np.empty((len(x), GROUP * LANES), np.float32)
        while group < groups:
            multiply(operand, weight[group * GROUP : (group + 1) * GROUP], products, 0)
            first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, len(bias))
            group_bias = bias[first:last]
            for r in range(len(x)):
                row, sums = y[r, first:last], products[r]  # sliced once, so that LLVM vectorises the loops
                if add.size:
                    addend = add[r, first:last]
                    for o in range(len(row)):
                        row[o] = sums[o] + group_bias[o] + addend[o]
                else:
                    for o in range(len(row)):
                        row[o] = sums[o] + group_bias[o]
                if activated:
                    for o in range(len(row)):
                        row[o] = row[o] * sigmoid(row[o])
            done += 1
            group = claim(counters)
        end_products(weight)
    finish(counters, done, groups)


@stored_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, threads: int, y: ndarray) -> None:
    """x [R, I] -> y [R, O]: packed weight times x, plus bias [O], plus add [R, O] unless that is empty, then SiLU if
    activated."""
    team = new_team(1)
    if threads == 1:
        share_linear(team[0], x, weight, bias, add, activated, y)
    else:
        for _ in prange(threads):
            share_linear(team[0], x, weight, bias, add, activated, y)


@serial
def share_gated(counters, x, gate, gate_bias, up, up_bias, y):
    """This thread's share of a gated layer: x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x), into
    y [R, O]."""
    groups, done, group = count_groups(gate), 0, claim(counters)
    if group < groups:
        operand, gates = begin_products(x, gate), np.empty((len(x), GROUP * LANES), np.float32)
        ups = np.empty_like(gates)
        while group < groups:
            multiply(operand, gate[group * GROUP : (group + 1) * GROUP], gates, 0)
            multiply(operand, up[group * GROUP : (group + 1) * GROUP], ups, 0)
            first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, len(gate_bias))
            y_bias, z_bias = gate_bias[first:last], up_bias[first:last]
            for r in range(len(x)):
                row, gate_sums, up_sums = y[r, first:last], gates[r], ups[r]
                for o in range(len(row)):
                    gated_value = gate_sums[o] + y_bias[o]
                    row[o] = gated_value * sigmoid(gated_value) * (up_sums[o] + z_bias[o])
            done += 1
            group = claim(counters)
        end_products(gate)
    finish(counters, done, groups)


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


@serial
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


@stored
def layer_norm_into(x: ndarray, weight: ndarray, bias: ndarray, y: ndarray) -> None:
    """``layer_norm``, into y [R, D]."""
    copy(layer_norm(x, weight, bias), y)


@serial
def share_layer_norm(counters, x, weight, bias, y):
    """``layer_norm`` into y [R, D], by the thread that comes first."""
    done = 0
    if claim(counters) == 0:
        copy(layer_norm(x, weight, bias), y)
        done = 1
    finish(counters, done, 1)


@serial
def rotate(x, cos, sin, y):
    """Rotary position embedding of one head: x, cos and sin [W] -> y [W]."""
    half = len(x) // 2
    for i in range(half):
        j = i + half
        y[i] = x[i] * cos[i] + x[j] * sin[i]
        y[j] = x[j] * cos[j] + x[i] * sin[j]


@serial
def share_keys(counters, qkv, cache, slots, positions, cos, sin):
    """This thread's share of writing rotated keys, and values, into the cache (see ``share_attention``). A task is a
    row."""
    stored, width = cache.shape[1], cache.shape[3]
    first, done, r = cos.shape[1] - stored, 0, claim(counters)
    while r < len(qkv):
        position = positions[r]
        for h in range(stored):
            start = (first + h) * width
            rotate(
                qkv[r, start : start + width],
                cos[position, first + h],
                sin[position, first + h],
                cache[slots[r], h, position],
            )
        done += 1
        r = claim(counters)
    finish(counters, done, len(qkv))


@serial
def share_attention(counters, qkv, cache, slots, positions, cos, sin, y):
    """This thread's share of cached attention, into y [R, heads * W]. A task is a head of a row.

    qkv [R, (heads + 2 kv_heads) W] has queries, keys and values; slots and positions [R]; cos and sin
    [length, heads + 2 kv_heads, W]. A row attends to its slot up to its position. The cache [slots, 2 kv_heads,
    length, W] holds keys, then values.
    """
    kv_heads, width, rows = cache.shape[1] // 2, cache.shape[3], len(qkv)
    heads = cos.shape[1] - 2 * kv_heads
    tasks, done, task = heads * rows, 0, claim(counters)
    query = np.empty(width, np.float32)
    while task < tasks:
        h, r = task // rows, task % rows
        k, position, columns = h * kv_heads // heads, positions[r], slice(h * width, (h + 1) * width)
        rotate(qkv[r, columns], cos[position, h], sin[position, h], query)
        keys, values = cache[slots[r], k], cache[slots[r], kv_heads + k]
        _attend(query, keys[: position + 1], values[: position + 1], y[r, columns])
        done += 1
        task = claim(counters)
    finish(counters, done, tasks)


@serial
def _attend(query, keys, values, attended):
    """query [W], keys and values [T, W] -> attended [W]. They lie side by side and are read in order, four positions
    at a time."""
    visible, width = len(keys), len(query)
    scores, four = np.empty(visible, np.float32), visible // 4 * 4
    for t in range(0, four, 4):
        row_a, row_b, row_c, row_d = keys[t], keys[t + 1], keys[t + 2], keys[t + 3]
        a = b = c = d = np.float32(0)
        for i in range(width):
            q = query[i]
            a, b, c, d = a + q * row_a[i], b + q * row_b[i], c + q * row_c[i], d + q * row_d[i]
        scores[t], scores[t + 1], scores[t + 2], scores[t + 3] = a, b, c, d
    for t in range(four, visible):
        row, score = keys[t], np.float32(0)
        for i in range(width):
            score += query[i] * row[i]
        scores[t] = score
    highest, scale, total = maximum(scores.view(np.int32)), np.float32(1 / np.sqrt(width)), np.float32(0)
    for t in range(visible):
        scores[t] = exponential((scores[t] - highest) * scale)
        total += scores[t]
    for i in range(width):
        attended[i] = 0
    for t in range(0, four, 4):
        row_a, row_b, row_c, row_d = values[t], values[t + 1], values[t + 2], values[t + 3]
        a, b, c, d = scores[t] / total, scores[t + 1] / total, scores[t + 2] / total, scores[t + 3] / total
        for i in range(width):
            attended[i] += a * row_a[i] + b * row_b[i] + c * row_c[i] + d * row_d[i]
    for t in range(four, visible):
        row, share = values[t], scores[t] / total
        for i in range(width):
            attended[i] += share * row[i]


@serial
def share_gated_layer(team, x, eps, norm, mlp, inner):
    """This thread's share, in two phases, of a gated MLP after an RMSNorm, added to x [R, D]; inner [R, I] holds its
    inner values. It is a layer of the autoencoder, and the second half of a layer of the backbone."""
    gate, gate_bias, up, up_bias, down, down_bias = mlp
    share_gated(team[0], rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, inner)
    share_linear(team[1], inner, down, down_bias, x, FALSE, x)
