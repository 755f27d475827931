"""Checks this machine: what is installed, how the library and the page use it, and how to fix problems."""

import importlib.util
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from .errors import check_integer
from .hub import folders
from .hub.memory import available_memory

Status = Literal["ok", "warning", "error"]
CHECK_TIMEOUT = 3.0
"""Seconds after which a Hub that does not answer counts as out of reach."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)


@dataclass(frozen=True)
class Check:
    """One property of this machine."""

    name: str
    status: Status
    message: str
    """The property and its consequence, in one or two sentences."""
    remedy: str = ""
    """How to fix a warning or an error; empty if the status is ``ok``."""


def examine(port: int = 7860) -> list[Check]:
    """Runs every check; ``port`` is where the page would listen. A check that fails reports itself as an error.

    Raises CalmError for a port outside 0 to 65,535.
    """
    check_integer("port", port, 0, 65_535)
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", _python),
        ("PyTorch", _torch),
        *_hardware(),
        *((name, partial(_folder, name, path)) for name, path in _folders()),
        ("Models", _models),
        ("Hub", _hub),
        ("Port", partial(_port, port)),
    ]
    return [_guarded(name, check) for name, check in checks]


def machine() -> list[Check]:
    """The hardware that computes: GPU, CPU kernels and memory. Takes milliseconds once torch is imported."""
    return [_guarded(name, check) for name, check in _hardware()]


def _hardware() -> list[tuple[str, Callable[[], Check]]]:
    return [("GPU", _gpu), ("CPU kernels", _kernels), ("Memory", _memory)]


def summary(checks: list[Check]) -> Status:
    """The worst status of all checks."""
    order: tuple[Status, ...] = ("ok", "warning", "error")
    return max((check.status for check in checks), key=order.index, default="ok")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a broken installation must not end the report about it
        return Check(
            name, "error", f"The check failed: {type(error).__name__}: {error}.", "Reinstall the requirements."
        )


def _python() -> Check:
    version = platform.python_version()
    number = tuple(int(part) for part in platform.python_version_tuple()[:2])
    message = f"Python {version} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores."
    if OLDEST_PYTHON <= number <= NEWEST_PYTHON:
        return Check("Python", "ok", message)
    allowed = ", ".join(f"3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1))
    return Check("Python", "warning", message, f"The project is tested with Python {allowed}.")


def _torch() -> Check:
    import torch
    import transformers

    threads = torch.get_num_threads()
    return Check(
        "PyTorch", "ok", f"torch {torch.__version__}, transformers {transformers.__version__}, {threads} threads."
    )


def _gpu() -> Check:
    import torch

    from .hub.loading import default_dtype

    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = (
            "This build of torch supports CUDA, but there is no usable card."
            if built
            else "This build of torch has no CUDA."
        )
        return Check("GPU", "ok", f"{why} Models run on the CPU in float32.")
    properties = torch.cuda.get_device_properties(0)
    dtype = str(default_dtype(torch.device("cuda"))).removeprefix("torch.")
    free, total = torch.cuda.mem_get_info(0)
    message = (
        f"{properties.name}, compute capability {properties.major}.{properties.minor}, {free / 2**30:.1f} of "
        f"{total / 2**30:.1f} GiB free. Models run in {dtype}."
    )
    if importlib.util.find_spec("triton") is None:
        return Check(
            "GPU", "warning", f"{message} Triton is missing, so PyTorch operators compute.", "pip install triton"
        )
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return Check("GPU", "warning", f"{message} Triton finds no C compiler.", "Install gcc.")
    return Check("GPU", "ok", message)


def _kernels() -> Check:
    from .engine.ops.selection import cpu_kernels

    if importlib.util.find_spec("numba") is None:
        return Check("CPU kernels", "warning", "Off: numba is missing, so PyTorch computes.", "pip install numba")
    if cpu_kernels() is None:
        return Check(
            "CPU kernels", "warning", "Off: numba does not work here, so PyTorch computes.", "Reinstall numba."
        )
    from .engine.ops.cpu import MATRIX_UNIT, get_num_threads

    unit = "with a matrix unit" if MATRIX_UNIT else "without a matrix unit"
    state = (
        "compiled" if any(_kernel_folder().rglob("*.nbc")) else "not compiled yet; the first text takes about a minute"
    )
    return Check("CPU kernels", "ok", f"On, {unit}, up to {get_num_threads()} threads, {state}.")


def _kernel_folder() -> Path:
    from .engine.ops.cpu.cache import FOLDER

    return FOLDER


def _folders() -> Iterator[tuple[str, Path]]:
    with suppress(Exception):  # the check of the CPU kernels reports a broken installation
        from .engine.ops.selection import cpu_kernels

        if cpu_kernels() is not None:
            yield "Kernel cache", _kernel_folder()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    yield "Hub cache", Path(home).expanduser()
    yield "Temporary folder", Path(tempfile.gettempdir())


VARIABLES = {"Kernel cache": "NUMBA_CACHE_DIR", "Hub cache": "HF_HOME", "Temporary folder": "TMPDIR"}


def _folder(name: str, path: Path) -> Check:
    existing = next(parent for parent in [path, *path.parents] if parent.exists())
    remedy = f"Set {VARIABLES[name]} to a folder that this user may write."
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, "warning", f"{path} cannot be written ({error.strerror}).", remedy)
    return Check(name, "ok", f"{path}, {shutil.disk_usage(existing).free / 2**30:.1f} GiB free.")


def _memory() -> Check:
    available, total = available_memory()
    return Check("Memory", "ok", f"{available / 2**30:.1f} of {total / 2**30:.1f} GiB available.")


def _models() -> Check:
    names = folders.bundled()
    if not names:
        remedy = "Clone the repository, or set CALM_CHECKPOINTS to a folder of models."
        return Check("Models", "warning", "There are no bundled models here.", remedy)
    available, _ = available_memory()
    sizes = {name: _bytes_of_weights(folders.CHECKPOINTS / name) for name in names}
    listing = ", ".join(f"{name} ({size / 2**20:.0f} MiB)" for name, size in sizes.items())
    # The files hold bfloat16. On a CPU the model takes twice as much in float32, and the kernels a packed copy.
    if 3 * max(sizes.values()) > available:
        return Check("Models", "warning", f"{listing}.", "The largest may not fit into memory: close other programs.")
    return Check("Models", "ok", f"{listing}.")


def _bytes_of_weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _hub() -> Check:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Check("Hub", "ok", "Off by HF_HUB_OFFLINE. Bundled models need no Hub.")
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=CHECK_TIMEOUT).close()
    except HTTPError:
        pass  # the Hub answered
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        remedy = "Other models than the bundled ones need it: check the network or HTTPS_PROXY."
        return Check("Hub", "warning", f"{constants.ENDPOINT} cannot be reached ({reason}).", remedy)
    return Check("Hub", "ok", f"{constants.ENDPOINT} answers.")


def _port(port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = "Set GRADIO_SERVER_PORT to a free port, or leave it unset: the page then takes the next free one."
            return Check("Port", "warning", f"Port {port} is not free ({error.strerror}).", remedy)
    return Check("Port", "ok", f"Port {port} is free.")
