"""The arithmetic of a step of few rows on a CPU, compiled with numba.

With few rows PyTorch spends more time on finding its kernels than on running them; here all layers are one call, and
what remains is reading the weights. Arrays are float32, matrices of weights packed (``calm/tiles.py``); R rows, D or I
their width. A row's numbers do not depend, to the bit, on the other rows.
"""

from importlib import import_module

import numpy as np
from numba import config, get_num_threads, prange, set_num_threads
from numba.extending import overload
from numpy import ndarray

from . import tiles as tiles
from .tiles import GROUP, LANES, compiled, copy, done, groups_of, multiply, operand_of, product, serial

# What numba has compiled of a function and kept does not notice that a function in another file, which it calls, has
# changed: of ``calm/tiles.py`` in its present form (SHA-256), so that a change there is one of this file too.
COMPILED_WITH = "d997c28e41f2"


def _several_threads_may_enter() -> bool:
    """Whether numba has a threading layer besides its own, which ends the process when two threads enter it."""
    for name in ("omppool", "tbbpool"):
        try:
            import_module(f"numba.np.ufunc.{name}")
        except ImportError:
            continue
        return True
    return False


_parallel = compiled(fastmath=True, parallel=_several_threads_may_enter())


def use_threads(count: int) -> None:
    """How many threads the kernels called by this thread share their work among, as far as numba allows."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


@serial
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


@serial
def sigmoid(x):
    """Of one number."""
    return np.float32(1) / (np.float32(1) + exponential(-x))


@serial
def _greatest(bits):
    """Of float32 numbers, by their bits [n]: a loop compares whole numbers many at once, and not what may be NaN. The
    order is the same but for the negative, whose lower bits are turned for it, and back."""
    found = np.int32(-(2**31))
    for i in range(len(bits)):
        found = max(found, np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(found ^ ((found >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@serial
def _cut(y, outer):
    """[R, O] of y [R, O or more]."""
    return y if y.shape[1] == outer else np.ascontiguousarray(y[:, :outer])


# Of few rows each thread computes some outputs of all, and waits for the others at every product; of many rows it
# computes its own, alone.
ALONE = 4  # rows that a thread computes alone at the least
# For each of Python's own, numba would compile a function anew.
YES, NO, ZERO, ONE = np.bool_(True), np.bool_(False), np.int64(0), np.int64(1)
Flag = bool | np.bool_
Arrays = tuple[ndarray, ...]
Share = tuple[int, int]


def shared(rows: int) -> Share:
    """How the kernels called by this thread should share out so many rows: in how many parts, each computed alone, and
    if that is one, among how many threads the outputs."""
    threads = get_num_threads()
    parts = max(1, min(rows // ALONE, threads))
    return parts, threads if parts == 1 else 1


@serial
def _part(part, parts, rows):
    """First row of a part, and the one behind its last."""
    return part * rows // parts, (part + 1) * rows // parts


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


@_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, threads: int) -> ndarray:
    """x [R, I] -> [R, O]: by a packed weight, plus bias [O], plus add [R, O] where that is not empty, then SiLU if
    activated; the outputs are shared out among threads."""
    y, groups = np.empty((len(x), len(weight) * LANES), np.float32), groups_of(weight)
    if threads == 1:
        _linear_groups(x, weight, bias, add, activated, y, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = _part(np.int64(part), parts, groups)
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


@_parallel
def gated(x, gate, gate_bias, up, up_bias, threads):
    """x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x) [R, O]."""
    y, groups = np.empty((len(x), len(gate) * LANES), np.float32), groups_of(gate)
    z = np.empty_like(y)
    if threads == 1:
        _gated_groups(x, gate, gate_bias, up, up_bias, y, z, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = _part(np.int64(part), parts, groups)
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


@serial
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


@_parallel
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
        highest, scale, total = _greatest(scores.view(np.int32)), np.float32(1 / np.sqrt(width)), np.float32(0)
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
def _gated_layer(x, eps, threads, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, H] -> [R, H] behind a layer of the autoencoder, or the second half of one of the backbone."""
    y = gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, threads)
    return linear(y, down, down_bias, x, NO, threads)


@serial
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
        x = _gated_layer(
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


@_parallel
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
        a, b = _part(part, parts, len(noise))
        copy(_vectors(noise[a:b], states, places[a:b], ONE, ends, blocks), y[a:b])
    return y


@serial
def _settle(bounds, state, embedding):
    """bounds [>= V], never below the products of state [H] with the rows of embedding [V, H] -> the index of the
    greatest product. Only those are computed whose bound does not rule them out."""
    words, block = len(embedding), 64
    blocks = (words + block - 1) // block
    highest, bits = np.empty(blocks, np.float32), bounds.view(np.int32)
    for b in range(blocks):
        highest[b] = _greatest(bits[b * block : min((b + 1) * block, words)])
    # The block with the greatest bound first: what is found there mostly rules out all others.
    first, found, product = int(highest.argmax()), 0, np.float32(-np.inf)
    for turn in range(blocks + 1):
        b = first if turn == 0 else turn - 1
        if highest[b] < product or (turn and b == first):
            continue
        part = bounds[b * block : min((b + 1) * block, words)]
        for v in range(len(part)):
            if part[v] >= product:
                word, total = embedding[b * block + v], np.float32(0)
                for i in range(len(state)):
                    total += state[i] * word[i]
                if total > product:
                    found, product = b * block + v, total
    return found


@serial
def bound(x, basis, table, slack):
    """x [R, H], packed basis and table of ``Vocabulary`` -> bounds of the products with each word [R, >= V]."""
    rows, known = x.shape[0], table.shape[1] - 1
    along, y = product(x, basis), np.empty((rows, known + 1), np.float32)
    for r in range(rows):
        length, rest = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            length += x[r, i] * x[r, i]
        for q in range(known):
            y[r, q] = along[r, q]
            rest += along[r, q] * along[r, q]
        y[r, known] = np.sqrt(max(length - rest, np.float32(0))) + slack * np.sqrt(length)
    return product(y, table)


@serial
def _likeliest_of_few(x, basis, table, slack, embedding, best, first, few):
    some = x[first : first + few]
    bounds = bound(some, basis, table, slack)
    for r in range(len(some)):
        best[first + r] = _settle(bounds[r], some[r], embedding)


@_parallel
def _by_bounds(x, threads, basis, table, slack, embedding):
    """A few rows at a time, whose bounds stay in the nearest memory."""
    few = 8 if len(x) > 16 else 4
    best = np.empty(len(x), np.int64)
    if threads == 1:
        for first in range(0, len(x), few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, first, few)
    else:
        for chunk in prange((len(x) + few - 1) // few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, np.int64(few * chunk), few)
    return best


SPAN = 4  # groups of words among which the greatest product is looked for at once


@serial
def _best_of(x, embedding, words, start, end, products, best):
    """The greatest products [R] of x [R, H] with the words of some groups, and which they are [R]."""
    operand, y = operand_of(x, embedding), np.empty((len(x), SPAN * GROUP * LANES), np.float32)
    for first in range(start, end, SPAN):
        panels = embedding[first * GROUP : min(first + SPAN, end) * GROUP]
        for group in range(groups_of(panels)):
            multiply(operand, panels, y, group)
        word = first * GROUP * LANES
        for r in range(len(x)):
            here = y[r, : min(len(panels) * LANES, words - word)]
            highest, v = _greatest(here.view(np.int32)), 0
            if first == start or highest > products[r]:
                while v < len(here) - 1 and here[v] != highest:
                    v += 1
                products[r], best[r] = highest, word + v
    done(embedding)


@_parallel
def _by_products(x, threads, embedding, words):
    """With a matrix unit: all products, each thread's with a part of the words."""
    groups = groups_of(embedding)
    parts = min(groups, threads)
    products, best = np.empty((parts, len(x)), np.float32), np.empty((parts, len(x)), np.int64)
    if parts == 1:
        _best_of(x, embedding, words, ZERO, groups, products[0], best[0])
    else:
        for part in prange(parts):
            start, end = _part(np.int64(part), parts, groups)
            _best_of(x, embedding, words, start, end, products[part], best[part])
    for r in range(len(x)):
        for part in range(1, parts):
            if products[part, r] > products[0, r]:
                products[0, r], best[0, r] = products[part, r], best[part, r]
    return best[0]


def _likeliest(x, threads, vocabulary):
    """``likeliest`` by what the vocabulary consists of."""


@overload(_likeliest)
def _likeliest_for(x, threads, vocabulary):
    if len(vocabulary) == 2:
        return lambda x, threads, vocabulary: _by_products(x, threads, *vocabulary)
    return lambda x, threads, vocabulary: _by_bounds(x, threads, *vocabulary)


@serial
def likeliest(x: ndarray, threads: int, vocabulary: tuple) -> ndarray:
    """x [R, H] -> the index of the greatest product of each row with the rows of an embedding [V, H]. The vocabulary is
    its panels and V, or basis, table and slack as for ``bound`` and the embedding."""
    return _likeliest(x, threads, vocabulary)


@serial
def _decode(x, eps, threads, ends, layers, vocabulary):
    entry, entry_bias, expansion, expansion_bias, last_norm = ends
    norms, gates, gate_biases, ups, up_biases, downs, down_biases = layers
    x = linear(x, entry, entry_bias, x[:0], NO, threads)
    for i in range(len(norms)):
        if i == len(norms) // 2:
            x = linear(x, expansion, expansion_bias, x[:0], NO, threads).reshape(-1, x.shape[1])
        x = _gated_layer(
            x, eps, threads, norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return likeliest(rms_norm(x, last_norm, eps), threads, vocabulary)


@_parallel
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
        a, b = _part(part, parts, rows)
        copy(_decode(x[a:b], eps, ONE, ends, layers, vocabulary).reshape(b - a, k), ids[a:b])
    return ids
