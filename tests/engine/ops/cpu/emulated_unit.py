"""A matrix unit (AMX) emulated in Python, for processors without one, after Intel's manual.

With the environment variable ``EMULATED_UNIT`` the kernels of this process use it. The code that numba compiles then
holds addresses of this process, so that it must not be stored where another process finds it.
"""

import os
from collections import defaultdict
from ctypes import CFUNCTYPE, c_int8, c_int64, c_void_p, cast, memmove, string_at
from threading import get_ident
from typing import Any

import numpy as np
from llvmlite import ir

from calm.engine.ops.cpu import MATRIX_UNIT, matrix_unit


def _floats(halves: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given by their bits in uint16, as float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


class Tiles(dict[int, np.ndarray]):
    """The tiles of one thread, and their shapes."""

    row_bytes: np.ndarray
    rows: bytes


class EmulatedUnit:
    """Replaces ``matrix_unit._instruction``: the generated code calls a method here for each instruction."""

    def __init__(self) -> None:
        tile, address, stride = c_int8, c_void_p, c_int64
        self.of_threads: dict[int, Tiles] = defaultdict(Tiles)
        self.instructions = {
            "ldtilecfg": CFUNCTYPE(None, address)(self.ldtilecfg),
            "tilezero": CFUNCTYPE(None, tile)(self.tilezero),
            "tileloadd64": CFUNCTYPE(None, tile, address, stride)(self.tileloadd64),
            "tdpbf16ps": CFUNCTYPE(None, tile, tile, tile)(self.tdpbf16ps),
            "tilestored64": CFUNCTYPE(None, tile, address, stride)(self.tilestored64),
            "tilerelease": CFUNCTYPE(None)(self.tilerelease),
        }

    def __call__(self, builder: Any, name: str, *operands: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        address = cast(self.instructions[name], c_void_p).value
        builder.call(builder.inttoptr(ir.Constant(ir.IntType(64), address), kind.as_pointer()), operands)

    @property
    def tiles(self) -> Tiles:
        return self.of_threads[get_ident()]

    def ldtilecfg(self, address: int) -> None:
        configuration = string_at(address, 64)
        assert configuration[0] == 1  # the only palette
        tiles = self.tiles
        tiles.row_bytes, tiles.rows = np.frombuffer(configuration[16:32], np.uint16), configuration[48:56]
        assert max(tiles.rows) <= 16 and tiles.row_bytes.max() <= 64

    def tilezero(self, tile: int) -> None:
        tiles = self.tiles
        tiles[tile] = np.zeros((tiles.rows[tile], tiles.row_bytes[tile] // 4), np.float32)

    def tileloadd64(self, tile: int, address: int, stride: int) -> None:
        tiles = self.tiles
        length = int(tiles.row_bytes[tile])
        rows = [string_at(address + i * stride, length) for i in range(tiles.rows[tile])]
        tiles[tile] = np.frombuffer(b"".join(rows), np.uint16).reshape(len(rows), -1, 2)

    def tdpbf16ps(self, total: int, tile: int, panel: int) -> None:
        tiles = self.tiles
        rows, weights = _floats(tiles[tile]), _floats(tiles[panel])
        with np.errstate(invalid="ignore", over="ignore"):  # rows after the last one hold arbitrary numbers
            for i, pair in enumerate(weights):
                for half in (0, 1):
                    tiles[total] += rows[:, i, half, None] * pair[:, half]

    def tilestored64(self, tile: int, address: int, stride: int) -> None:
        for i, row in enumerate(self.tiles[tile]):
            memmove(address + i * stride, row.tobytes(), row.nbytes)

    def tilerelease(self) -> None:
        del self.of_threads[get_ident()]


EMULATED = "EMULATED_UNIT" in os.environ
if EMULATED:
    matrix_unit._instruction = EmulatedUnit()
HAS_UNIT = MATRIX_UNIT or EMULATED
