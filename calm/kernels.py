"""The arithmetic of a step of few rows on a CPU, compiled with numba.

With few rows PyTorch spends more time on finding its kernels than on running them; here a layer is one call, and what
remains is reading the weights. Arrays are float32, matrices of weights ``pack``ed; R rows, D or I their width. A row's
numbers do not depend, to the bit, on the other rows.

All of it is one file, because what numba has compiled of a function and kept does not notice that a function in another
file, which it calls, has changed.
"""

from importlib import import_module
from itertools import chain

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, get_num_threads, njit, prange, set_num_threads, types
from numba.core import cgutils
from numba.extending import intrinsic
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
_exact = njit(error_model="numpy", nogil=True, cache=True)  # sums in the order in which they are written
_parallel = njit(fastmath=True, error_model="numpy", nogil=True, cache=True, parallel=_several_threads_may_enter())


def use_threads(count: int) -> None:
    """How many threads the kernels called by this thread share their work among, as far as numba allows."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


LANES = 16  # outputs whose weights lie side by side in a packed matrix
GROUP = 4  # such blocks that a thread computes for all rows before it goes on
UPPER = np.uint32(0xFFFF0000)
WIDE = get_host_cpu_features().get("avx512f", False)  # 32 registers of 16 numbers, instead of 16 of 8


def pack(matrix: ndarray) -> ndarray:
    """[O, I] -> [O / 16, I, 16]: what a product needs at once lies side by side. Zeros are added where O is no multiple
    of 16."""
    padded = np.pad(matrix, ((0, -len(matrix) % LANES), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1))


def pack_halves(matrix: ndarray) -> ndarray:
    """The upper halves of float32 numbers, which say all where these were bfloat16 on the disk: [O, I] -> [O / 16,
    I / 2, 16]. A word holds those of two inputs, the first below, so that one step makes either a number again."""
    words = pack(np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))).view(np.uint32)
    return (words[:, ::2] >> 16) | (words[:, 1::2] & UPPER)


def _tile(rows: int, blocks: int):
    """Makes a kernel: ``rows`` rows of x, from ``row`` on, by ``blocks`` blocks of a packed matrix, from ``block`` on,
    into y. What is beyond the last row or block is computed again in its place. The matrix is float32, or upper halves.

    Sums stay in registers, a lane an output, and grow input by input, so that they are the same in every tile. It is
    written in LLVM's own terms, because a loop in Python's has no way to say that.
    """
    single, word = ir.FloatType(), ir.IntType(64)
    sums, words = (ir.VectorType(of, LANES) for of in (single, ir.IntType(32)))
    anything, shift = ir.Constant(sums, ir.Undefined), ir.Constant(words, [16] * LANES)
    upper = ir.Constant(words, [int(UPPER)] * LANES)

    @intrinsic
    def tile(context, x, weight, y, row, block):
        if {x.layout, weight.layout, y.layout} != {"C"}:
            return None
        at_once = 2 if weight.dtype == types.uint32 else 1  # inputs that a vector of the matrix is for

        def generate(context, builder, signature, arguments):
            kinds, (*given, row, block) = signature.args, arguments
            x, weight, y = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, given))
            (count, inner), outer = cgutils.unpack_tuple(builder, x.shape, 2), builder.extract_value(y.shape, 1)
            most, length, _ = cgutils.unpack_tuple(builder, weight.shape, 3)

            def each(first, count, end):
                last = builder.sub(end, word(1))
                for place in (builder.add(first, word(i)) for i in range(count)):
                    yield builder.select(builder.icmp_signed("<", place, last), place, last)

            def at(data, place, kind=None):
                found = builder.gep(data, [place])
                return builder.bitcast(found, kind.as_pointer()) if kind else found

            here, there = list(each(row, rows, count)), list(each(block, blocks, most))
            reads = [at(x.data, builder.mul(one, inner)) for one in here]
            weights = [at(weight.data, builder.mul(builder.mul(b, length), word(LANES))) for b in there]
            zeros = ir.Constant(sums, [0.0] * LANES)
            totals = [[cgutils.alloca_once(builder, sums) for _ in there] for _ in here]
            for total in chain.from_iterable(totals):
                builder.store(zeros, total)

            def add(column, index):
                """The products of an input, and of its column of each block."""
                for read, of_row in zip(reads, totals):
                    number = builder.insert_element(anything, builder.load(at(read, index)), word(0))
                    number = builder.shuffle_vector(number, anything, ir.Constant(words, [0] * LANES))
                    for factor, total in zip(column, of_row):
                        product = builder.fmul(number, factor, flags=("contract",))
                        builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)

            with cgutils.for_range(builder, length) as loop:
                kind = words if at_once == 2 else sums
                place = builder.mul(loop.index, word(LANES))
                column = [builder.load(at(of, place, kind), align=4) for of in weights]
                if at_once == 1:
                    add(column, loop.index)
                else:
                    first = builder.mul(loop.index, word(2))
                    add([builder.bitcast(builder.shl(pair, shift), sums) for pair in column], first)
                    second = builder.add(first, word(1))
                    with builder.if_then(builder.icmp_signed("<", second, inner), likely=True):
                        add([builder.bitcast(builder.and_(pair, upper), sums) for pair in column], second)
            for one, of_row in zip(here, totals):
                for b, total in zip(there, of_row):
                    place = builder.add(builder.mul(one, outer), builder.mul(b, word(LANES)))
                    builder.store(builder.load(total), at(y.data, place, sums), align=4)
            return context.get_dummy_value()

        return types.void(x, weight, y, row, block), generate

    return tile


# Tiles whose sums fit into the registers, beside what they are made of: rows, and how many blocks.
MANY = 8 if WIDE else 6
_OF_MANY, _OF_FOUR, _OF_TWO = (2, 4, 4) if WIDE else (1, 1, 2)
_many, _four, _two, _one = _tile(MANY, _OF_MANY), _tile(4, _OF_FOUR), _tile(2, _OF_TWO), _tile(1, GROUP)


@_exact
def _group(x, weight, y, group):
    """The products of all rows with a group of blocks, into y."""
    rows, first, last = x.shape[0], group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    row = 0
    while row < rows:
        left = rows - row
        if left > MANY - 2:
            for block in range(first, last, _OF_MANY):
                _many(x, weight, y, row, block)
            row += MANY
        elif left > 2:
            for block in range(first, last, _OF_FOUR):
                _four(x, weight, y, row, block)
            row += 4
        elif left == 2:
            for block in range(first, last, _OF_TWO):
                _two(x, weight, y, row, block)
            row += 2
        else:
            _one(x, weight, y, row, first)
            row += 1


@_serial
def _product(x, weight):
    """x [R, I], packed weight -> all products [R, O or more], by one thread."""
    y = np.empty((len(x), len(weight) * LANES), np.float32)
    for group in range((len(weight) + GROUP - 1) // GROUP):
        _group(x, weight, y, group)
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
def _greatest(bits):
    """Of float32 numbers, by their bits [n]: a loop compares whole numbers many at once, and not what may be NaN. The
    order is the same but for the negative, whose lower bits are turned for it, and back."""
    found = np.int32(-(2**31))
    for i in range(len(bits)):
        found = max(found, np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(found ^ ((found >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@_serial
def _copy(x, y):
    """x [A, B] into y. An assignment would do, but to say what is wrong with its shapes takes seconds to compile."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j]


@_serial
def _cut(y, outer):
    """[R, O] of y [R, O or more]."""
    return y if y.shape[1] == outer else np.ascontiguousarray(y[:, :outer])


# Of few rows each thread computes some outputs of all, and waits for the others at every product; of many rows it
# computes its own, ``alone``.
ALONE = 4  # rows that a thread computes alone at the least
YES, NO = np.bool_(True), np.bool_(False)  # for each of Python's own, numba would compile a function anew
Flag = bool | np.bool_


def parts_of(rows: int) -> int:
    """Among how many threads the kernels called by this thread should share out rows."""
    return max(1, min(rows // ALONE, get_num_threads()))


@_serial
def _part(part, parts, rows):
    """First row of a part, and the one behind its last."""
    return part * rows // parts, (part + 1) * rows // parts


@_serial
def _linear_group(x, weight, bias, add, activated, y, group):
    outer = len(bias)
    _group(x, weight, y, group)
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


@_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, alone: Flag) -> ndarray:
    """x [R, I] -> [R, O]: by a packed weight, plus bias [O], plus add [R, O] where that is not empty, then SiLU if
    activated."""
    y = np.empty((len(x), len(weight) * LANES), np.float32)
    groups = (len(weight) + GROUP - 1) // GROUP
    if alone:
        for group in range(groups):
            _linear_group(x, weight, bias, add, activated, y, group)
    else:
        for group in prange(groups):
            _linear_group(x, weight, bias, add, activated, y, np.int64(group))
    return _cut(y, len(bias))


@_serial
def _gated_group(x, gate, gate_bias, up, up_bias, y, z, group):
    _group(x, gate, y, group)
    _group(x, up, z, group)
    first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, len(gate_bias))
    to_y, to_z = gate_bias[first:last], up_bias[first:last]
    for r in range(len(x)):
        here, factor = y[r, first:last], z[r, first:last]
        for o in range(len(here)):
            opened = here[o] + to_y[o]
            here[o] = opened * sigmoid(opened) * (factor[o] + to_z[o])


@_parallel
def gated(x, gate, gate_bias, up, up_bias, alone):
    """x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x) [R, O]."""
    y = np.empty((len(x), len(gate) * LANES), np.float32)
    z = np.empty_like(y)
    groups = (len(gate) + GROUP - 1) // GROUP
    if alone:
        for group in range(groups):
            _gated_group(x, gate, gate_bias, up, up_bias, y, z, group)
    else:
        for group in prange(groups):
            _gated_group(x, gate, gate_bias, up, up_bias, y, z, np.int64(group))
    return _cut(y, len(gate_bias))


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
def attend(x, cache, slots, positions):
    """x [R, heads + 2 kv_heads, W], queries and behind them keys and values, slots and positions [R] -> [R, heads * W].

    A row attends to its slot up to its position; cache [slots, 2 kv_heads, length, W] has keys, then values, those of
    a head side by side, as memory is read in order; four positions at a time.
    """
    rows, heads, width, kv_heads = len(x), x.shape[1] - cache.shape[1], x.shape[2], cache.shape[1] // 2
    y = np.zeros((rows, heads * width), np.float32)
    for row_and_head in prange(rows * heads):
        r, h = row_and_head // heads, row_and_head % heads
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


@_serial
def _gated_layer(x, eps, alone, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, H] -> [R, H] behind a layer of the autoencoder, or the second half of one of the backbone."""
    y = gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, alone)
    return linear(y, down, down_bias, x, NO, alone)


@_serial
def llama_layer(
    x, cache, slots, positions, cos, sin, eps, norm, qkv, qkv_bias, out, out_bias, mlp_norm, gate, gate_bias, up,
    up_bias, down, down_bias,
):  # fmt: skip
    """x [R, D], at positions [R] of slots [R] of the cache, which takes their keys and values -> [R, D]."""
    rows, heads = x.shape[0], cos.shape[1] - cache.shape[1]
    y = linear(rms_norm(x, norm, eps), qkv, qkv_bias, x[:0], NO, NO)
    y = turn(y.reshape(rows, cos.shape[1], cos.shape[2]), cos, sin, positions)
    for r in range(rows):
        _copy(y[r, heads:], cache[slots[r], :, positions[r]])
    x = linear(attend(y, cache, slots, positions), out, out_bias, x, NO, NO)
    return _gated_layer(x, eps, NO, mlp_norm, gate, gate_bias, up, up_bias, down, down_bias)


@_serial
def _vectors(noise, states, places, alone, ends, blocks):
    embedding, bias, norm, norm_bias, last_norm, last_norm_bias, first, first_bias, last, last_bias = ends
    norms, norm_biases, mixes, mix_biases, seconds, second_biases, gates, gate_biases, ups, up_biases = blocks[:10]
    downs, down_biases = blocks[10:]
    x = layer_norm(linear(noise, embedding, bias, noise[:0], NO, alone), norm, norm_bias)
    condition = np.empty_like(x)
    for i in range(len(norms)):
        for r in range(len(x)):
            of_place = states[places[r], i]
            for j in range(len(of_place)):
                condition[r, j] = of_place[j]
        y = linear(layer_norm(x, norms[i], norm_biases[i]), mixes[i], mix_biases[i], condition, YES, alone)
        y = linear(y, seconds[i], second_biases[i], x[:0], YES, alone)
        y = gated(y, gates[i], gate_biases[i], ups[i], up_biases[i], alone)
        x = linear(y, downs[i], down_biases[i], x, NO, alone)
    x = linear(layer_norm(x, last_norm, last_norm_bias), first, first_bias, x[:0], YES, alone)
    return linear(x, last, last_bias, x[:0], NO, alone)


@_parallel
def vectors(
    noise: ndarray, states: ndarray, places: ndarray, parts: int, ends: tuple[ndarray, ...], blocks: tuple[ndarray, ...]
) -> ndarray:
    """noise [R, noise_size], of places [R] in states [places, blocks, D], as ``project`` makes them -> draws [R, L].
    The weights of the blocks are stacked."""
    if parts == 1:
        return _vectors(noise, states, places, NO, ends, blocks)
    y = np.empty((len(noise), len(ends[-1])), np.float32)
    for part in prange(parts):
        a, b = _part(part, parts, len(noise))
        _copy(_vectors(noise[a:b], states, places[a:b], YES, ends, blocks), y[a:b])
    return y


@_serial
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


@_serial
def bound(x, basis, table, slack):
    """x [R, H], packed basis and table of ``Vocabulary`` -> bounds of the products with each word [R, >= V]."""
    rows, known = x.shape[0], table.shape[1] - 1
    along, y = _product(x, basis), np.empty((rows, known + 1), np.float32)
    for r in range(rows):
        length, rest = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            length += x[r, i] * x[r, i]
        for q in range(known):
            y[r, q] = along[r, q]
            rest += along[r, q] * along[r, q]
        y[r, known] = np.sqrt(max(length - rest, np.float32(0))) + slack * np.sqrt(length)
    return _product(y, table)


@_serial
def _likeliest_of_few(x, basis, table, slack, embedding, best, first, few):
    some = x[first : first + few]
    bounds = bound(some, basis, table, slack)
    for r in range(len(some)):
        best[first + r] = _settle(bounds[r], some[r], embedding)


@_parallel
def likeliest(x: ndarray, alone: Flag, basis: ndarray, table: ndarray, slack: float, embedding: ndarray) -> ndarray:
    """x [R, H] -> the index of the greatest product of each row with the rows of embedding [V, H]; basis, table and
    slack as for ``bound``. A few rows at a time, whose bounds stay in the nearest memory."""
    few = 8 if len(x) > 16 else 4
    best = np.empty(len(x), np.int64)
    if alone:
        for first in range(0, len(x), few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, first, few)
    else:
        for chunk in prange((len(x) + few - 1) // few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, np.int64(few * chunk), few)
    return best


@_serial
def _decode(x, eps, alone, ends, layers, vocabulary):
    entry, entry_bias, expansion, expansion_bias, last_norm = ends
    norms, gates, gate_biases, ups, up_biases, downs, down_biases = layers
    x = linear(x, entry, entry_bias, x[:0], NO, alone)
    for i in range(len(norms)):
        if i == len(norms) // 2:
            x = linear(x, expansion, expansion_bias, x[:0], NO, alone).reshape(-1, x.shape[1])
        x = _gated_layer(
            x, eps, alone, norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return likeliest(rms_norm(x, last_norm, eps), alone, *vocabulary)


@_parallel
def decode(
    x: ndarray, eps: float, parts: int, ends: tuple[ndarray, ...], layers: tuple[ndarray, ...], vocabulary: tuple
) -> ndarray:
    """Vectors x [R, L] -> the likeliest token ids [R, K]. The weights of the decoder's layers are stacked."""
    rows, k = len(x), len(ends[3]) // len(ends[1])
    if parts == 1:
        return _decode(x, eps, NO, ends, layers, vocabulary).reshape(rows, k)
    ids = np.empty((rows, k), np.int64)
    for part in prange(parts):
        a, b = _part(part, parts, rows)
        _copy(_decode(x[a:b], eps, YES, ends, layers, vocabulary).reshape(b - a, k), ids[a:b])
    return ids
