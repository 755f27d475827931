"""The part of an energy score that is imprecision which the autoencoder corrects.

    python -m benchmarks.precision [--model story-k4] [--rival story-ar] [--texts 60] [--draws 8] [--json]

At the chunk boundaries of held-out stories, the program computes energy scores (paper, eq. 10, with the exponent of the
training) against the posterior mean of the next chunk of the text. It scores a CALM's draws; the same draws, each
replaced by the posterior mean of the chunk that it decodes to; and encoded chunks that a token-by-token model generates
there. Lower is better.
"""

import argparse
import json

import torch
from torch import Tensor

import calm
from calm.evaluation.brier import MAX_ORDER
from calm.modeling.losses import energy_score
from calm.storyland import stories

from .tradeoff import contexts_of, generated, hidden_states, targets


@torch.inference_mode()
def measure(lm: calm.LanguageModel, rival: calm.LanguageModel, texts: list[str], draws: int) -> dict[str, float]:
    model, head = lm.calm, lm.calm.generative_head
    autoencoder = model.ae_model
    contexts = contexts_of(lm, texts, MAX_ORDER)
    target = autoencoder.encode(targets(contexts).to(lm.device))[0][:, None]  # [P, 1, L]

    def score(vectors: Tensor) -> float:
        """Vectors [N, P, L] -> the mean energy score over all positions."""
        return float(energy_score(vectors.movedim(0, 1), target, model.config.beta).mean())

    hidden = hidden_states(lm, contexts)
    drawn = head(hidden, head.noise((draws, len(hidden)), hidden, torch.Generator(lm.device).manual_seed(0)))
    chunks = torch.stack([generated(rival, contexts, 1.0, seed) for seed in range(draws)]).to(lm.device)
    chunks = chunks.where(chunks >= 0, lm.tokenizer.eos_token_id)
    return {
        "positions": len(hidden),
        "drawn": score(drawn),
        "decoded and encoded": score(autoencoder.encode(autoencoder.decode(drawn))[0]),
        rival.name: score(autoencoder.encode(chunks)[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="story-k4", help="a CALM with K = 4")
    parser.add_argument("--rival", default="story-ar")
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--draws", type=int, default=8, help="draws per position, at least 2")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = list(stories("precision_benchmark", arguments.texts))
    figures = measure(calm.load(arguments.model), calm.load(arguments.rival), texts, arguments.draws)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{figures.pop('positions')} positions")
    for name, score in figures.items():
        print(f"{name:20} energy score {score:.4f}")


if __name__ == "__main__":
    main()
