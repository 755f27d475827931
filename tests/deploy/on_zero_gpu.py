"""Runs the page as a ZeroGPU Space does, with the CPU in place of the GPU that a worker is given.

``spaces`` emulates CUDA in the main process by itself. Its three functions that need a real card are replaced here:
packing keeps the weights in memory, the start of a worker does nothing, and moving them returns them to the worker.
"""

import runpy
from typing import Any

import torch


def without_card(*arguments: Any) -> None:
    raise RuntimeError("There is no CUDA here.")


def is_in_bad_fork() -> bool:
    return False


# What a build of torch for the CPU lacks and ``spaces`` reads when it is imported.
torch.version.cuda = torch.version.cuda or "13.0"
if not hasattr(torch._C, "_cuda_init"):
    torch._C._cuda_init = without_card  # type: ignore[attr-defined]
torch.cuda._is_in_bad_fork = is_in_bad_fork

import spaces.zero.torch as zero_torch  # noqa: E402
from spaces.zero.torch import patching  # noqa: E402


def pack() -> int:
    return 0


def init(nvidia_uuid: str) -> None:
    pass


def move(callback: Any = None) -> None:
    for emulated, original in patching.cuda_aliases.items():
        if original is not None:
            emulated.data = original


zero_torch.pack, zero_torch.init, zero_torch.move = pack, init, move
runpy.run_path("app.py", run_name="__main__")
