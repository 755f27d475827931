"""Chooses the backend and the operators that run a model's steps, and packs weights for the compiled CPU kernels."""

from collections.abc import Iterable
from enum import Enum
from functools import cache
from itertools import chain
from types import ModuleType
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from . import torch_ops
from .types import Linear, Operators


class Backend(Enum):
    """The implementation of a step."""

    CPU_KERNELS = "compiled CPU kernels"
    CUDA_GRAPHS = "CUDA graphs"
    PYTORCH = "PyTorch modules"


FALLBACK = Backend.PYTORCH
"""Used where no compiled kernels exist, and while they are being compiled."""


def select_backend(parameter: Tensor, activation: str) -> Backend:
    """The fastest backend for the device and dtype of a parameter and the activation of its model."""
    if parameter.is_cuda:
        return Backend.CUDA_GRAPHS
    supported = parameter.device.type == "cpu" and parameter.dtype == torch.float32 and activation == "silu"
    return Backend.CPU_KERNELS if supported and cpu_kernels() else FALLBACK


@cache
def cpu_kernels() -> ModuleType | None:
    """The package ``ops.cpu``; None without numba."""
    try:
        from . import cpu
    except ImportError:
        return None
    return cpu


def select_operators(parameter: Tensor, activation: str) -> Operators:
    """The fastest operators for the device and dtype of a parameter and the activation of its model."""
    triton = (
        _triton_operators(parameter.device, parameter.dtype) if parameter.is_cuda and activation == "silu" else None
    )
    return cast(Operators, triton or torch_ops)


@cache
def _triton_operators(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """Triton's operators; None where Triton does not work: it needs a recent GPU and a C compiler."""
    try:
        from . import triton_ops

        one = torch.ones(1, 16, device=device, dtype=dtype)
        triton_ops.linear(one, Linear(one))
    except Exception:  # Triton's compilers raise many types
        return None
    return triton_ops


class WeightPacker:
    """Packs weight matrices for the CPU kernels, in the form that suits the weights and the processor.

    Float32 weights whose lower halves are all zero were bfloat16 in the file. Their upper halves alone take half of
    the memory bandwidth and fit a matrix unit.
    """

    def __init__(self, model: nn.Module, kernels: ModuleType):
        matrices = (parameter.detach() for parameter in model.parameters() if parameter.ndim > 1)
        is_bfloat16 = not any((matrix.view(torch.int32) & 0xFFFF).any() for matrix in matrices)
        self.uses_matrix_unit: bool = is_bfloat16 and kernels.MATRIX_UNIT
        if self.uses_matrix_unit:
            self.pack = kernels.pack_panels
        else:
            self.pack = kernels.pack_bfloat16 if is_bfloat16 else kernels.pack_float32
        self._empty = kernels.aligned_empty

    def linear(self, weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """The packed weight, and the bias [O], zeros if there is none."""
        matrix = weight.detach().numpy()
        return self.pack(matrix), np.zeros(len(matrix), np.float32) if bias is None else bias.detach().numpy()

    def halves(self, weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, ...]:
        """Splits a map of 2 O outputs: packed weight and bias of the first half, then of the second."""
        biases = (None, None) if bias is None else bias.chunk(2)
        return tuple(chain.from_iterable(map(self.linear, weight.chunk(2), biases)))

    def stack(self, layers: Iterable[tuple[np.ndarray, ...]], count: int) -> tuple[np.ndarray, ...]:
        """Stacks the arrays of ``count`` layers of one shape: each kind of array becomes one array [count, ...]."""
        stacked: tuple[np.ndarray, ...] = ()
        for i, arrays in enumerate(layers):  # one layer at a time: a large model does not fit into memory twice
            stacked = stacked or tuple(self._empty((count, *array.shape), array.dtype) for array in arrays)
            for whole, array in zip(stacked, arrays):
                whole[i] = array
        return stacked
