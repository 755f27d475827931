"""Products of few rows with a packed matrix, by registers or by a matrix unit: the packing decides."""

import numpy as np
from numba.extending import overload

from .compilation import serial
from .matrix_unit import multiply_tiles, release, split_rows
from .packing import GROUP, LANES
from .registers import multiply_rows


def begin_products(x, weight):
    """The operand that ``multiply`` reads for the products of x [R, I] with a packed weight."""


def end_products(weight):
    """Ends the products with a packed weight, after the last ``multiply``."""


def multiply(operand, weight, y, group):
    """Writes the products of all rows with one group of blocks into y [R, O or more]."""


@overload(begin_products)
def _begin_products(x, weight):
    if weight.ndim == 4:
        return lambda x, weight: split_rows(x, weight)
    return lambda x, weight: x


@overload(end_products)
def _end_products(weight):
    if weight.ndim == 4:
        return lambda weight: release()  # type: ignore[call-arg]
    return lambda weight: None


@overload(multiply)
def _multiply(operand, weight, y, group):
    if weight.ndim == 4:
        return lambda operand, weight, y, group: multiply_tiles(operand, weight, y, group)
    return lambda operand, weight, y, group: multiply_rows(operand, weight, y, group)


@serial
def count_groups(weight):
    """The number of groups of blocks in a packed weight."""
    return (len(weight) + GROUP - 1) // GROUP


@serial
def product(x, weight):
    """x [R, I], packed weight -> all products [R, O or more], on this thread."""
    y, operand = np.empty((len(x), len(weight) * LANES), np.float32), begin_products(x, weight)
    for group in range(count_groups(weight)):
        multiply(operand, weight, y, group)
    end_products(weight)
    return y
