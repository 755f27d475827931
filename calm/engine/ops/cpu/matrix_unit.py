"""Products of few rows with packed matrices, by a matrix unit (AMX) that multiplies bfloat16 and adds in float32.

Each float32 of x is split into three bfloat16 numbers that add up to it, each in a tile row of its own. The packed
weights are bfloat16 already.
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
from .llvm import BYTE, NUMBERS, WORD, indices, pointer
from .packing import CACHE_LINE, GROUP, LANES, PANEL

PARTS = 3  # bfloat16 numbers that add up to a float32: it has 24 significant bits, and each of them has 8
TILE_ROWS = 5  # rows of x in a tile: it has 16 rows, and each row of x takes three
# The configuration of the unit's eight tiles for 0 to 5 rows of x: four tiles of sums, two of rows, two of panels.
CONFIGURATIONS = np.zeros((TILE_ROWS + 1, CACHE_LINE), np.uint8)
CONFIGURATIONS[:, 0] = 1  # the palette
CONFIGURATIONS[:, 16:32:2] = CACHE_LINE  # bytes of a tile row
CONFIGURATIONS[:, 48:54] = PARTS * np.arange(TILE_ROWS + 1)[:, None]  # rows of the tiles of sums and of rows
CONFIGURATIONS[:, 54:56] = PANEL // 2  # rows of the tiles of panels


def _instruction(builder, name, *operands):
    """Adds an instruction of the matrix unit."""
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), operands)


@intrinsic
def _configure(context, configuration):
    """Configures the matrix unit's tiles."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        _instruction(builder, "ldtilecfg", builder.bitcast(data, BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(configuration), generate


@intrinsic
def release(context):
    """Releases the matrix unit's tiles."""

    def generate(context, builder, signature, arguments):
        _instruction(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


def _unit_tile(tiles: int, blocks: int):
    """Makes a kernel that multiplies ``tiles`` tiles of rows (``split_rows``), from ``tile`` on, with ``blocks`` blocks
    of panels, from ``block`` on, and writes into y [R, O or more].

    The sums of a row's upper, middle and lower parts are added at the end.
    """
    sums = [[BYTE(t * blocks + b) for b in range(blocks)] for t in range(tiles)]

    @intrinsic
    def tile(context, parts, weight, y, tile, block):
        if {parts.layout, weight.layout, y.layout} != {"C"}:
            return None

        def generate(context, builder, signature, arguments):
            kinds, (*arrays, tile, block) = signature.args, arguments
            parts, weight, y = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, arrays))
            (tile_count, height, inner), (rows, outer) = (
                cgutils.unpack_tuple(builder, one.shape) for one in (parts, y)
            )
            block_count, steps, *_ = cgutils.unpack_tuple(builder, weight.shape)
            line, panel = WORD(CACHE_LINE), WORD(PANEL // 2 * CACHE_LINE)
            row_bytes = builder.mul(inner, WORD(2))

            def byte_at(data, index, *lengths):
                for length in lengths:
                    index = builder.mul(index, length)
                return pointer(builder, builder.bitcast(data, BYTE.as_pointer()), index)

            read_tiles = list(indices(builder, tile, tiles, tile_count))
            read_blocks = list(indices(builder, block, blocks, block_count))
            reads = [byte_at(parts.data, t, height, row_bytes) for t in read_tiles]
            weights = [byte_at(weight.data, b, steps, panel) for b in read_blocks]
            for total in chain.from_iterable(sums):
                _instruction(builder, "tilezero", total)
            with cgutils.for_range(builder, steps) as loop:
                for t, read in enumerate(reads):
                    _instruction(builder, "tileloadd64", BYTE(4 + t), byte_at(read, loop.index, line), row_bytes)
                for b, panels in enumerate(weights):
                    _instruction(builder, "tileloadd64", BYTE(6 + b), byte_at(panels, loop.index, panel), line)
                    for t in range(tiles):
                        _instruction(builder, "tdpbf16ps", sums[t][b], BYTE(4 + t), BYTE(6 + b))
            stored = cgutils.alloca_once(builder, ir.ArrayType(NUMBERS, PARTS * TILE_ROWS))
            stored.align = CACHE_LINE
            each = builder.udiv(height, WORD(PARTS))
            for t, totals in zip(read_tiles, sums):
                first = builder.mul(t, each)
                left = builder.sub(rows, first)
                left = builder.select(builder.icmp_signed("<", left, each), left, each)
                for b, total in zip(read_blocks, totals):
                    _instruction(builder, "tilestored64", total, byte_at(stored, WORD(0)), line)
                    with cgutils.for_range(builder, left) as loop:
                        three = [builder.add(builder.mul(loop.index, WORD(PARTS)), WORD(i)) for i in range(PARTS)]
                        upper, middle, lower = (builder.load(builder.gep(stored, [WORD(0), i])) for i in three)
                        row = builder.mul(builder.add(first, loop.index), outer)
                        into = pointer(builder, y.data, builder.add(row, builder.mul(b, WORD(LANES))), NUMBERS)
                        builder.store(builder.fadd(upper, builder.fadd(middle, lower)), into, align=4)
            return context.get_dummy_value()

        return types.void(parts, weight, y, tile, block), generate

    return tile


_two_tiles, _one_tile = _unit_tile(2, 2), _unit_tile(1, 2)


@intrinsic
def _split_row(context, x, parts, row):
    """Splits a row of x [R, I] into three rows of parts. A Python loop takes five times as long."""
    if {x.layout, parts.layout} != {"C"}:
        return None

    def generate(context, builder, signature, arguments):
        kinds, (*arrays, row) = signature.args, arguments
        x, parts = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, arrays))
        inner, at = builder.extract_value(x.shape, 1), partial(pointer, builder)
        words, halves = (ir.VectorType(ir.IntType(bits), LANES) for bits in (32, 16))
        shift, first = ir.Constant(words, [16] * LANES), builder.mul(row, WORD(PARTS))
        read = at(x.data, builder.mul(row, inner))
        into = [at(parts.data, builder.mul(builder.add(first, WORD(i)), inner)) for i in range(PARTS)]
        with cgutils.for_range(builder, builder.udiv(inner, WORD(LANES))) as loop:
            offset = builder.mul(loop.index, WORD(LANES))
            rest = builder.load(at(read, offset, NUMBERS), align=4)
            for part in into:
                half = builder.lshr(builder.bitcast(rest, words), shift)
                builder.store(builder.trunc(half, halves), at(part, offset, halves), align=2)
                rest = builder.fsub(rest, builder.bitcast(builder.shl(half, shift), NUMBERS))
        return context.get_dummy_value()

    return types.void(x, parts, row), generate


@exact
def split_rows(x, weight):
    """Configures the matrix unit, and splits x [R, I] into tiles for products with panels: uint16 [tiles, 3 rows, I or
    more]. Three rows of bfloat16 numbers add up to one row of x."""
    inner, tiles = weight.shape[1] * PANEL, (len(x) + TILE_ROWS - 1) // TILE_ROWS
    height = PARTS * ((len(x) + tiles - 1) // tiles)
    buffer = np.empty(tiles * height * inner + CACHE_LINE // 2, np.uint16)
    start = (-buffer.ctypes.data % CACHE_LINE) // 2
    parts = buffer[start : start + tiles * height * inner].reshape(tiles, height, inner)
    if x.shape[1] < inner:
        padded = np.zeros((len(x), inner), np.float32)
        copy(x, padded)
        x = padded
    for row in range(len(x)):
        _split_row(x, parts, row)  # type: ignore[call-arg]  # numba adds the context
    _configure(CONFIGURATIONS[height // PARTS])  # type: ignore[call-arg]
    return parts


@exact
def multiply_tiles(parts, weight, y, group):
    """``products.multiply`` by the matrix unit."""
    first, last = group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    for tile in range(0, len(parts) - 1, 2):
        for block in range(first, last, 2):
            _two_tiles(parts, weight, y, tile, block)
    if len(parts) % 2:
        for block in range(first, last, 2):
            _one_tile(parts, weight, y, len(parts) - 1, block)
