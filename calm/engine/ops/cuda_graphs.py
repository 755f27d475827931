"""CUDA graphs: work of fixed shapes, captured once and replayed.

A step of few rows runs a hundred or more kernels of a few microseconds each. If Python launches them one by one, the
GPU waits for each launch. Replayed as a graph, they run back to back.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Output = TypeVar("Output")


class GraphedFunction(Generic[Output]):
    """A function of tensors that is captured as a CUDA graph for inputs shaped like ``inputs``.

    The function must not modify its inputs. A call may pass fewer rows, on any device: the remaining rows keep the
    values of earlier calls. The next call may overwrite the returned tensors. On a CPU the function runs eagerly.
    """

    WARM_UP_CALLS = 3  # warm-up runs, in which libraries choose their kernels

    @torch.inference_mode()
    def __init__(self, function: Callable[..., Output], *inputs: Tensor):
        self.function, self.inputs = function, [tensor.clone() for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph() if inputs[0].is_cuda else None
        if not self.graph:
            return
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(self.WARM_UP_CALLS):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side_stream)
        # Other threads may use the GPU during the capture.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = function(*self.inputs)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Output:
        for own, given in zip(self.inputs, inputs):
            own[: len(given)].copy_(given)
        if not self.graph:
            return self.function(*self.inputs)
        self.graph.replay()
        return self.outputs
