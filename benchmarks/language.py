"""BrierLM of Storyland itself, the upper bound of every model, and the gap between each model and this bound.

    python -m benchmarks.language [MODEL ...] [--texts 100] [--seed 10000000] [--samples 2] [--out FILE] [--json]

The probabilities of the next tokens are exact (``calm.storyland.tokens``), except for continuations below 0.0001. The
score of the language is its expectation: Brier-n is the sum of p^2 over all continuations of n tokens. The score of a
model is an expectation over the next tokens, too: each of its draws counts with its true probability, and not with
whether it matches the text (``expected_match`` of ``calm.brier_lm``). All are measured at the same positions, every
eight tokens, where a chunk of every bundled model ends. The program also prints how much of Brier-4 a model misses,
and how much of that where the true distribution is certain of all four tokens.
Further figures are the nats per token of the true distribution and of the named token-by-token models. The texts are
held-out stories, by default those of the model cards. ``--out`` writes ``assets/language.json``, which the page
draws.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calm
from calm.evaluation.brier import MAX_ORDER, ExpectedMatch, accuracy_and_collisions, brier, summarize
from calm.hub.loading import load_tokenizer
from calm.storyland import SPLITS, corpus
from calm.storyland.tokens import TokenLanguage

Tokens = tuple[int, ...]
Probabilities = dict[Tokens, float]
TOKENIZER = "story-k4"  # that of all bundled models
CERTAIN = 0.9999
STRIDE = 8
"""Tokens between two positions at which models are measured."""


def read(language: TokenLanguage, text: str) -> tuple[list[Probabilities], float]:
    """The probabilities of the next 1 to 4 tokens at every fourth token of a story, and the nats of the whole story and
    its end.

    Raises ValueError for a text that is not a story of Storyland.
    """
    contexts = list(language.contexts(text))
    positions = []
    for context, _ in contexts[: len(contexts) - MAX_ORDER : MAX_ORDER]:  # four tokens of the text follow
        probabilities: Probabilities = defaultdict(float)
        for chunk, (probability, _) in language.chunks(context, MAX_ORDER).items():
            for n in range(MAX_ORDER):
                probabilities[chunk[: n + 1]] += probability
        positions.append(probabilities)
    whole = language.after(*contexts[-1])
    return positions, math.log(contexts[0][0].probability / whole.probability)


def nats(lm: calm.LanguageModel, text: str) -> float:
    """Nats of a text and its end by a token-by-token model."""
    end = lm.tokenizer.eos_token_id
    ids = torch.tensor([end, *lm.tokenize(text), end], device=lm.device)
    with torch.inference_mode():
        logits = lm.llama(ids[None, :-1]).logits[0].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))


def _by_text(hits: np.ndarray, equal: np.ndarray) -> tuple[float, ...]:
    """Hits and collisions [P, 4] of a text -> its entry in ``BrierLM.per_text``."""
    return (*brier(hits, equal).sum(0), float(len(hits)))


def collisions(positions: list[Probabilities]) -> np.ndarray:
    """The probability that two draws of the language are equal [P, 4]: the sum of p^2."""
    sums = np.zeros((len(positions), MAX_ORDER))
    for row, probabilities in zip(sums, positions):
        for tokens, p in probabilities.items():
            row[len(tokens) - 1] += p * p
    return sums


def likelihoods(positions: list[Probabilities], tokens: list[list[int]]) -> np.ndarray:
    """The probability under the language of the first 1 to 4 tokens at each position [P, 4]."""
    return np.array([[p.get(tuple(ids[: n + 1]), 0.0) for n in range(MAX_ORDER)] for p, ids in zip(positions, tokens)])


def expectation(probabilities: dict[str, list[Probabilities]]) -> ExpectedMatch:
    """The ``expected_match`` of ``calm.brier_lm`` for texts whose next-token probabilities are known."""

    def expected(text: str, drawn: torch.Tensor) -> torch.Tensor:
        positions = probabilities[text]
        step = -(-len(positions) // drawn.shape[1])  # the model may be measured at every second position alone
        return torch.from_numpy(np.array([likelihoods(positions[::step], draw) for draw in drawn.tolist()]))

    return expected


def measure(models: list[calm.LanguageModel], texts: list[str], samples: int) -> dict[str, Any]:
    """BrierLM and nats per token of the language, and of each model with its gap to the language."""
    language = TokenLanguage(load_tokenizer(TOKENIZER))
    probabilities, total_nats = {}, 0.0
    for text in texts:
        probabilities[text], nats_of_text = read(language, text)
        total_nats += nats_of_text
    tokens = sum(len(language.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts)
    own = {text: collisions(positions[:: STRIDE // MAX_ORDER]) for text, positions in probabilities.items()}
    itself = summarize(tuple(_by_text(equal, equal) for equal in own.values()))

    def of_model(lm: calm.LanguageModel) -> dict[str, Any]:
        expected, missed = expectation(probabilities), []

        def expected_and_missed(text: str, drawn: torch.Tensor) -> torch.Tensor:
            hits = expected(text, drawn)
            equal = accuracy_and_collisions(drawn, drawn[0])[1]
            missed.append(own[text][:, -1] - brier(hits.mean(0), equal)[:, -1].numpy())
            return hits

        score = calm.brier_lm(lm, texts, samples=samples, stride=STRIDE, expected_match=expected_and_missed)
        figures = {**score.figures(), "gap": asdict(calm.brier_difference(itself, score))}
        gaps, certain = np.concatenate(missed), np.concatenate([own[text][:, -1] for text in texts]) > CERTAIN
        figures["Brier-4"] = {"missed": 100 * gaps.mean(), "certain": 100 * (gaps * certain).mean()}
        return figures if lm.is_calm else {**figures, "nats a token": sum(nats(lm, text) for text in texts) / tokens}

    of_the_language = {**itself.figures(), "nats a token": total_nats / tokens}
    return {"Storyland": of_the_language, **{lm.name: of_model(lm) for lm in models}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SPLITS["validation"].start, help="of the first text")
    parser.add_argument("--samples", type=int, default=2, help="draws at each position")
    parser.add_argument("--out", help="a file for the figures")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    models = [calm.load(name) for name in arguments.models]
    results = measure(models, list(corpus(arguments.texts, arguments.seed)), arguments.samples)
    if arguments.out:
        command = f"python -m benchmarks.language {' '.join(sys.argv[1:])}"
        Path(arguments.out).write_text(json.dumps({"command": command, **results}, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        line = f"{name:16} BrierLM {figures['score']:.2f} ({figures['low']:.2f} to {figures['high']:.2f})"
        if "gap" in figures:
            line += ", gap {difference:.2f} ({low:.2f} to {high:.2f})".format(**figures["gap"])
            line += ", Brier-4 {missed:.2f}, {certain:.2f} where the language is certain".format(**figures["Brier-4"])
        if "nats a token" in figures:
            line += f", {figures['nats a token']:.4f} nats a token"
        print(line)


if __name__ == "__main__":
    main()
