"""How fast does training run? Tokens a second of each training loop, and its share of the measured peak.

    python -m benchmarks.training [--steps 60] [--json]

The loops of the bundled recipes, run as ``calm train`` runs them, on a little Storyland of their own. The arithmetic of
a step is counted by torch (products, forward and backward); the peak is that of a large float32 matrix product.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import calm
from benchmarks.generation import peak
from calm.training import recipe
from calm.training.loop import Task, run
from calm.training.tasks import make

WINDOW = 20  # steps to a line of the log; the first line is warm-up
# A stage of the lm recipe: head_warmup_from, joint_from and token_loss_until, as shares of the run.
STAGES = {
    "lm, token loss alone": (1.0, 1.0, 1.0),
    "lm, head alone": (0.0, 1.0, 1.0),
    "lm, energy and token loss": (0.0, 0.0, 1e9),
    "lm, energy alone": (0.0, 0.0, 0.0),
}


def settings(folder: Path, steps: int, stories: int = 8000) -> dict[str, tuple[str, dict[str, Any]]]:
    """For each loop its task and settings: those of the recipes, on data in ``folder``."""
    lm = calm.load("story-k4", device="cpu")
    lm.tokenizer.save_pretrained(folder / "tokenizer")
    lm.calm.ae_model.save_pretrained(folder / "autoencoder")
    shared = {"tokenizer": str(folder / "tokenizer"), "data": str(folder), "steps": steps, "warmup_steps": 0,
              "validate_every": 10**9, "save_every": 10**9, "log_every": WINDOW}  # fmt: skip
    sources = [f"storyland:0:{stories}"]
    text = {"sources": sources, "valid": ["storyland:0:1"], "primer_steps": 0}
    coded = {"sources": {"stories": sources}, "valid": {"stories": ["storyland:0:100"]}, "shares": {}}
    found = {
        "autoencoder": ("autoencoder", {**recipe.read("autoencoder-k4"), **shared, **coded}),
        "baseline": ("baseline", {**recipe.read("story-ar-first"), **shared, **text, "name": "text"}),
    }
    for label, (head_warmup_from, joint_from, token_loss_until) in STAGES.items():
        phase = {"head_warmup_from": head_warmup_from, "joint_from": joint_from, "token_loss_until": token_loss_until}
        own = {"autoencoder": str(folder / "autoencoder"), "name": "text"}
        found[label] = ("lm", {**recipe.read("story-k4-first"), **shared, **text, **own, **phase})
    return {label: (task, {**values, "out": str(folder / label)}) for label, (task, values) in found.items()}


def operations(task: Task) -> int:
    """Floating-point operations of the products of one step, forward and backward."""
    rows = torch.from_numpy(task.batch(0))
    with FlopCounterMode(display=False) as counter:
        task.objective(rows, progress=0.5, generator=torch.Generator().manual_seed(0))["loss"].backward()
    task.objective.zero_grad()
    return counter.get_total_flops()


def measure(steps: int) -> dict[str, Any]:
    highest = peak(torch.device("cpu"), torch.float32)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "peak, GFLOP/s": highest / 1e9}
    with tempfile.TemporaryDirectory() as folder:
        for label, (name, values) in settings(Path(folder), steps).items():
            task = make(name, values)
            work = operations(task)
            run(task)
            lines = (Path(values["out"]) / "log.jsonl").read_text().splitlines()
            rates = [row["tokens_per_second"] for row in map(json.loads, lines) if "tokens_per_second" in row][1:]
            rate = statistics.median(rates)
            speed = work * rate / (task.tokens_per_row * values["batch_size"])
            found[label] = {"tokens a second": rate, "GFLOP a step": work / 1e9, "share of the peak": speed / highest}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3 * WINDOW, help=f"of each loop, at least {2 * WINDOW}")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.steps < 2 * WINDOW:
        parser.error(f"--steps must be at least {2 * WINDOW}: the first {WINDOW} are warm-up")
    found = measure(arguments.steps)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found.pop('threads')} threads, peak {found.pop('peak, GFLOP/s'):.0f} GFLOP/s")
    for label, figures in found.items():
        print(f"{label:28}" + "   ".join(f"{name} {value:,.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
