"""How matrices of weights lie in memory: what a product needs at once side by side. O outputs, I inputs."""

import math
import sys
from ctypes import CDLL

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numpy import ndarray

LANES = 16  # outputs whose weights lie side by side in a packed matrix
GROUP = 4  # such blocks that a thread computes for all rows before it goes on
PANEL = 32  # inputs that a matrix unit takes at once
LINE = 64  # bytes of a cache line
UPPER = np.uint32(0xFFFF0000)


def _matrix_unit_serves() -> bool:
    """Whether there is a matrix unit (AMX) for bfloat16, and the system lets this process use it, which Linux wants to
    be asked for: arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA."""
    return (
        get_host_cpu_features().get("amx-bf16", False)
        and sys.platform == "linux"
        and CDLL(None).syscall(158, 0x1023, 18) == 0
    )


MATRIX_UNIT = _matrix_unit_serves()


def empty(shape: tuple[int, ...], kind: np.dtype) -> ndarray:
    """Room for numbers from the beginning of a cache line on: a vector that lies in two lines takes as long as two."""
    size = math.prod(shape) * kind.itemsize
    space = np.empty(size + LINE, np.uint8)
    start = -space.ctypes.data % LINE
    return space[start : start + size].view(kind).reshape(shape)


def _aligned(array: ndarray) -> ndarray:
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def pack(matrix: ndarray) -> ndarray:
    """[O, I] -> [O / 16, I, 16]: what a product needs at once lies side by side. Zeros are added where O is no multiple
    of 16."""
    padded = np.pad(matrix, ((0, -len(matrix) % LANES), (0, 0)))
    return _aligned(padded.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1))


def pack_halves(matrix: ndarray) -> ndarray:
    """The upper halves of float32 numbers, which say all where these were bfloat16 on the disk: [O, I] -> [O / 16,
    I / 2, 16]. A word holds those of two inputs, the first below, so that one step makes either a number again."""
    words = pack(np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))).view(np.uint32)
    return _aligned((words[:, ::2] >> 16) | (words[:, 1::2] & UPPER))


def pack_panels(matrix: ndarray) -> ndarray:
    """The same upper halves for a matrix unit: [O, I] -> [O / 16, I / 32, 16, 16]. Zeros are added where I is no
    multiple of 32."""
    halves = pack_halves(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % PANEL))))
    return halves.reshape(len(halves), -1, PANEL // 2, LANES)
