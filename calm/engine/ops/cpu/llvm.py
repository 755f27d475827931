"""LLVM instructions for the products, because a Python loop cannot keep sums in registers."""

from llvmlite import ir

from .packing import LANES

BYTE, WORD, NUMBERS = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)


def indices(builder, first, count, end):
    """LLVM values of ``count`` indices from ``first`` on; those beyond ``end`` become the last one before it."""
    last = builder.sub(end, WORD(1))
    for index in (builder.add(first, WORD(i)) for i in range(count)):
        yield builder.select(builder.icmp_signed("<", index, last), index, last)


def pointer(builder, data, index, kind=None):
    """The LLVM pointer to an element of ``data``, as a pointer to a ``kind`` if given."""
    element = builder.gep(data, [index])
    return builder.bitcast(element, kind.as_pointer()) if kind else element


class _VolatileLoad(ir.instructions.LoadInstr):
    def descr(self, buf):
        lines: list[str] = []
        super().descr(lines)
        buf.append("".join(lines).replace("load ", "load volatile ", 1))


def volatile_load(builder, address, align):
    """A load that LLVM does not merge with another load of the same address."""
    load = _VolatileLoad(builder.block, address)
    load.align = align
    builder._insert(load)
    return load
