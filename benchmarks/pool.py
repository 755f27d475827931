"""What does `auto` spend, and how far from p^(1/T) is it? Draws a step and total variation, over temperatures.

    python -m benchmarks.pool [--model story-k4] [--texts 20] [--json]

Draws are counted at places of held-out stories, by the model. The total variation to the tempered distribution is that
of 20,000 choices from known distributions over 50 chunks, Zipf (1 / rank) and peaked (half of the mass on one chunk),
less what 20,000 choices of the exact distribution would show by chance.
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
    """Draws spent at every fifth place of held-out stories."""
    spent, head_step = [], engine_for(lm).head
    assert head_step  # of a CALM
    for seed, text in enumerate(stories("cost_benchmark", texts)):
        ids, _ = align(lm, lm.tokenize(text))
        for hidden in lm.calm(torch.tensor([ids], device=lm.device))[0, ::every]:
            sampler = ChunkSampler(temperature, 200, "auto", seed, lm.device)
            spent.append(sample_chunk(head_step, hidden, sampler).draws)
    return spent


def variation(p: np.ndarray, temperature: float, choices: int = 20_000) -> float:
    """Total variation of ``auto``'s choices to p^(1/T), less that of as many independent draws of p^(1/T)."""
    p = p / p.sum()
    target = p ** (1 / temperature)
    target /= target.sum()
    rng, counts = np.random.default_rng(0), np.zeros(len(p))
    sampler = ChunkSampler(temperature, 200, "auto", 0, torch.device("cpu"))
    sampler.random = random.Random(0)
    for _ in range(choices):
        while wanted := sampler.wanted():
            chunks = [(int(i),) for i in rng.choice(len(p), wanted, p=p)]
            sampler.feed(chunks, np.zeros((wanted, 1), np.float32))
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
    found = {}
    for t in TEMPERATURES:
        spent = draws(lm, arguments.texts, t)
        found[t] = {
            "mean draws": statistics.mean(spent),
            "median draws": statistics.median(spent),
            "share of full pools": sum(n == 200 for n in spent) / len(spent),
            **{f"variation, {name}": variation(p, t) for name, p in DISTRIBUTIONS.items()},
        }
    if arguments.json:
        print(json.dumps(found))
        return
    for t, figures in found.items():
        print(f"T = {t:<5g}" + "   ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
