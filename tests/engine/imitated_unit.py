"""A matrix unit (AMX) in Python, for processors that have none: what its instructions do, by Intel's manual."""

from collections import defaultdict
from ctypes import CFUNCTYPE, c_int8, c_int64, c_void_p, cast, memmove, string_at
from threading import get_ident
from typing import Any

import numpy as np
from llvmlite import ir


def _floats(halves: np.ndarray) -> np.ndarray:
    """Numbers in bfloat16, of which uint16 holds the bits, as float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


class Tiles(dict[int, np.ndarray]):
    """Those of one thread, and their shapes."""

    lengths: np.ndarray
    rows: bytes


class ImitatedUnit:
    """Stands in for ``calm.kernels.matrix_unit._unit``: the code that is generated calls it for each instruction.

    What numba compiles then holds addresses of this process and is of no use to another.
    """

    def __init__(self) -> None:
        tile, place, stride = c_int8, c_void_p, c_int64
        self.of_threads: dict[int, Tiles] = defaultdict(Tiles)
        self.instructions = {
            "ldtilecfg": CFUNCTYPE(None, place)(self.ldtilecfg),
            "tilezero": CFUNCTYPE(None, tile)(self.tilezero),
            "tileloadd64": CFUNCTYPE(None, tile, place, stride)(self.tileloadd64),
            "tdpbf16ps": CFUNCTYPE(None, tile, tile, tile)(self.tdpbf16ps),
            "tilestored64": CFUNCTYPE(None, tile, place, stride)(self.tilestored64),
            "tilerelease": CFUNCTYPE(None)(self.tilerelease),
        }

    def __call__(self, builder: Any, name: str, *operands: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        address = cast(self.instructions[name], c_void_p).value
        builder.call(builder.inttoptr(ir.Constant(ir.IntType(64), address), kind.as_pointer()), operands)

    @property
    def tiles(self) -> Tiles:
        return self.of_threads[get_ident()]

    def ldtilecfg(self, place: int) -> None:
        told = string_at(place, 64)
        assert told[0] == 1  # the one palette there is
        tiles = self.tiles
        tiles.lengths, tiles.rows = np.frombuffer(told[16:32], np.uint16), told[48:56]
        assert max(tiles.rows) <= 16 and tiles.lengths.max() <= 64

    def tilezero(self, tile: int) -> None:
        tiles = self.tiles
        tiles[tile] = np.zeros((tiles.rows[tile], tiles.lengths[tile] // 4), np.float32)

    def tileloadd64(self, tile: int, place: int, stride: int) -> None:
        tiles = self.tiles
        length = int(tiles.lengths[tile])
        read = [string_at(place + i * stride, length) for i in range(tiles.rows[tile])]
        tiles[tile] = np.frombuffer(b"".join(read), np.uint16).reshape(len(read), -1, 2)

    def tdpbf16ps(self, total: int, tile: int, panel: int) -> None:
        tiles = self.tiles
        rows, weights = _floats(tiles[tile]), _floats(tiles[panel])
        with np.errstate(invalid="ignore", over="ignore"):  # behind the last row a tile holds what happened to be there
            for i, pair in enumerate(weights):
                for half in (0, 1):
                    tiles[total] += rows[:, i, half, None] * pair[:, half]

    def tilestored64(self, tile: int, place: int, stride: int) -> None:
        for i, row in enumerate(self.tiles[tile]):
            memmove(place + i * stride, row.tobytes(), row.nbytes)

    def tilerelease(self) -> None:
        del self.of_threads[get_ident()]
