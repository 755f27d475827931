"""The layout of weight matrices in memory: numbers that a product reads together are adjacent. O outputs, I inputs."""

import math
import sys
from ctypes import CDLL

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numpy import ndarray

LANES = 16  # outputs whose weights lie side by side; together they are a block
GROUP = 4  # blocks that a thread computes for all rows at a time
PANEL = 32  # inputs that a matrix unit reads at once
CACHE_LINE = 64  # bytes
UPPER_HALF = np.uint32(0xFFFF0000)

# Linux lets a process use the matrix unit's registers only after a system call.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


def _has_matrix_unit() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 (AMX), and the system lets this process do so."""
    return (
        get_host_cpu_features().get("amx-bf16", False)
        and sys.platform == "linux"
        and CDLL(None).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0
    )


MATRIX_UNIT = _has_matrix_unit()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> ndarray:
    """An uninitialised array that starts at a cache line: a vector across two lines takes twice as long to load."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)


def _aligned(array: ndarray) -> ndarray:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def pack_float32(matrix: ndarray) -> ndarray:
    """float32 [O, I] -> blocks [O / 16, I, 16]. Outputs of zeros complete the last block."""
    padded = np.pad(matrix, ((0, -len(matrix) % LANES), (0, 0)))
    return _aligned(padded.reshape(-1, LANES, matrix.shape[1]).transpose(0, 2, 1))


def pack_bfloat16(matrix: ndarray) -> ndarray:
    """float32 [O, I] with bfloat16 values -> the upper halves of its numbers, uint32 [O / 16, I / 2, 16].

    A word holds two inputs, the first in its lower half, so that one operation restores either number.
    """
    words = pack_float32(np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))).view(np.uint32)
    return _aligned((words[:, ::2] >> 16) | (words[:, 1::2] & UPPER_HALF))


def pack_panels(matrix: ndarray) -> ndarray:
    """The same upper halves for a matrix unit: uint32 [O / 16, I / 32, 16, 16]. Inputs of zeros complete a panel."""
    words = pack_bfloat16(np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % PANEL))))
    return words.reshape(len(words), -1, PANEL // 2, LANES)
