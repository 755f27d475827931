"""Time and memory of the energy score, forward and backward: by matrix products and by the literal formula.

python -m benchmarks.energy [--chunks 512] [--rounds 10] [--json]

Both use the paper's N = 8 samples and M = 100 targets of 128 numbers per chunk, interleaved in one process. The literal
formula needs a tensor of differences [chunks, N, M, L].
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from calm.modeling.losses import energy_score

from .rounds import medians

SAMPLES, TARGETS, LATENT = 8, 100, 128


def literal(samples: Tensor, targets: Tensor) -> Tensor:
    """Equation 10 by differences, with exponent 1: samples [B, N, L], targets [B, M, L] -> [B]."""
    n = samples.shape[1]
    fidelity = (samples[:, :, None] - targets[:, None]).norm(dim=-1).mean((1, 2))
    spread = (samples[:, :, None] - samples[:, None]).norm(dim=-1).sum((1, 2)) / (n * (n - 1))
    return 2 * fidelity - spread


CONTESTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"literal": literal, "calm": energy_score}


def seconds(name: str, chunks: int) -> float:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(chunks, SAMPLES, LATENT, generator=generator, requires_grad=True)
    targets = torch.randn(chunks, TARGETS, LATENT, generator=generator)
    begin = time.perf_counter()
    CONTESTANTS[name](samples, targets).mean().backward()
    return time.perf_counter() - begin


def _memory(field: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0])


def megabytes(name: str, chunks: int) -> float:
    """The increase of peak resident memory during one call (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory("VmRSS")
    seconds(name, chunks)
    return (_memory("VmHWM") - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=512, help="chunks per batch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def measure(name: str, _: int) -> float:
        return seconds(name, arguments.chunks)

    runs = {name: partial(measure, name) for name in CONTESTANTS}
    figures = {
        name: {"milliseconds": 1000 * median, "MB": megabytes(name, arguments.chunks)}
        for name, median in medians(runs, arguments.rounds).items()
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(f"{name:10} {row['milliseconds']:8.1f} ms {row['MB']:8.1f} MB")
    faster, share = (figures["literal"][key] / figures["calm"][key] for key in ("milliseconds", "MB"))
    print(f"matrix products are {faster:.1f} times as fast and need {share:.1f} times less memory")


if __name__ == "__main__":
    main()
