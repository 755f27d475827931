"""Products of few rows with packed matrices, in tiles whose sums stay in registers."""

from functools import partial
from itertools import chain

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compilation import exact
from .llvm import NUMBERS, WORD, indices, pointer, volatile_load
from .packing import GROUP, LANES, UPPER_HALF

HAS_AVX512 = get_host_cpu_features().get("avx512f", False)  # 32 registers of 16 numbers, else 16 of 8


def _tile(rows: int, blocks: int):
    """Makes a kernel that multiplies ``rows`` rows of x, from ``row`` on, with ``blocks`` blocks of a packed matrix,
    from ``block`` on, and writes into y. The matrix is float32, or upper halves.

    A tile beyond the last row or block repeats that one. Sums grow input by input, a lane for each output, so that a
    sum is the same in every tile.
    """
    numbers, words = NUMBERS, ir.VectorType(ir.IntType(32), LANES)
    undefined, shift = ir.Constant(numbers, ir.Undefined), ir.Constant(words, [16] * LANES)
    upper_half = ir.Constant(words, [int(UPPER_HALF)] * LANES)

    @intrinsic
    def tile(context, x, weight, y, row, block):
        if {x.layout, weight.layout, y.layout} != {"C"}:
            return None
        inputs_per_vector = 2 if weight.dtype == types.uint32 else 1

        def generate(context, builder, signature, arguments):
            kinds, (*arrays, row, block) = signature.args, arguments
            x, weight, y = (context.make_array(kind)(context, builder, one) for kind, one in zip(kinds, arrays))
            (row_count, inner), outer = cgutils.unpack_tuple(builder, x.shape, 2), builder.extract_value(y.shape, 1)
            block_count, length, _ = cgutils.unpack_tuple(builder, weight.shape, 3)

            at = partial(pointer, builder)
            tile_rows = list(indices(builder, row, rows, row_count))
            tile_blocks = list(indices(builder, block, blocks, block_count))
            x_rows = [at(x.data, builder.mul(r, inner)) for r in tile_rows]
            weights = [at(weight.data, builder.mul(builder.mul(b, length), WORD(LANES))) for b in tile_blocks]
            zeros = ir.Constant(numbers, [0.0] * LANES)
            sums = [[cgutils.alloca_once(builder, numbers) for _ in tile_blocks] for _ in tile_rows]
            for total in chain.from_iterable(sums):
                builder.store(zeros, total)

            def add(index, block_sums, factor):
                """Adds the products of input ``index`` with its weights of one block."""
                for x_row, total in zip(x_rows, block_sums):
                    number = builder.insert_element(undefined, builder.load(at(x_row, index)), WORD(0))
                    number = builder.shuffle_vector(number, undefined, ir.Constant(words, [0] * LANES))
                    product = builder.fmul(number, factor, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)

            def add_words(index, inputs):
                """Adds the products of ``inputs`` inputs, those in word ``index``. A block's words are used up before
                the next block's are loaded: words of all blocks would leave no registers for the sums."""
                offset, first = builder.mul(index, WORD(LANES)), builder.mul(index, WORD(inputs_per_vector))
                for w, block_sums in zip(weights, zip(*sums)):
                    pair = builder.load(at(w, offset, words), align=4)
                    add(first, block_sums, builder.bitcast(builder.shl(pair, shift), numbers))
                    if inputs == 2:
                        pair = volatile_load(builder, at(w, offset, words), align=4)
                        second = builder.bitcast(builder.and_(pair, upper_half), numbers)
                        add(builder.add(first, WORD(1)), block_sums, second)

            if inputs_per_vector == 1:
                with cgutils.for_range(builder, length) as loop:
                    offset = builder.mul(loop.index, WORD(LANES))
                    for w, block_sums in zip(weights, zip(*sums)):
                        add(loop.index, block_sums, builder.load(at(w, offset, numbers), align=4))
            else:
                whole = builder.udiv(inner, WORD(2))
                with cgutils.for_range(builder, whole) as loop:
                    add_words(loop.index, 2)
                with builder.if_then(builder.icmp_signed("<", whole, length), likely=False):
                    add_words(whole, 1)
            for r, row_sums in zip(tile_rows, sums):
                for b, total in zip(tile_blocks, row_sums):
                    offset = builder.add(builder.mul(r, outer), builder.mul(b, WORD(LANES)))
                    builder.store(builder.load(total), at(y.data, offset, numbers), align=4)
            return context.get_dummy_value()

        return types.void(x, weight, y, row, block), generate

    return tile


# Tiles, of rows and blocks, whose sums fit into the registers beside their operands.
MAX_ROWS = 8 if HAS_AVX512 else 4
_MAX_ROWS_BLOCKS, _FOUR_ROWS_BLOCKS, _TWO_ROWS_BLOCKS = (2, 4, 4) if HAS_AVX512 else (1, 1, 2)
_max_rows, _four_rows = _tile(MAX_ROWS, _MAX_ROWS_BLOCKS), _tile(4, _FOUR_ROWS_BLOCKS)
_two_rows, _one_row = _tile(2, _TWO_ROWS_BLOCKS), _tile(1, GROUP)


@exact
def multiply_rows(x, weight, y, group):
    """``products.multiply`` by registers."""
    rows, first, last = x.shape[0], group * GROUP, min((group + 1) * GROUP, weight.shape[0])
    row = 0
    while row < rows:
        left = rows - row
        if left > MAX_ROWS - 2:
            for block in range(first, last, _MAX_ROWS_BLOCKS):
                _max_rows(x, weight, y, row, block)
            row += MAX_ROWS
        elif left > 2:
            for block in range(first, last, _FOUR_ROWS_BLOCKS):
                _four_rows(x, weight, y, row, block)
            row += 4
        elif left == 2:
            for block in range(first, last, _TWO_ROWS_BLOCKS):
                _two_rows(x, weight, y, row, block)
            row += 2
        else:
            _one_row(x, weight, y, row, first)
            row += 1
