"""The arithmetic of a step of few rows on a CPU, compiled with numba.

With few rows PyTorch spends more time on finding its kernels than on running them; here all layers are one call, and
what remains is reading the weights. Arrays are float32, matrices of weights packed; R rows, D, I or O their width. A
row's numbers do not depend, to the bit, on the other rows.

From the bottom up: how weights lie in memory (``packing``); products in registers (``registers``) or in a matrix unit
(``matrix_unit``), and which of them serves (``products``); the layers of a network (``layers``); the likeliest of all
tokens (``vocabulary``); and a model's parts, each one call (``model``).
"""

from .compilation import get_num_threads, shared, use_threads
from .layers import layer_norm, linear
from .model import decode, llama, vectors
from .packing import MATRIX_UNIT, empty, pack, pack_halves, pack_panels
from .vocabulary import searchable

__all__ = [
    "MATRIX_UNIT",
    "decode",
    "empty",
    "get_num_threads",
    "layer_norm",
    "linear",
    "llama",
    "pack",
    "pack_halves",
    "pack_panels",
    "searchable",
    "shared",
    "use_threads",
    "vectors",
]
