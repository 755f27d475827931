"""A model's decoding steps on a CPU, as kernels compiled with numba.

With few rows PyTorch spends more time on dispatching its kernels than on running them. Here one call computes all
layers, and most of the time goes into reading the weights. Arrays are float32 and weight matrices are packed; R rows,
D, I or O widths. A row's numbers do not depend, to the bit, on the other rows. Functions that Python calls write into
arrays of the caller: numba runs Python code while it returns several arrays, and a signal's exception that is raised
there becomes a SystemError.

From the bottom up: ``packing`` lays out weights in memory; ``registers`` and ``matrix_unit`` multiply, ``products``
chooses between them; ``team`` lets threads compute together; ``layers`` has linear layers, norms and attention;
``vocabulary`` has the argmax over all tokens, ``sampling`` draws one of them; ``model`` has one call for each part of a
model, ``runs`` one for several steps. ``cache`` says where compiled code is stored.
"""

from .compilation import get_num_threads, split_work, use_threads
from .layers import layer_norm_into, linear
from .model import draw, llama, read_chunks, read_tokens
from .packing import MATRIX_UNIT, aligned_empty, pack_bfloat16, pack_float32, pack_panels
from .runs import run_chunks, run_tokens
from .sampling import sample_tokens
from .vocabulary import vocabulary_bounds

__all__ = [
    "MATRIX_UNIT",
    "aligned_empty",
    "draw",
    "get_num_threads",
    "layer_norm_into",
    "linear",
    "llama",
    "pack_bfloat16",
    "pack_float32",
    "pack_panels",
    "read_chunks",
    "read_tokens",
    "run_chunks",
    "run_tokens",
    "sample_tokens",
    "split_work",
    "use_threads",
    "vocabulary_bounds",
]
