"""Seconds from process start to the first page and to the first chunk, and peak memory.

python -m benchmarks.startup [--rounds 3] [--fresh] [--json]

With --fresh, the kernels are compiled first, as on a new machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from gradio_client import Client

from tests.running_page import running_page


def start(fresh: bool) -> dict[str, float]:
    """Starts the page, sends two requests, and stops it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        begin = time.perf_counter()
        variables: dict[str, str] = {"NUMBA_CACHE_DIR": cache} if fresh else {}
        with running_page(**variables) as (address, process):
            page = time.perf_counter() - begin
            client = Client(address, verbose=False)
            client.predict("", 0.5, 4, 0, "auto", 200, api_name="/generate")
            chunk = time.perf_counter() - begin
            request = time.perf_counter()
            client.predict("Once upon a time", 0.5, 4, 1, "auto", 200, api_name="/generate")
            request = time.perf_counter() - request
            status = Path(f"/proc/{process.pid}/status")
            memory = status.read_text().partition("VmHWM:")[2].split()[0] if status.exists() else "nan"
            return {
                "first page, s": page,
                "first chunk, s": chunk,
                "first chunk of a later request, s": request,
                "peak memory, MB": float(memory) / 1024,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    start(arguments.fresh)  # the first start after a while reads everything from disk
    runs = [start(arguments.fresh) for _ in range(arguments.rounds)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:8.2f}")


if __name__ == "__main__":
    main()
