"""Products of few rows with packed matrices, compiled with numba: tiles whose sums stay in registers, or in a matrix
unit.

They are written in LLVM's own terms, because a loop in Python's has no way to say that. R rows, I inputs, O outputs;
arrays are float32. A row's numbers do not depend, to the bit, on the other rows.
"""

import math
import sys
from ctypes import CDLL
from functools import partial
from itertools import chain

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy import ndarray

# By numpy's rules a division is a division; by Python's each one looks first whether it is by zero.
compiled = partial(njit, error_model="numpy", nogil=True, cache=True)
serial = compiled(fastmath=True)
exact = compiled()  # sums in the order in which they are written

LANES = 16  # outputs whose weights lie side by side in a packed matrix
GROUP = 4  # such blocks that a thread computes for all rows before it goes on
PANEL = 32  # inputs that a matrix unit takes at once
LINE = 64  # bytes of a cache line
UPPER = np.uint32(0xFFFF0000)
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


def empty(shape: tuple[int, ...], kind: np.dtype) -> ndarray:
    """Room for numbers from the beginning of a cache line on: a vector that lies in two lines takes as long as two."""
    size = math.prod(shape) * kind.itemsize
    space = np.empty(size + LINE, np.uint8)
    start = -space.ctypes.data % LINE
    return space[start : start + size].view(kind).reshape(shape)


def _aligned(array: ndarray) -> ndarray:
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def pack(matrix: ndarray) -> ndarray:
    """[O, I] -> [O / 16, I, 16]: what a product needs at once lies side by side. Zeros are added where O is no multiple
    of 16."""
    padded = np.pad(matrix, ((0, -len(matrix) % LANES), (0, 0)))
    return _aligned(padded.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1))


def pack_halves(matrix: ndarray) -> ndarray:
    """The upper halves of float32 numbers, which say all where these were bfloat16 on the disk: [O, I] -> [O / 16,
    I / 2, 16]. A word holds those of two inputs, the first below, so that one step makes either a number again."""
    words = pack(np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))).view(np.uint32)
    return _aligned((words[:, ::2] >> 16) | (words[:, 1::2] & UPPER))


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


@exact
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
        if {parts.layout, weight.layout, y.layout} != {"C"}:
            return None

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
    if {x.layout, parts.layout} != {"C"}:
        return None

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


@serial
def copy(x, y):
    """x [A, B] into y. An assignment would do, but to say what is wrong with its shapes takes seconds to compile."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j]


@exact
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
        copy(x, padded)
        x = padded
    for row in range(len(x)):
        _split_row(x, parts, row)  # type: ignore[call-arg]  # numba adds the context
    _configure(SHAPES[height // 3])  # type: ignore[call-arg]
    return parts


@exact
def _group_of_tiles(parts, weight, y, group):
    first, last = group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    for tile in range(0, len(parts) - 1, 2):
        for block in range(first, last, 2):
            _pair(parts, weight, y, tile, block)
    if len(parts) % 2:
        for block in range(first, last, 2):
            _lone(parts, weight, y, len(parts) - 1, block)


def operand_of(x, weight):
    """What the products of x [R, I] with a packed weight read. Behind the last comes ``done``."""


def done(weight):
    """Ends the products with a packed weight."""


def multiply(operand, weight, y, group):
    """The products of all rows with a group of blocks, into y [R, O or more]."""


@overload(operand_of)
def _operand_for(x, weight):
    if weight.ndim == 4:
        return lambda x, weight: _split(x, weight)
    return lambda x, weight: x


@overload(done)
def _done_with(weight):
    if weight.ndim == 4:
        return lambda weight: _release()  # type: ignore[call-arg]
    return lambda weight: None


@overload(multiply)
def _group_for(operand, weight, y, group):
    if weight.ndim == 4:
        return lambda operand, weight, y, group: _group_of_tiles(operand, weight, y, group)
    return lambda operand, weight, y, group: _group_of_rows(operand, weight, y, group)


@serial
def groups_of(weight):
    """How many groups of blocks a packed weight has."""
    return (len(weight) + GROUP - 1) // GROUP


@serial
def product(x, weight):
    """x [R, I], packed weight -> all products [R, O or more], by one thread."""
    y, operand = np.empty((len(x), len(weight) * LANES), np.float32), operand_of(x, weight)
    for group in range(groups_of(weight)):
        multiply(operand, weight, y, group)
    done(weight)
    return y
