"""The memory that models may take, and the check before a model is loaded.

This module does not import torch at its import.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CalmError

if TYPE_CHECKING:
    import torch

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> tuple[int, int]:
    """Available and total memory of this process in bytes, a container's limit included."""
    available = total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        entries = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = 1024 * int(entries["MemAvailable"].split()[0])
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
        available = min(available, total - int(used.read_text()) + _file_cache())
    return available, total


def _file_cache() -> int:
    """Bytes of files in the memory of the container, which the kernel frees when a process needs them."""
    entries = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    return int(entries["inactive_file"]) + int(entries["active_file"])


def memory_limit() -> int | None:
    """The bytes in ``CALM_MEMORY``, which may end in a unit (``12GB``, ``8GiB``); None if it is not set.

    Raises CalmError for anything else.
    """
    text = os.environ.get("CALM_MEMORY", "").strip()
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?", text.upper())
    if not match:
        raise CalmError(f"CALM_MEMORY must be a number of bytes such as 12GB or 8GiB, not {text!r}.")
    return int(float(match[1]) * UNITS[match[2]])


def free_memory(device: "torch.device") -> int | None:
    """The free bytes of a device; None if the platform does not report them."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return available_memory()[0] if device.type == "cpu" and hasattr(os, "sysconf") else None


def check_fits(name: str, needed: int, device: "torch.device") -> None:
    """Raises CalmError if the ``needed`` bytes of a model exceed ``CALM_MEMORY`` or the free memory of a device."""
    if (limit := memory_limit()) is not None and needed > limit:
        raise CalmError(f"{name} needs {gigabytes(needed)} of memory and CALM_MEMORY allows {gigabytes(limit)}.")
    free = free_memory(device)
    if free is not None and needed > free:
        raise CalmError(
            f"{name} needs {gigabytes(needed)} of memory and {gigabytes(free)} are free on {device}; "
            "choose a smaller model or close other programs."
        )


def gigabytes(count: int) -> str:
    """A number of bytes in gigabytes, as text."""
    return f"{count / 10**9:.2f} GB"


def resident_memory() -> int:
    """The bytes of this process that are in memory; 0 if the platform does not report them."""
    statistics = Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statistics.is_file() else 0
