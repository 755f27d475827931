"""The arithmetic of a step of few rows on a CPU, compiled with numba.

With few rows PyTorch spends more time on finding its kernels than on running them; here a layer is one call, and what
remains is reading the weights. Arrays are float32, matrices of weights ``pack``ed; R rows, D or I their width. A row's
numbers do not depend, to the bit, on the other rows.

All of it is one file, because what numba has compiled of a function and kept does not notice that a function in another
file, which it calls, has changed.
"""

import sys
from ctypes import CDLL
from functools import partial
from importlib import import_module
from itertools import chain

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, get_num_threads, njit, prange, set_num_threads, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
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
PANEL = 32  # inputs that a matrix unit takes at once
LINE = 64  # bytes of a cache line
SPAN = 4  # groups of words among which the greatest product is looked for at once
UPPER, SIXTEEN = np.uint32(0xFFFF0000), np.uint32(16)
WIDE = get_host_cpu_features().get("avx512f", False)  # 32 registers of 16 numbers, instead of 16 of 8


def _matrix_unit_serves() -> bool:
    """Whether there is a matrix unit (AMX) for bfloat16, and the system lets this process use it, which Linux wants to
    be asked for: arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA."""
    return (
        get_host_cpu_features().get("amx-bf16", False)
        and sys.platform == "linux"
        and CDLL(None).syscall(158, 0x1023, 18) == 0
    )


MATRIX_UNIT = _matrix_unit_serves()


def aligned(array: ndarray) -> ndarray:
    """The same numbers from the beginning of a cache line on: a vector that lies in two lines takes as long as two."""
    space = np.empty(array.nbytes + LINE, np.uint8)
    start = -space.ctypes.data % LINE
    found = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def pack(matrix: ndarray) -> ndarray:
    """[O, I] -> [O / 16, I, 16]: what a product needs at once lies side by side. Zeros are added where O is no multiple
    of 16."""
    padded = np.pad(matrix, ((0, -len(matrix) % LANES), (0, 0)))
    return aligned(padded.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1))


def pack_halves(matrix: ndarray) -> ndarray:
    """The upper halves of float32 numbers, which say all where these were bfloat16 on the disk: [O, I] -> [O / 16,
    I / 2, 16]. A word holds those of two inputs, the first below, so that one step makes either a number again."""
    words = pack(np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))).view(np.uint32)
    return aligned((words[:, ::2] >> 16) | (words[:, 1::2] & UPPER))


def pack_panels(matrix: ndarray) -> ndarray:
    """The same upper halves for a matrix unit: [O, I] -> [O / 16, I / 32, 16, 16]. Zeros are added where I is no
    multiple of 32."""
    halves = pack_halves(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % PANEL))))
    return halves.reshape(len(halves), -1, PANEL // 2, LANES)


BYTE, WORD, NUMBERS = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)


def _each(builder, first, count, end):
    """LLVM's names of ``count`` places from ``first`` on, the last before ``end`` instead of what is beyond it."""
    last = builder.sub(end, WORD(1))
    for place in (builder.add(first, WORD(i)) for i in range(count)):
        yield builder.select(builder.icmp_signed("<", place, last), place, last)


def _at(builder, data, place, kind=None):
    """LLVM's name of a place in memory, as one of a ``kind``."""
    found = builder.gep(data, [place])
    return builder.bitcast(found, kind.as_pointer()) if kind else found


def _tile(rows: int, blocks: int):
    """Makes a kernel: ``rows`` rows of x, from ``row`` on, by ``blocks`` blocks of a packed matrix, from ``block`` on,
    into y. What is beyond the last row or block is computed again in its place. The matrix is float32, or upper halves.

    Sums stay in registers, a lane an output, and grow input by input, so that they are the same in every tile. It is
    written in LLVM's own terms, because a loop in Python's has no way to say that.
    """
    sums, words = NUMBERS, ir.VectorType(ir.IntType(32), LANES)
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

            at = partial(_at, builder)
            here, there = list(_each(builder, row, rows, count)), list(_each(builder, block, blocks, most))
            reads = [at(x.data, builder.mul(one, inner)) for one in here]
            weights = [at(weight.data, builder.mul(builder.mul(b, length), WORD(LANES))) for b in there]
            zeros = ir.Constant(sums, [0.0] * LANES)
            totals = [[cgutils.alloca_once(builder, sums) for _ in there] for _ in here]
            for total in chain.from_iterable(totals):
                builder.store(zeros, total)

            def add(column, index):
                """The products of an input, and of its column of each block."""
                for read, of_row in zip(reads, totals):
                    number = builder.insert_element(anything, builder.load(at(read, index)), WORD(0))
                    number = builder.shuffle_vector(number, anything, ir.Constant(words, [0] * LANES))
                    for factor, total in zip(column, of_row):
                        product = builder.fmul(number, factor, flags=("contract",))
                        builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)

            with cgutils.for_range(builder, length) as loop:
                kind = words if at_once == 2 else sums
                place = builder.mul(loop.index, WORD(LANES))
                column = [builder.load(at(of, place, kind), align=4) for of in weights]
                if at_once == 1:
                    add(column, loop.index)
                else:
                    first = builder.mul(loop.index, WORD(2))
                    add([builder.bitcast(builder.shl(pair, shift), sums) for pair in column], first)
                    second = builder.add(first, WORD(1))
                    with builder.if_then(builder.icmp_signed("<", second, inner), likely=True):
                        add([builder.bitcast(builder.and_(pair, upper), sums) for pair in column], second)
            for one, of_row in zip(here, totals):
                for b, total in zip(there, of_row):
                    place = builder.add(builder.mul(one, outer), builder.mul(b, WORD(LANES)))
                    builder.store(builder.load(total), at(y.data, place, sums), align=4)
            return context.get_dummy_value()

        return types.void(x, weight, y, row, block), generate

    return tile


# Tiles whose sums fit into the registers, beside what they are made of: rows, and how many blocks.
MANY = 8 if WIDE else 6
_OF_MANY, _OF_FOUR, _OF_TWO = (2, 4, 4) if WIDE else (1, 1, 2)
_many, _four, _two, _one = _tile(MANY, _OF_MANY), _tile(4, _OF_FOUR), _tile(2, _OF_TWO), _tile(1, GROUP)


@_exact
def _group_of_rows(x, weight, y, group):
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


EACH = 5  # rows in a tile of the matrix unit, which has 16: three for each
# How the unit's eight tiles are used, by the rows in each: four for sums, two for rows, two for panels of weights.
SHAPES = np.zeros((EACH + 1, LINE), np.uint8)
SHAPES[:, 0], SHAPES[:, 16:32:2], SHAPES[:, 54:56] = 1, LINE, PANEL // 2
SHAPES[:, 48:54] = 3 * np.arange(EACH + 1)[:, None]


def _unit(builder, name, *operands):
    """Adds an instruction of the matrix unit."""
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), operands)


@intrinsic
def _configure(context, shapes):
    """Begins to use the matrix unit, with tiles of these shapes."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        _unit(builder, "ldtilecfg", builder.bitcast(data, BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(shapes), generate


@intrinsic
def _release(context):
    """Leaves the matrix unit as it was."""

    def generate(context, builder, signature, arguments):
        _unit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


def _unit_tile(tiles: int, blocks: int):
    """Makes a kernel: ``tiles`` tiles of rows, as ``_split`` makes them, from ``tile`` on, by ``blocks`` blocks of
    panels, from ``block`` on, into y [R, O or more]. The three sums of a row, of its upper, middle and lower parts, are
    added in the end.
    """
    sums = [[BYTE(t * blocks + b) for b in range(blocks)] for t in range(tiles)]

    @intrinsic
    def tile(context, parts, weight, y, tile, block):
        def generate(context, builder, signature, arguments):
            kinds, (*given, tile, block) = signature.args, arguments
            parts, weight, y = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, given))
            (count, height, inner), (rows, outer) = (cgutils.unpack_tuple(builder, one.shape) for one in (parts, y))
            most, steps, *_ = cgutils.unpack_tuple(builder, weight.shape)
            line, panel, across = WORD(LINE), WORD(PANEL // 2 * LINE), builder.mul(inner, WORD(2))

            def place(data, index, *lengths):
                for length in lengths:
                    index = builder.mul(index, length)
                return _at(builder, builder.bitcast(data, BYTE.as_pointer()), index)

            here, there = list(_each(builder, tile, tiles, count)), list(_each(builder, block, blocks, most))
            reads = [place(parts.data, one, height, across) for one in here]
            weights = [place(weight.data, b, steps, panel) for b in there]
            for total in chain.from_iterable(sums):
                _unit(builder, "tilezero", total)
            with cgutils.for_range(builder, steps) as loop:
                for t, read in enumerate(reads):
                    _unit(builder, "tileloadd64", BYTE(4 + t), place(read, loop.index, line), across)
                for b, panels in enumerate(weights):
                    _unit(builder, "tileloadd64", BYTE(6 + b), place(panels, loop.index, panel), line)
                    for t in range(tiles):
                        _unit(builder, "tdpbf16ps", sums[t][b], BYTE(4 + t), BYTE(6 + b))
            kept = cgutils.alloca_once(builder, ir.ArrayType(NUMBERS, 3 * EACH))
            kept.align = LINE
            each = builder.udiv(height, WORD(3))
            for one, totals in zip(here, sums):
                first = builder.mul(one, each)
                left = builder.sub(rows, first)
                left = builder.select(builder.icmp_signed("<", left, each), left, each)
                for b, total in zip(there, totals):
                    _unit(builder, "tilestored64", total, place(kept, WORD(0)), line)
                    with cgutils.for_range(builder, left) as loop:
                        three = [builder.add(builder.mul(loop.index, WORD(3)), WORD(i)) for i in range(3)]
                        upper, middle, lower = (builder.load(builder.gep(kept, [WORD(0), i])) for i in three)
                        row = builder.mul(builder.add(first, loop.index), outer)
                        into = _at(builder, y.data, builder.add(row, builder.mul(b, WORD(LANES))), NUMBERS)
                        builder.store(builder.fadd(upper, builder.fadd(middle, lower)), into, align=4)
            return context.get_dummy_value()

        return types.void(parts, weight, y, tile, block), generate

    return tile


_pair, _lone = _unit_tile(2, 2), _unit_tile(1, 2)


@intrinsic
def _split_row(context, x, parts, row):
    """A row of x [R, I] into three of parts. In LLVM's terms, as a loop in Python's takes five times as long."""

    def generate(context, builder, signature, arguments):
        kinds, (*given, row) = signature.args, arguments
        x, parts = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, given))
        inner, at = builder.extract_value(x.shape, 1), partial(_at, builder)
        words, halves = (ir.VectorType(ir.IntType(bits), LANES) for bits in (32, 16))
        shift, first = ir.Constant(words, [16] * LANES), builder.mul(row, WORD(3))
        read = at(x.data, builder.mul(row, inner))
        into = [at(parts.data, builder.mul(builder.add(first, WORD(i)), inner)) for i in range(3)]
        with cgutils.for_range(builder, builder.udiv(inner, WORD(LANES))) as loop:
            place = builder.mul(loop.index, WORD(LANES))
            rest = builder.load(at(read, place, NUMBERS), align=4)
            for part in into:
                half = builder.lshr(builder.bitcast(rest, words), shift)
                builder.store(builder.trunc(half, halves), at(part, place, halves), align=2)
                rest = builder.fsub(rest, builder.bitcast(builder.shl(half, shift), NUMBERS))
        return context.get_dummy_value()

    return types.void(x, parts, row), generate


@_exact
def _split(x, weight):
    """x [R, I] for products with panels: [tiles, 3 rows, I or more], the upper halves of three float32 numbers for each
    of x, one in a row, which add up to it: a float32 has 24 digits, and each half 8."""
    inner, tiles = weight.shape[1] * PANEL, (len(x) + EACH - 1) // EACH
    height = 3 * ((len(x) + tiles - 1) // tiles)
    space = np.empty(tiles * height * inner + LINE // 2, np.uint16)
    start = (-space.ctypes.data % LINE) // 2
    parts = space[start : start + tiles * height * inner].reshape(tiles, height, inner)
    if x.shape[1] < inner:
        padded = np.zeros((len(x), inner), np.float32)
        _copy(x, padded)
        x = padded
    for row in range(len(x)):
        _split_row(x, parts, row)  # type: ignore[call-arg]  # numba adds the context
    _configure(SHAPES[height // 3])  # type: ignore[call-arg]
    return parts


@_exact
def _group_of_tiles(parts, weight, y, group):
    first, last = group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    for tile in range(0, len(parts) - 1, 2):
        for block in range(first, last, 2):
            _pair(parts, weight, y, tile, block)
    if len(parts) % 2:
        for block in range(first, last, 2):
            _lone(parts, weight, y, len(parts) - 1, block)


def _operand(x, weight):
    """What the products of x [R, I] with a packed weight read. Behind the last comes ``_done``."""


def _done(weight):
    """Ends the products with a packed weight."""


def _group(operand, weight, y, group):
    """The products of all rows with a group of blocks, into y [R, O or more]."""


@overload(_operand)
def _operand_for(x, weight):
    if weight.ndim == 4:
        return lambda x, weight: _split(x, weight)
    return lambda x, weight: x


@overload(_done)
def _done_with(weight):
    if weight.ndim == 4:
        return lambda weight: _release()  # type: ignore[call-arg]
    return lambda weight: None


@overload(_group)
def _group_for(operand, weight, y, group):
    if weight.ndim == 4:
        return lambda operand, weight, y, group: _group_of_tiles(operand, weight, y, group)
    return lambda operand, weight, y, group: _group_of_rows(operand, weight, y, group)


@_serial
def _groups(weight):
    return (len(weight) + GROUP - 1) // GROUP


@_serial
def _products(x, weight, y, start, end):
    """The products of x [R, I] with some groups of a packed weight, into y [R, O or more]."""
    operand = _operand(x, weight)
    for group in range(start, end):
        _group(operand, weight, y, group)
    _done(weight)


@_serial
def _product(x, weight):
    """x [R, I], packed weight -> all products [R, O or more], by one thread."""
    y = np.empty((len(x), len(weight) * LANES), np.float32)
    _products(x, weight, y, ZERO, _groups(weight))
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


@_serial
def _part(part, parts, rows):
    """First row of a part, and the one behind its last."""
    return part * rows // parts, (part + 1) * rows // parts


@_serial
def _linear_groups(x, weight, bias, add, activated, y, start, end):
    operand, outer = _operand(x, weight), len(bias)
    for group in range(start, end):
        _group(operand, weight, y, group)
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
    _done(weight)


@_parallel
def linear(x: ndarray, weight: ndarray, bias: ndarray, add: ndarray, activated: Flag, threads: int) -> ndarray:
    """x [R, I] -> [R, O]: by a packed weight, plus bias [O], plus add [R, O] where that is not empty, then SiLU if
    activated; the outputs are shared out among threads."""
    y, groups = np.empty((len(x), len(weight) * LANES), np.float32), _groups(weight)
    if threads == 1:
        _linear_groups(x, weight, bias, add, activated, y, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = _part(np.int64(part), parts, groups)
            _linear_groups(x, weight, bias, add, activated, y, start, end)
    return _cut(y, len(bias))


@_serial
def _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end):
    operand, outer = _operand(x, gate), len(gate_bias)
    for group in range(start, end):
        _group(operand, gate, y, group)
        _group(operand, up, z, group)
        first, last = group * GROUP * LANES, min((group + 1) * GROUP * LANES, outer)
        to_y, to_z = gate_bias[first:last], up_bias[first:last]
        for r in range(len(x)):
            here, factor = y[r, first:last], z[r, first:last]
            for o in range(len(here)):
                opened = here[o] + to_y[o]
                here[o] = opened * sigmoid(opened) * (factor[o] + to_z[o])
    _done(gate)


@_parallel
def gated(x, gate, gate_bias, up, up_bias, threads):
    """x [R, I], packed gate and up, biases [O] -> silu(gate x) * (up x) [R, O]."""
    y, groups = np.empty((len(x), len(gate) * LANES), np.float32), _groups(gate)
    z = np.empty_like(y)
    if threads == 1:
        _gated_groups(x, gate, gate_bias, up, up_bias, y, z, ZERO, groups)
    else:
        parts = min(groups, threads)
        for part in prange(parts):
            start, end = _part(np.int64(part), parts, groups)
            _gated_groups(x, gate, gate_bias, up, up_bias, y, z, start, end)
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
def _gated_layer(x, eps, threads, norm, gate, gate_bias, up, up_bias, down, down_bias):
    """x [R, H] -> [R, H] behind a layer of the autoencoder, or the second half of one of the backbone."""
    y = gated(rms_norm(x, norm, eps), gate, gate_bias, up, up_bias, threads)
    return linear(y, down, down_bias, x, NO, threads)


@_serial
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
            _copy(y[r, heads:], cache[i, slots[r], :, positions[r]])
        x = linear(attend(y, cache[i], slots, positions), outs[i], out_biases[i], x, NO, threads)
        x = _gated_layer(
            x, eps, threads, mlp_norms[i], gates[i], gate_biases[i], ups[i], up_biases[i], downs[i], down_biases[i]
        )
    return rms_norm(x, last_norm, eps)


@_serial
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
    share: tuple[int, int],
    ends: tuple[ndarray, ...],
    blocks: tuple[ndarray, ...],
) -> ndarray:
    """noise [R, noise_size], of places [R] in states [places, blocks, D], as ``project`` makes them -> draws [R, L].
    The weights of the blocks are stacked."""
    parts, threads = share
    if parts == 1:
        return _vectors(noise, states, places, threads, ends, blocks)
    y = np.empty((len(noise), len(ends[-1])), np.float32)
    for part in prange(parts):
        a, b = _part(part, parts, len(noise))
        _copy(_vectors(noise[a:b], states, places[a:b], ONE, ends, blocks), y[a:b])
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


@_serial
def _best_of(x, embedding, words, start, end, products, best):
    """The greatest products [R] of x [R, H] with the words of some groups, and which they are [R]."""
    operand, y = _operand(x, embedding), np.empty((len(x), SPAN * GROUP * LANES), np.float32)
    for first in range(start, end, SPAN):
        panels = embedding[first * GROUP : min(first + SPAN, end) * GROUP]
        for group in range(_groups(panels)):
            _group(operand, panels, y, group)
        word = first * GROUP * LANES
        for r in range(len(x)):
            here = y[r, : min(len(panels) * LANES, words - word)]
            highest, v = _greatest(here.view(np.int32)), 0
            if first == start or highest > products[r]:
                while v < len(here) - 1 and here[v] != highest:
                    v += 1
                products[r], best[r] = highest, word + v
    _done(embedding)


@_parallel
def _by_products(x, threads, embedding, words):
    """With a matrix unit: all products, each thread's with a part of the words."""
    groups = _groups(embedding)
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


@_serial
def likeliest(x: ndarray, threads: int, vocabulary: tuple) -> ndarray:
    """x [R, H] -> the index of the greatest product of each row with the rows of an embedding [V, H]. The vocabulary is
    its panels and V, or basis, table and slack as for ``bound`` and the embedding."""
    return _likeliest(x, threads, vocabulary)


@_serial
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
    share: tuple[int, int],
    ends: tuple[ndarray, ...],
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
        _copy(_decode(x[a:b], eps, ONE, ends, layers, vocabulary).reshape(b - a, k), ids[a:b])
    return ids
