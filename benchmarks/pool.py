"""Draws per step of the sampler `auto`, and its total variation from p^(1/T), over temperatures.

    python -m benchmarks.pool [--model story-k4] [--texts 20] [--json]

Draws are counted with the model at positions of held-out stories. The total variation is that of 20,000 choices from
known distributions over 50 chunks, Zipf (1 / rank) and peaked (half of the mass on one chunk), minus the total
variation that 20,000 independent draws of the exact distribution show by chance.
"""

import argparse
import json
import random
import statistics

import numpy as np
import torch

import calm
from calm.engine import engine_for
from calm.engine.samplers import ChunkSampler, sample_chunk
from calm.generation import align
from calm.storyland import stories

TEMPERATURES = (0.3, 0.4, 0.5, 0.62, 0.8, 1.0, 1.3)
DISTRIBUTIONS = {
    "Zipf": 1 / np.arange(1, 51),
    "peaked": np.array([49.0] + [1.0] * 49),
}


@torch.inference_mode()
def draws(lm: calm.LanguageModel, texts: int, temperature: float, every: int = 5) -> list[int]:
    """Draws per step, at every ``every``-th position of held-out stories."""
    counts, head_step = [], engine_for(lm).head
    assert head_step  # token-by-token models have none
    for seed, text in enumerate(stories("cost_benchmark", texts)):
        ids, _ = align(lm, lm.tokenize(text))
        for hidden in lm.calm(torch.tensor([ids], device=lm.device))[0, ::every]:
            sampler = ChunkSampler(temperature, 200, "auto", seed, lm.device)
            counts.append(sample_chunk(head_step, hidden, sampler).draws)
    return counts


def variation(p: np.ndarray, temperature: float, choices: int = 20_000) -> float:
    """Total variation of ``auto``'s choices from p^(1/T), minus that of as many independent draws of p^(1/T)."""
    p = p / p.sum()
    target = p ** (1 / temperature)
    target /= target.sum()
    rng, counts = np.random.default_rng(0), np.zeros(len(p))
    sampler = ChunkSampler(temperature, 200, "auto", 0, torch.device("cpu"))
    sampler.random = random.Random(0)
    for _ in range(choices):
        while needed := sampler.draws_needed():
            chunks = [(int(i),) for i in rng.choice(len(p), needed, p=p)]
            sampler.feed(chunks, np.zeros((needed, 1), np.float32))
        counts[sampler.choice().token_ids[0]] += 1
    chance = np.abs(rng.multinomial(choices, target) / choices - target).sum() / 2
    return float(np.abs(counts / choices - target).sum() / 2 - chance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lm = calm.load(arguments.model)
    figures = {}
    for t in TEMPERATURES:
        counts = draws(lm, arguments.texts, t)
        figures[t] = {
            "mean draws": statistics.mean(counts),
            "median draws": statistics.median(counts),
            "share of full pools": sum(n == 200 for n in counts) / len(counts),
            **{f"variation, {name}": variation(p, t) for name, p in DISTRIBUTIONS.items()},
        }
    if arguments.json:
        print(json.dumps(figures))
        return
    for t, row in figures.items():
        print(f"T = {t:<5g}" + "   ".join(f"{name} {value:.3f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
