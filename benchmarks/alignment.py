"""Compares the alignments of a prompt whose length is not a multiple of K, by Brier-n of the continuation.

    python -m benchmarks.alignment [--model story-k4] [--texts 100] [--json]

The prompt is the true text of a held-out story up to a position with a leftover of 1 to K - 1 tokens, aligned as in
``calm.generate``. The model draws the first chunk several times, and the program compares its new tokens with the next
tokens of the text. With ``condition`` and ``end`` the first chunk adds only ``K - leftover`` tokens, so the comparison
uses that many tokens for all three alignments.
"""

import argparse
import json

import torch

import calm
from calm.engine import engine_for
from calm.evaluation.brier import brier_n
from calm.generation import ALIGNMENTS, align
from calm.storyland import stories


@torch.no_grad()
def draws(lm: calm.LanguageModel, ids: list[int], alignment: str, samples: int, generator_seed: int) -> torch.Tensor:
    """The new tokens of ``samples`` draws of the first chunk after the prompt [samples, new tokens].

    Draws that begin with the leftover tokens come first. If they are too few, others follow, as in ``calm.generate``.
    """
    context, leftover = align(lm, ids, alignment)
    hidden = lm.calm(torch.tensor([context[-64 * lm.chunk_size :]], device=lm.device))[0, -1]
    head_step = engine_for(lm).head
    assert head_step  # token-by-token models have none
    noise = lm.calm.generative_head.noise((200,), hidden, torch.Generator(lm.device).manual_seed(generator_seed))
    chunks, _ = head_step.draw(head_step.project(hidden[None]), [0] * len(noise), noise)
    chunks.sort(key=lambda chunk: list(chunk[: len(leftover)]) != leftover)  # a stable sort: draws that fit come first
    return torch.tensor([chunk[len(leftover) :] for chunk in chunks[:samples]])


def measure(lm: calm.LanguageModel, texts: int, samples: int = 8, every: int = 13) -> dict:
    """Brier-n (n up to K - leftover, averaged over leftovers 1 to 3) of the next tokens under each alignment."""
    k = lm.chunk_size
    scores: dict[str, list[float]] = {name: [] for name in ALIGNMENTS}
    for number, text in enumerate(stories("vector_map", texts)):
        ids = lm.tokenize(text)
        for position in range(k + 1, len(ids) - k, every):
            leftover = position % k
            if leftover == 0:
                continue
            width = k - leftover
            target = torch.tensor([ids[position : position + width]])
            for name in ALIGNMENTS:
                drawn = draws(lm, ids[:position], name, samples, number)[:, :width]
                scores[name].append(float(brier_n(drawn[:, None], target).mean()))
    return {
        "model": lm.name,
        "positions": len(scores["front"]),
        "brier": {name: 100 * sum(values) / len(values) for name, values in scores.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(calm.load(arguments.model), arguments.texts)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{figures['model']}, {figures['positions']} positions: Brier-n of the next tokens, times 100")
    for name, score in figures["brier"].items():
        print(f"  {name:10} {score:6.2f}")


if __name__ == "__main__":
    main()
