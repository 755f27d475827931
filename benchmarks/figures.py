"""The figures of docs/how-it-works.md, measured on bundled models and held-out stories.

    python -m benchmarks.figures [--model story-k4] [--out docs/figures]

Writes one SVG a figure, and ``figures.json`` with every number that the figures show.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import calm
from calm.modeling.losses import distances, energy_score
from calm.storyland import stories

from .svg import Axis, Line, bar_chart, line_chart, write

MODELS = ("story-k1", "story-k2", "story-k4", "story-k8")
NOISES = tuple(round(0.1 * i, 1) for i in range(16))
SPREADS = tuple(round(0.1 * i, 1) for i in range(4, 21))
TEMPERATURES = tuple(round(0.05 * i, 2) for i in range(4, 31))
POOL = 200
SHARE = 0.4  # the share of the commonest chunk at the step whose pool is shown
SHOWN = 3  # chunks of that pool
PERCENT = (0, 20, 40, 60, 80, 100)

Chunk = tuple[int, ...]


class Boundaries:
    """The chunk boundaries of some stories: token ids [P, K] of the next chunk, and hidden states [P, D] before it."""

    def __init__(self, lm: calm.LanguageModel, texts: Sequence[str]):
        self.lm, k = lm, lm.chunk_size
        chunks, hidden = [], []
        for text in texts:
            ids = lm.tokenize(text)
            whole = ids[: len(ids) // k * k]
            chunks.append(torch.tensor(whole).view(-1, k))
            hidden.append(lm.calm(torch.tensor([[lm.tokenizer.eos_token_id] * k + whole[:-k]]), use_cache=False)[0])
        self.chunks, self.hidden = torch.cat(chunks), torch.cat(hidden)

    def draws(self, count: int, generator: torch.Generator) -> Tensor:
        """Vectors [count, P, L] of the head."""
        head = self.lm.calm.generative_head
        noise = head.noise((count, len(self.hidden)), self.hidden, generator)
        return torch.stack([head(self.hidden, each) for each in noise])

    def pools(self, generator: torch.Generator) -> list[Counter[Chunk]]:
        """Counts of the chunks among ``POOL`` draws at each position."""
        drawn = torch.stack([self.lm.calm.ae_model.decode(each) for each in self.draws(POOL, generator)])
        return [Counter(map(tuple, drawn[:, i].tolist())) for i in range(len(self.chunks))]


def autoencoder(out: Path) -> dict[str, Any]:
    """Tokens restored when noise is added to the vectors, for each K."""
    text = "\n".join(stories("cost_benchmark", 20))
    measured: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        lm = calm.load(name, device="cpu")
        std = np.concatenate([chunk.std for chunk in calm.reconstruct(lm, text).chunks])
        curve = [(noise, 100 * share) for noise, share in calm.robustness(lm, text, NOISES)]
        measured[name] = {"posterior_std": float(std.mean()), "accuracy": curve}
    lines = [Line(f"{name}, K = {name[-1]}", curves["accuracy"]) for name, curves in measured.items()]
    x = Axis("standard deviation of the noise on each vector", (0, 1.5), (0, 0.3, 0.6, 0.9, 1.2, 1.5))
    y = Axis("tokens restored", (0, 100), PERCENT, " %")
    write(out / "autoencoder.svg", line_chart("Tokens restored over noise", x, y, lines))
    return measured


def next_vector(out: Path, boundaries: Boundaries, pools: list[Counter[Chunk]]) -> dict[str, Any]:
    """The certainty of the model at each step of one story: the share of the commonest chunk among its draws."""
    shares = [pool.most_common(1)[0][1] / POOL for pool in pools]
    texts = [boundaries.lm.detokenize(chunk) for chunk in boundaries.chunks.tolist()]
    open_steps = [i for i, share in enumerate(shares) if share < 0.5]
    x = Axis("step", (0.5, len(shares) + 0.5), [1, *range(5, len(shares) + 1, 5)])
    y = Axis("commonest chunk", (0, 100), PERCENT, " %")
    bars = bar_chart("Share of the commonest chunk", x, y, [100 * share for share in shares], open_steps)
    write(out / "next-vector.svg", bars)
    steps = [
        {"step": i + 1, "chunk": text, "distinct": len(pool), "commonest": share}
        for i, (text, pool, share) in enumerate(zip(texts, pools, shares))
    ]
    return {"steps": steps}


def energy(out: Path, boundaries: Boundaries, generator: torch.Generator) -> dict[str, Any]:
    """The energy score of the head's draws, when they are pulled together or pushed apart around their mean."""
    model, beta = boundaries.lm.calm, boundaries.lm.calm.config.beta
    draws = boundaries.draws(32, generator).movedim(0, -2)  # [P, N, L]
    mean, _ = model.ae_model.encode(boundaries.chunks)
    targets, centre = mean[:, None], draws.mean(-2, keepdim=True)
    curves: dict[str, list[tuple[float, float]]] = {"energy score": [], "2 x distance": [], "spread": []}
    for scale in SPREADS:
        samples = centre + scale * (draws - centre)
        fidelity = float(2 * distances(samples, targets, beta).mean())
        score = float(energy_score(samples, targets, beta).mean())
        for name, value in zip(curves, (score, fidelity, fidelity - score)):
            curves[name].append((scale, value))
    top = 0.5 * np.ceil(2 * max(value for curve in curves.values() for _, value in curve))
    x = Axis(
        "spread of the draws around their mean, 1 = as drawn",
        (SPREADS[0], 2),
        (0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2),
    )
    y = Axis("latent distance", (0, top), np.arange(0, top + 0.1, 0.5).tolist())
    lowest = min(curves["energy score"], key=lambda point: point[1])
    lines = [Line(name, curve, [lowest] if name == "energy score" else ()) for name, curve in curves.items()]
    write(out / "energy.svg", line_chart("Energy score over the spread of the draws", x, y, lines))
    return {"beta": beta, "positions": len(mean), "lowest at": lowest[0], **curves}


def tempered(pool: Counter[Chunk], temperature: float) -> dict[Chunk, float]:
    return dict(zip(pool, calm.temper(list(pool.values()), temperature)))


def brier(
    out: Path, boundaries: Boundaries, pools: tuple[list[Counter[Chunk]], list[Counter[Chunk]]]
) -> dict[str, Any]:
    """Brier-4 and its two parts over the temperature. Two independent pools a position make collisions unbiased."""
    truth = [tuple(chunk) for chunk in boundaries.chunks.tolist()]
    curves: dict[str, list[tuple[float, float]]] = {"Brier-4": [], "accuracy": [], "collisions": []}
    for temperature in TEMPERATURES:
        hits, equal = [], []
        for chunk, first, second in zip(truth, *pools):
            p, q = tempered(first, temperature), tempered(second, temperature)
            hits.append((p.get(chunk, 0.0) + q.get(chunk, 0.0)) / 2)
            equal.append(sum(share * q.get(each, 0.0) for each, share in p.items()))
        accuracy, collisions = 100 * float(np.mean(hits)), 100 * float(np.mean(equal))
        for name, value in zip(curves, (2 * accuracy - collisions, accuracy, collisions)):
            curves[name].append((temperature, value))
    best = max(curves["Brier-4"], key=lambda point: point[1])
    x = Axis("temperature", (0.2, 1.5), (0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4))
    y = Axis("percent", (40, 100), (40, 50, 60, 70, 80, 90, 100), " %")
    lines = [Line(name, curve, [best] if name == "Brier-4" else ()) for name, curve in curves.items()]
    write(out / "brier.svg", line_chart("Brier-4 over the temperature", x, y, lines))
    return {"positions": len(truth), "best at": best[0], **curves}


def _label(lm: calm.LanguageModel, chunk: Chunk) -> str:
    return lm.detokenize(list(chunk)).strip().replace("\n", "⏎")


def temperature(out: Path, lm: calm.LanguageModel, pools: list[Counter[Chunk]]) -> dict[str, Any]:
    """The tempered probabilities of one pool, with a marker where the published rule applies (T = 1/n)."""
    step = min(range(len(pools)), key=lambda i: abs(pools[i].most_common(1)[0][1] / POOL - SHARE))
    shown = [chunk for chunk, _ in pools[step].most_common(SHOWN)]
    curves = {chunk: [(t, 100 * tempered(pools[step], t)[chunk]) for t in TEMPERATURES] for chunk in shown}
    published = {chunk: [(1 / n, 100 * tempered(pools[step], 1 / n)[chunk]) for n in range(1, 5)] for chunk in shown}
    lines = [Line(_label(lm, chunk), curve, published[chunk]) for chunk, curve in curves.items()]
    x = Axis("temperature", (0.2, 1.5), (0.25, 0.5, 0.75, 1, 1.25, 1.5))
    y = Axis("probability", (0, 100), PERCENT, " %")
    write(out / "temperature.svg", line_chart("Probabilities of a pool over the temperature", x, y, lines))
    counts = {_label(lm, chunk): pools[step][chunk] for chunk in shown}
    return {"step": step + 1, "counts": counts, "distinct": len(pools[step])}


@torch.inference_mode()
def figures(name: str, out: Path, texts: int) -> dict[str, Any]:
    """Draws all figures and returns their numbers."""
    lm, generator = calm.load(name, device="cpu"), torch.Generator().manual_seed(0)
    results: dict[str, Any] = {"command": "python -m benchmarks.figures", "model": name, "draws": POOL, "texts": texts}
    results["autoencoder"] = autoencoder(out)
    one = Boundaries(lm, list(stories("cost_benchmark", 1)))
    pools = one.pools(generator)
    results["next vector"] = next_vector(out, one, pools)
    results["temperature"] = temperature(out, lm, pools)
    many = Boundaries(lm, list(stories("cost_benchmark", texts)))
    results["energy score"] = energy(out, many, generator)
    results["brier"] = brier(out, many, (many.pools(generator), many.pools(generator)))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4")
    parser.add_argument("--texts", type=int, default=20, help="stories of the energy and Brier figures")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    results = figures(arguments.model, arguments.out, arguments.texts)
    (arguments.out / "figures.json").write_text(
        json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
