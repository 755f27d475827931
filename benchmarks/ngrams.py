"""BrierLM of n-gram models of the training stories: a lower bound for any useful neural model.

    python -m benchmarks.ngrams [--stories 100000] [--texts 200] [--json]

Counts come from training seeds. The score uses held-out stories, with the positions and the estimator of
``calm.brier_lm``. A context that was never seen backs off to the next shorter one.
"""

import argparse
import json
import random
from collections import defaultdict

import torch

from calm import storyland
from calm.evaluation.brier import MAX_ORDER, brier_n, geometric_mean
from calm.hub.loading import load_tokenizer


class NGrams:
    """Continuations of contexts of up to ``order - 1`` tokens, as lists to draw from."""

    def __init__(self, order: int, sequences: list[list[int]]):
        self.order = order
        self.following: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for ids in sequences:
            for i, token in enumerate(ids):
                for size in range(min(i, order - 1) + 1):
                    self.following[tuple(ids[i - size : i])].append(token)

    def continue_(self, ids: list[int], rng: random.Random) -> list[int]:
        text = list(ids)
        for _ in range(MAX_ORDER):
            for size in range(min(len(text), self.order - 1), -1, -1):
                options = self.following.get(tuple(text[len(text) - size :]))
                if options:
                    text.append(rng.choice(options))
                    break
        return text[len(ids) :]


def measure(stories: int, texts: int, samples: int = 4) -> dict[str, float]:
    tokenizer = load_tokenizer("story-k4")
    eos = tokenizer.eos_token_id
    sequences = [[eos, *tokenizer(text)["input_ids"], eos] for text in storyland.corpus(stories, 100_000)]
    held_out = [tokenizer(text)["input_ids"] for text in storyland.stories("validation", texts)]
    scores = {}
    for order in (2, 4):
        model, rng, rows = NGrams(order, sequences), random.Random(0), []
        for ids in held_out:
            targets = torch.tensor(ids).unfold(0, MAX_ORDER, MAX_ORDER)
            drawn = [
                [model.continue_([eos, *ids[: i * MAX_ORDER]], rng) for i in range(len(targets))]
                for _ in range(samples)
            ]
            rows.append(brier_n(torch.tensor(drawn), targets))
        scores[f"{order}-gram"] = float(geometric_mean(torch.cat(rows).mean(0).double().numpy()))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scores = measure(arguments.stories, arguments.texts)
    print(
        json.dumps(scores)
        if arguments.json
        else "\n".join(f"{name}: BrierLM {score:.2f}" for name, score in scores.items())
    )


if __name__ == "__main__":
    main()
