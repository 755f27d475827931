"""A matrix unit (AMX) in Python, for processors that have none: what its instructions do, by Intel's manual."""

from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int8, c_int64, c_void_p, cast, memmove, string_at
from typing import Any

import numpy as np
from llvmlite import ir


def _floats(halves: np.ndarray) -> np.ndarray:
    """Numbers in bfloat16, of which uint16 holds the bits, as float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


class ImitatedUnit:
    """Stands in for ``calm.kernels.matrix_unit._unit``: the code that is generated calls it for each instruction."""

    def __init__(self) -> None:
        tile, place, stride = c_int8, c_void_p, c_int64
        self.tiles: dict[int, np.ndarray] = {}
        self.instructions = {
            "ldtilecfg": CFUNCTYPE(None, place)(self.ldtilecfg),
            "tilezero": CFUNCTYPE(None, tile)(self.tilezero),
            "tileloadd64": CFUNCTYPE(None, tile, place, stride)(self.tileloadd64),
            "tdpbf16ps": CFUNCTYPE(None, tile, tile, tile)(self.tdpbf16ps),
            "tilestored64": CFUNCTYPE(None, tile, place, stride)(self.tilestored64),
        }

    def __call__(self, builder: Any, name: str, *operands: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        address = cast(self.instructions[name], c_void_p).value
        builder.call(builder.inttoptr(ir.Constant(ir.IntType(64), address), kind.as_pointer()), operands)

    def ldtilecfg(self, place: int) -> None:
        told = string_at(place, 64)
        assert told[0] == 1  # the one palette there is
        self.lengths, self.rows = np.frombuffer(told[16:32], np.uint16), told[48:56]
        assert max(self.rows) <= 16 and self.lengths.max() <= 64

    def tilezero(self, tile: int) -> None:
        self.tiles[tile] = np.zeros((self.rows[tile], self.lengths[tile] // 4), np.float32)

    def tileloadd64(self, tile: int, place: int, stride: int) -> None:
        length = int(self.lengths[tile])
        read = [string_at(place + i * stride, length) for i in range(self.rows[tile])]
        self.tiles[tile] = np.frombuffer(b"".join(read), np.uint16).reshape(len(read), -1, 2)

    def tdpbf16ps(self, total: int, tile: int, panel: int) -> None:
        rows, weights = _floats(self.tiles[tile]), _floats(self.tiles[panel])
        with np.errstate(invalid="ignore", over="ignore"):  # behind the last row a tile holds what happened to be there
            for i, pair in enumerate(weights):
                for half in (0, 1):
                    self.tiles[total] += rows[:, i, half, None] * pair[:, half]

    def tilestored64(self, tile: int, place: int, stride: int) -> None:
        for i, row in enumerate(self.tiles[tile]):
            memmove(place + i * stride, row.tobytes(), row.nbytes)


def product_by(unit: Callable, monkeypatch: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """x [R, I], panels of weights -> their products [R, O or more], by code that is generated for this unit."""
    from numba import njit

    from calm.kernels import matrix_unit
    from calm.kernels.packing import LANES
    from calm.kernels.products import groups_of

    monkeypatch.setattr(matrix_unit, "_unit", unit)
    again = njit(error_model="numpy")  # what was compiled for a real one stays as it is
    split, group_of_tiles = again(matrix_unit.split.py_func), again(matrix_unit.group_of_tiles.py_func)

    def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        y = np.full((len(x), len(weight) * LANES), np.nan, np.float32)
        parts = split(x, weight)
        for group in range(groups_of(weight)):
            group_of_tiles(parts, weight, y, group)
        return y

    return product
