"""The openness of Storyland at a chunk boundary, and the variety of its own samples at a low temperature.

    python -m benchmarks.openness [--texts 100] [--chunk-sizes 1 2 4 8] [--temperature 0.5] [--stories 100] [--json]

A pool of 200 samples can distinguish chunks that have 1.5 % of the probability or more: such a chunk comes three times
on average. For each chunk size, at every chunk boundary of held-out stories, by the exact probabilities of
``calm.storyland.tokens``: the probability on chunks of 1.5 % and more, the share of boundaries where these chunks have
90 % of it, and the entropy in bits of a chunk and of a story with its end. Variety: plots and heroes (name and kind)
in stories that the language itself draws chunk by chunk with p^(1/T).
"""

import argparse
import json
import math
from collections import Counter
from typing import Any

from calm import storyland
from calm.hub.loading import load_tokenizer
from calm.storyland.tokens import TokenLanguage

DETECTABLE = 0.015
"""The least probability of a chunk that a pool of 200 samples can distinguish from the others."""
SHARE = 0.9


def openness(language: TokenLanguage, texts: list[str], sizes: list[int]) -> dict[str, dict[str, float]]:
    """For each chunk size: the mean total ``probability`` of the detectable chunks; the share of ``boundaries`` where
    it is at least 0.9; ``bits a chunk`` and ``bits a story``."""
    shares: dict[int, list[float]] = {size: [] for size in sizes}
    bits = 0.0
    for text in texts:
        for position, (context, token) in enumerate(language.contexts(text)):
            for size in sizes:
                if position % size == 0:
                    chunks = language.chunks(context, size).values()
                    shares[size].append(sum(p for p, _ in chunks if p >= DETECTABLE))
            bits -= math.log2(language.after(context, token).probability / context.probability)
    return {
        f"K = {size}": {
            "probability": sum(covered) / len(covered),
            "boundaries": sum(share >= SHARE for share in covered) / len(covered),
            "bits a chunk": bits / len(covered),
            "bits a story": bits / len(texts),
        }
        for size, covered in shares.items()
    }


def variety(language: TokenLanguage, size: int, temperature: float, count: int) -> dict[str, float]:
    """Plots and heroes in ``count`` stories that the language draws in chunks of ``size`` at a temperature."""
    stories = [language.sample(size, temperature, seed) for seed in range(count)]
    result = storyland.check("\n\n".join(stories))
    plots = Counter(result.plots)
    return {
        "stories": count,
        "temperature": temperature,
        "plots": len(plots.keys() - {None}),
        "commonest plot": max(plots.values()) / count,
        "heroes": len(set(result.heroes)),
        "prompted": result.prompted / count,
        "well formed": result.well_formed,
        "consistent": result.consistent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=100, help="held-out stories")
    parser.add_argument("--chunk-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--stories", type=int, default=100, help="samples of the language, in chunks of 4 tokens")
    parser.add_argument("--tokenizer", default="story-k4", help="a model, for its tokenizer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    language = TokenLanguage(load_tokenizer(arguments.tokenizer))
    texts = list(storyland.stories("validation", arguments.texts))
    results: dict[str, Any] = openness(language, texts, arguments.chunk_sizes)
    results["samples"] = variety(language, 4, arguments.temperature, arguments.stories)
    if arguments.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
