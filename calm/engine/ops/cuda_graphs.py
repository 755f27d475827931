"""Work of fixed shapes on a GPU, recorded once as a CUDA graph and played again.

A step of few rows is some hundred kernels of a few microseconds each; launched one by one from Python they wait for one
another, played as a graph they follow at once.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")


class Recording(Generic[Found]):
    """``work`` on tensors like ``inputs``, which must not be changed by it.

    A call may give fewer rows, from any device; the others keep the numbers that they had before. What it returns may
    be overwritten by the next one. On a CPU, where there is nothing to record, the same is worked out each time.
    """

    WARM_UP = 3  # calls before the recording, in which libraries choose their kernels

    @torch.inference_mode()
    def __init__(self, work: Callable[..., Found], *inputs: Tensor):
        self.work, self.inputs = work, [given.clone() for given in inputs]
        self.graph = torch.cuda.CUDAGraph() if inputs[0].is_cuda else None
        if not self.graph:
            return
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(self.WARM_UP):
                work(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = work(*self.inputs)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Found:
        for own, given in zip(self.inputs, inputs):
            own[: len(given)].copy_(given)
        if not self.graph:
            return self.work(*self.inputs)
        self.graph.replay()
        return self.outputs
