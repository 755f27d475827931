"""Which alignment of a prompt is best? BrierLM of what follows prompts whose length is no multiple of K.

    python -m benchmarks.alignment [--model story-k4] [--texts 100] [--json]

For each held-out story and each place with a leftover of 1 to K - 1 tokens, the true text before the place is the
prompt, aligned as ``calm.generate`` aligns it; the model draws the first chunk several times, and the tokens behind the
prompt are compared with the text's next tokens. Under ``condition`` and ``end`` a chunk may add fewer than four tokens
to the prompt, so that all three are compared on the first ``K - leftover`` new tokens that all of them produce at once.
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
    """``samples`` draws of the first chunk behind the prompt [samples, new tokens]; where too few draws begin with the
    leftover tokens, the others' ends follow behind the prompt, as in ``calm.generate``."""
    context, leftover = align(lm, ids, alignment)
    hidden = lm.calm(torch.tensor([context[-64 * lm.chunk_size :]], device=lm.device))[0, -1]
    head_step = engine_for(lm).head
    assert head_step  # of a CALM
    noise = lm.calm.generative_head.noise((200,), hidden, torch.Generator(lm.device).manual_seed(generator_seed))
    chunks, _ = head_step.draw(head_step.project(hidden[None]), [0] * len(noise), noise)
    chunks.sort(key=lambda chunk: list(chunk[: len(leftover)]) != leftover)  # stable: those that fit come first
    return torch.tensor([chunk[len(leftover) :] for chunk in chunks[:samples]])


def measure(lm: calm.LanguageModel, texts: int, samples: int = 8, every: int = 13) -> dict:
    """Brier-n (n up to K - leftover, averaged over leftovers 1 to 3) of the next tokens under each alignment."""
    k = lm.chunk_size
    scores: dict[str, list[float]] = {name: [] for name in ALIGNMENTS}
    for number, text in enumerate(stories("vector_map", texts)):
        ids = lm.tokenize(text)
        for place in range(k + 1, len(ids) - k, every):
            leftover = place % k
            if leftover == 0:
                continue
            width = k - leftover
            target = torch.tensor([ids[place : place + width]])
            for name in ALIGNMENTS:
                found = draws(lm, ids[:place], name, samples, number)[:, :width]
                scores[name].append(float(brier_n(found[:, None], target).mean()))
    return {
        "model": lm.name,
        "places": len(scores["front"]),
        "brier": {name: 100 * sum(values) / len(values) for name, values in scores.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(calm.load(arguments.model), arguments.texts)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['model']}, {found['places']} places: Brier-n of the next tokens, times 100")
    for name, score in found["brier"].items():
        print(f"  {name:10} {score:6.2f}")


if __name__ == "__main__":
    main()
