"""The arithmetic of a step of few rows on a CPU, compiled with numba.

With few rows PyTorch spends more time on finding its kernels than on running them; here a layer is one call, and what
remains is reading the weights. Arrays are float32, matrices of weights perhaps the upper halves of float32 (uint16); R
rows, D or I their width. A row's numbers do not depend, to the bit, on the other rows.
"""

from importlib import import_module

import numpy as np
from numba import config, njit, prange, set_num_threads, types
from numba.extending import overload
from numpy import ndarray


def _several_threads_may_enter() -> bool:
    """Whether numba has a threading layer besides its own, which ends the process when two threads enter it."""
    for name in ("omppool", "tbbpool"):
        try:
            import_module(f"numba.np.ufunc.{name}")
        except ImportError:
            continue
        return True
    return False


# By numpy's rules a division is a division; by Python's each one looks first whether it is by zero.
_serial = njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
_parallel = njit(fastmath=True, error_model="numpy", nogil=True, cache=True, parallel=_several_threads_may_enter())


def use_threads(count: int) -> None:
    """How many threads the kernels called by this thread share their work among, as far as numba allows."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _from_half(number):
    return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)


def _as_it_is(number):
    return number


def widen(number):
    """A weight as float32, from itself or from its upper half."""
    return _from_half(number) if isinstance(number, np.integer) else _as_it_is(number)


@overload(widen, inline="always")
def _widen(number):
    return _from_half if isinstance(number, types.Integer) else _as_it_is


@_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, start: int) -> ndarray:
    """x [R, I], bias [O] or empty -> [R, O], by the columns start to start + I of weight [O, ...].

    Four rows by four outputs at a time, so that each number read is used four times. What is beyond the last row or
    output is computed again in its place.
    """
    rows, inner, outer = x.shape[0], x.shape[1], weight.shape[0]
    end = start + inner
    y = np.empty((rows, outer), np.float32)
    for block in prange((outer + 3) // 4):
        o = 4 * block
        p, q, z = min(o + 1, outer - 1), min(o + 2, outer - 1), min(o + 3, outer - 1)
        # Cut first, because an index that may be negative would be looked at in each turn of the loop.
        at_o, at_p, at_q, at_z = weight[o, start:end], weight[p, start:end], weight[q, start:end], weight[z, start:end]
        for r in range(0, rows, 4):
            s, t, u = min(r + 1, rows - 1), min(r + 2, rows - 1), min(r + 3, rows - 1)
            ro = so = to = uo = rp = sp = tp = up = np.float32(0)
            rq = sq = tq = uq = rz = sz = tz = uz = np.float32(0)
            for i in range(inner):
                xr, xs, xt, xu = x[r, i], x[s, i], x[t, i], x[u, i]
                wo, wp, wq, wz = widen(at_o[i]), widen(at_p[i]), widen(at_q[i]), widen(at_z[i])
                ro, so, to, uo = ro + xr * wo, so + xs * wo, to + xt * wo, uo + xu * wo
                rp, sp, tp, up = rp + xr * wp, sp + xs * wp, tp + xt * wp, up + xu * wp
                rq, sq, tq, uq = rq + xr * wq, sq + xs * wq, tq + xt * wq, uq + xu * wq
                rz, sz, tz, uz = rz + xr * wz, sz + xs * wz, tz + xt * wz, uz + xu * wz
            y[r, o], y[s, o], y[t, o], y[u, o] = ro, so, to, uo
            y[r, p], y[s, p], y[t, p], y[u, p] = rp, sp, tp, up
            y[r, q], y[s, q], y[t, q], y[u, q] = rq, sq, tq, uq
            y[r, z], y[s, z], y[t, z], y[u, z] = rz, sz, tz, uz
        if bias.size:
            for r in range(rows):
                for c in range(o, min(o + 4, outer)):
                    y[r, c] += bias[c]
    return y


@_serial
def exponential(x):
    """e^x of one number, by a polynomial, which a loop computes for many at once, as it cannot call a library.

    e^x = 2^n e^f, f at most half of ln 2; ln 2 is taken off in two parts, the first of which has so few digits that its
    multiples are exact (as in the Cephes library). Beyond 80, where it would leave float32, it stays as it is there.
    """
    x = min(max(x, np.float32(-80)), np.float32(80))
    n = np.floor(x * np.float32(1 / np.log(2)) + np.float32(0.5))
    f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    e = np.float32(1 / 5040)
    for place in (720, 120, 24, 6, 2, 1, 1):
        e = e * f + np.float32(1 / place)
    return e * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@_serial
def sigmoid(x):
    """Of one number."""
    return np.float32(1) / (np.float32(1) + exponential(-x))


@_serial
def silu(x):
    """x [R, D] -> [R, D]."""
    y = np.empty_like(x)
    for r in range(x.shape[0]):
        for i in range(x.shape[1]):
            y[r, i] = x[r, i] * sigmoid(x[r, i])
    return y


@_parallel
def gated(x, gate, gate_bias, up, up_bias):
    """x [R, I], gate and up [O, I], biases [O] or empty -> silu(gate x) * (up x) [R, O]; blocks as in ``linear``."""
    rows, inner, outer = x.shape[0], x.shape[1], gate.shape[0]
    y = np.empty((rows, outer), np.float32)
    for block in prange((outer + 1) // 2):
        o = 2 * block
        p = min(o + 1, outer - 1)
        for r in range(0, rows, 4):
            s, t, u = min(r + 1, rows - 1), min(r + 2, rows - 1), min(r + 3, rows - 1)
            ro = so = to = uo = rp = sp = tp = up_ = np.float32(0)
            rq = sq = tq = uq = rz = sz = tz = uz = np.float32(0)
            for i in range(inner):
                xr, xs, xt, xu = x[r, i], x[s, i], x[t, i], x[u, i]
                go, gp, vo, vp = widen(gate[o, i]), widen(gate[p, i]), widen(up[o, i]), widen(up[p, i])
                ro, so, to, uo = ro + xr * go, so + xs * go, to + xt * go, uo + xu * go
                rp, sp, tp, up_ = rp + xr * gp, sp + xs * gp, tp + xt * gp, up_ + xu * gp
                rq, sq, tq, uq = rq + xr * vo, sq + xs * vo, tq + xt * vo, uq + xu * vo
                rz, sz, tz, uz = rz + xr * vp, sz + xs * vp, tz + xt * vp, uz + xu * vp
            if gate_bias.size:
                a, b, c, d = gate_bias[o], gate_bias[p], up_bias[o], up_bias[p]
                ro, so, to, uo, rp, sp, tp, up_ = ro + a, so + a, to + a, uo + a, rp + b, sp + b, tp + b, up_ + b
                rq, sq, tq, uq, rz, sz, tz, uz = rq + c, sq + c, tq + c, uq + c, rz + d, sz + d, tz + d, uz + d
            ro, so, to, uo = ro * sigmoid(ro), so * sigmoid(so), to * sigmoid(to), uo * sigmoid(uo)
            rp, sp, tp, up_ = rp * sigmoid(rp), sp * sigmoid(sp), tp * sigmoid(tp), up_ * sigmoid(up_)
            y[r, o], y[s, o], y[t, o], y[u, o] = ro * rq, so * sq, to * tq, uo * uq
            y[r, p], y[s, p], y[t, p], y[u, p] = rp * rz, sp * sz, tp * tz, up_ * uz
    return y


@_serial
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


@_serial
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


@_serial
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


@_parallel
def attend(query, cache, slots, positions):
    """query [R, heads, W], slots and positions [R] -> [R, heads * W].

    A row attends to its slot up to its position; cache [slots, 2 kv_heads, length, W] has keys, then values, those of
    a head side by side, as memory is read in order; four positions at a time.
    """
    rows, heads, width = query.shape
    kv_heads = cache.shape[1] // 2
    y = np.zeros((rows, heads * width), np.float32)
    for row_and_head in prange(rows * heads):
        r, h = row_and_head // heads, row_and_head % heads
        k, seen = h * kv_heads // heads, positions[r] + 1
        keys, values = cache[slots[r], k], cache[slots[r], kv_heads + k]
        asked, told = query[r, h], y[r, h * width : (h + 1) * width]  # cut first, as in ``linear``
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
        highest, scale, total = scores.max(), np.float32(1 / np.sqrt(width)), np.float32(0)
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


@_serial
def llama_layer(
    x, cache, slots, positions, cos, sin, eps, norm, qkv, qkv_bias, out, out_bias, mlp_norm, gate, gate_bias, up,
    up_bias, down, down_bias,
):  # fmt: skip
    """x [R, D], at positions [R] of slots [R] of the cache, which takes their keys and values -> [R, D]."""
    rows, heads = x.shape[0], cos.shape[1] - cache.shape[1]
    y = linear(rms_norm(x, norm, eps), qkv, qkv_bias, 0).reshape(rows, cos.shape[1], cos.shape[2])
    y = turn(y, cos, sin, positions)
    for r in range(rows):
        cache[slots[r], :, positions[r]] = y[r, heads:]
    x = x + linear(attend(y[:, :heads], cache, slots, positions), out, out_bias, 0)
    return x + linear(gated(rms_norm(x, mlp_norm, eps), gate, gate_bias, up, up_bias), down, down_bias, 0)


@_serial
def head_block(x, condition, norm, norm_bias, mix, second, second_bias, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, D], condition [R, D] as ``HeadBlock.project`` makes it -> [R, D]."""
    y = silu(linear(layer_norm(x, norm, norm_bias), mix, norm[:0], 0) + condition)
    y = silu(linear(y, second, second_bias, 0))
    return x + linear(gated(y, gate, gate_bias, up, up_bias), down, down_bias, 0)


@_serial
def gated_layer(x, eps, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, H] -> [R, H] behind a layer of the autoencoder."""
    return x + linear(gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias), down, down_bias, 0)


@_serial
def bound(x, basis, table, slack):
    """x [R, H], basis [Q, H], table [V, Q + 1] as ``Vocabulary`` makes it -> bounds [R, V]."""
    none, known = basis[0, :0], basis.shape[0]
    near = linear(x, basis, none, 0)
    y = np.empty((x.shape[0], known + 1), np.float32)
    for r in range(x.shape[0]):
        length = rest = np.float32(0)
        for i in range(x.shape[1]):
            length += x[r, i] * x[r, i]
        for i in range(known):
            y[r, i] = near[r, i]
            rest += near[r, i] * near[r, i]
        y[r, known] = np.sqrt(max(length - rest, np.float32(0))) + slack * np.sqrt(length)
    return linear(y, table, none, 0)


@_parallel
def settle(bounds, x, embedding):
    """bounds [R, V], never below the products of x [R, H] with the rows of embedding [V, H] -> the index of the
    greatest product of each row [R]. Only those are computed whose bound does not rule them out."""
    rows, words, block = bounds.shape[0], bounds.shape[1], 64
    blocks = (words + block - 1) // block
    best = np.empty(rows, np.int64)
    for r in prange(rows):
        row, state, highest = bounds[r], x[r], np.empty(blocks, np.float32)
        for b in range(blocks):
            part = row[b * block : min((b + 1) * block, words)]
            top = part[0]
            for v in range(len(part)):
                top = max(top, part[v])
            highest[b] = top
        # The block with the greatest bound first: what is found there mostly rules out all others.
        first, found, product = int(highest.argmax()), 0, np.float32(-np.inf)
        for turn in range(blocks + 1):
            b = first if turn == 0 else turn - 1
            if highest[b] < product or (turn and b == first):
                continue
            part = row[b * block : min((b + 1) * block, words)]
            for v in range(len(part)):
                if part[v] >= product:
                    word, total = embedding[b * block + v], np.float32(0)
                    for i in range(len(state)):
                        total += state[i] * word[i]
                    if total > product:
                        found, product = b * block + v, total
        best[r] = found
    return best
