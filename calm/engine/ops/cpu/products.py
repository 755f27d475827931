"""Products of few rows with packed matrices, by registers or by a matrix unit, as the matrix is packed for."""

import numpy as np
from numba.extending import overload

from .compilation import serial
from .matrix_unit import group_of_tiles, release, split
from .packing import GROUP, LANES
from .registers import group_of_rows


def operand_of(x, weight):
    """What the products of x [R, I] with a packed weight read. Behind the last comes ``done``."""


def done(weight):
    """Ends the products with a packed weight."""


def multiply(operand, weight, y, group):
    """The products of all rows with a group of blocks, into y [R, O or more]."""


@overload(operand_of)
def _operand_for(x, weight):
    if weight.ndim == 4:
        return lambda x, weight: split(x, weight)
    return lambda x, weight: x


@overload(done)
def _done_with(weight):
    if weight.ndim == 4:
        return lambda weight: release()  # type: ignore[call-arg]
    return lambda weight: None


@overload(multiply)
def _group_for(operand, weight, y, group):
    if weight.ndim == 4:
        return lambda operand, weight, y, group: group_of_tiles(operand, weight, y, group)
    return lambda operand, weight, y, group: group_of_rows(operand, weight, y, group)


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
