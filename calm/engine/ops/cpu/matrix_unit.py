"""Products of few rows with packed matrices in a matrix unit (AMX), which multiplies bfloat16 and adds in float32.

A float32 is three bfloat16 numbers that add up to it, each with a row of its own in the unit's tiles; weights that were
bfloat16 on the disk are so already.
"""

from functools import partial
from itertools import chain

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .arithmetic import copy
from .compilation import exact
from .llvm import BYTE, NUMBERS, WORD, places, pointer
from .packing import GROUP, LANES, LINE, PANEL

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
def release(context):
    """Leaves the matrix unit as it was."""

    def generate(context, builder, signature, arguments):
        _unit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


def _unit_tile(tiles: int, blocks: int):
    """Makes a kernel: ``tiles`` tiles of rows, as ``split`` makes them, from ``tile`` on, by ``blocks`` blocks of
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
                return pointer(builder, builder.bitcast(data, BYTE.as_pointer()), index)

            here, there = list(places(builder, tile, tiles, count)), list(places(builder, block, blocks, most))
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
                        into = pointer(builder, y.data, builder.add(row, builder.mul(b, WORD(LANES))), NUMBERS)
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
        inner, at = builder.extract_value(x.shape, 1), partial(pointer, builder)
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


@exact
def split(x, weight):
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
def group_of_tiles(parts, weight, y, group):
    first, last = group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    for tile in range(0, len(parts) - 1, 2):
        for block in range(first, last, 2):
            _pair(parts, weight, y, tile, block)
    if len(parts) % 2:
        for block in range(first, last, 2):
            _lone(parts, weight, y, len(parts) - 1, block)
