"""Products of few rows with packed matrices in tiles whose sums stay in registers."""

from functools import partial
from itertools import chain

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compilation import exact
from .llvm import NUMBERS, WORD, places, pointer
from .packing import GROUP, LANES, UPPER

WIDE = get_host_cpu_features().get("avx512f", False)  # 32 registers of 16 numbers, instead of 16 of 8


def _tile(rows: int, blocks: int):
    """Makes a kernel: ``rows`` rows of x, from ``row`` on, by ``blocks`` blocks of a packed matrix, from ``block`` on,
    into y. What is beyond the last row or block is computed again in its place. The matrix is float32, or upper halves.

    Sums stay in registers, a lane an output, and grow input by input, so that they are the same in every tile.
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

            at = partial(pointer, builder)
            here, there = list(places(builder, row, rows, count)), list(places(builder, block, blocks, most))
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
def group_of_rows(x, weight, y, group):
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
