"""LLVM's own terms, in which products are written: a loop in Python's has no way to say that sums stay in registers."""

from llvmlite import ir

from .packing import LANES

BYTE, WORD, NUMBERS = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)


def places(builder, first, count, end):
    """LLVM's names of ``count`` places from ``first`` on, the last before ``end`` instead of what is beyond it."""
    last = builder.sub(end, WORD(1))
    for place in (builder.add(first, WORD(i)) for i in range(count)):
        yield builder.select(builder.icmp_signed("<", place, last), place, last)


def pointer(builder, data, place, kind=None):
    """LLVM's name of a place in memory, as one of a ``kind``."""
    found = builder.gep(data, [place])
    return builder.bitcast(found, kind.as_pointer()) if kind else found
