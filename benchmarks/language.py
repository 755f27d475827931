"""BrierLM of Storyland itself, the upper bound of every model, and the gap between each model and this bound.

    python -m benchmarks.language [MODEL ...] [--texts 100] [--seed 10000000] [--samples 2] [--out FILE] [--json]

The probabilities of the next tokens are exact (``calm.storyland.exact``), except for continuations below 0.0001. "On
the texts" is Brier-n of the true distribution on these texts, 2 p(y) - sum of p^2 over all continuations of n tokens,
as in the model cards. Its expectation over texts is the sum of p^2. The expectation for a model averages over the
next tokens, too: each of its draws counts with its true probability, and not with whether it matches the text
(``expected_match`` of ``calm.brier_lm``), at the same positions and with the same contexts. The program also prints
how much of Brier-4 a model misses, and how much of that where the true distribution is certain of all four tokens.
Further figures are the nats per token of the true distribution and of the named token-by-token models. The texts are
held-out stories, by default those of the model cards. ``--out`` writes ``assets/language.json``, which the page
draws.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calm
from calm.evaluation.brier import MAX_ORDER, ExpectedMatch, accuracy_and_collisions, brier, summarize
from calm.hub.loading import load_tokenizer
from calm.storyland import SPLITS, corpus
from calm.storyland.exact import Telling, beginnings, next_words, weight

Tokens = tuple[int, ...]
Probabilities = dict[Tokens, float]
FLOOR = 1e-4
CERTAIN = 0.9999


class Language:
    """Storyland in the tokens of the bundled models."""

    def __init__(self, name: str = "story-k4"):
        self.tokenizer = load_tokenizer(name)
        self.split = self.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
        self.tokens = cache(lambda word: tuple(self.tokenizer(word, add_special_tokens=False)["input_ids"]))
        self.first_word = cache(self._first_word)

    def _first_word(self, text: str) -> str | None:
        words = self.split(text)
        return text[: words[0][1][1]] if len(words) > 1 else None

    def read(self, text: str) -> tuple[list[Probabilities], float]:
        """The probabilities of the next tokens at every fourth token of a story, and the nats of all words and the end.

        Raises ValueError for a text that is not a story of Storyland.
        """
        words = [text[begin:end] for _, (begin, end) in self.split(text)]
        ids = [token for word in words for token in self.tokens(word)]
        positions = iter(range(0, len(ids) - MAX_ORDER + 1, MAX_ORDER))
        position, start, derivations = next(positions, None), 0, list(beginnings())
        nats, probabilities = 0.0, []
        for word in [*words, ""]:
            branches = next_words(derivations, self.first_word)
            if word not in branches:
                raise ValueError(f"No story of Storyland begins: {text}")
            end = start + len(self.tokens(word))
            while position is not None and position <= end:
                prefix = tuple(ids[start:position])
                matching = [
                    (tokens[len(prefix) :], extended)
                    for other, extended in branches.items()
                    if (tokens := self.tokens(other))[: len(prefix)] == prefix
                ]
                probabilities.append(self._next_tokens(matching))
                position = next(positions, None)
            nats -= math.log(weight(branches[word]) / sum(map(weight, branches.values())))
            derivations, start = branches[word], end
        return probabilities, nats

    def _next_tokens(self, branches: list[tuple[Tokens, list[Telling]]]) -> Probabilities:
        """The probabilities of the next 1 to 4 tokens, given partial derivations that have produced the text so far."""
        total = sum(weight(derivations) for _, derivations in branches)
        probabilities: Probabilities = defaultdict(float)
        unfinished = [(0, tokens, derivations) for tokens, derivations in branches]
        while unfinished:
            counted, tokens, derivations = unfinished.pop()
            tokens = tokens[:MAX_ORDER]
            for n in range(counted, len(tokens)):
                probabilities[tokens[: n + 1]] += weight(derivations) / total
            if len(tokens) == MAX_ORDER:
                continue
            for word, extended in next_words(derivations, self.first_word, FLOOR * total).items():
                added = self.tokens(word)
                if not word:  # after the end of a story the next one begins, as in the training data
                    ended = weight(extended)
                    added = (self.tokenizer.eos_token_id,)
                    extended = [replace(one, scale=one.scale * ended) for one in beginnings()]
                unfinished.append((len(tokens), tokens + added, extended))
        return probabilities


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
        step = -(-len(positions) // drawn.shape[1])  # chunks of eight tokens start at every second position
        return torch.from_numpy(np.array([likelihoods(positions[::step], draw) for draw in drawn.tolist()]))

    return expected


def measure(models: list[calm.LanguageModel], texts: list[str], samples: int) -> dict[str, Any]:
    """BrierLM and nats per token of the language, and of each model with its gap to the language."""
    language = Language()
    probabilities, total_nats = {}, 0.0
    for text in texts:
        probabilities[text], nats_of_text = language.read(text)
        total_nats += nats_of_text
    ids = {text: language.tokenizer(text)["input_ids"] for text in texts}
    tokens = sum(len(of_text) + 1 for of_text in ids.values())
    own = {text: collisions(positions) for text, positions in probabilities.items()}

    def itself(step: int) -> calm.BrierLM:
        """The expected score of the true distribution at every ``step``-th position."""
        return summarize(tuple(_by_text(equal[::step], equal[::step]) for equal in own.values()))

    def on_the_texts() -> calm.BrierLM:
        per_text = []
        for text, positions in probabilities.items():
            targets = [ids[text][MAX_ORDER * i :][:MAX_ORDER] for i in range(len(positions))]
            per_text.append(_by_text(likelihoods(positions, targets), own[text]))
        return summarize(tuple(per_text))

    def of_model(lm: calm.LanguageModel) -> dict[str, Any]:
        step = max(1, lm.chunk_size // MAX_ORDER)
        expected, missed = expectation(probabilities), []

        def expected_and_missed(text: str, drawn: torch.Tensor) -> torch.Tensor:
            hits = expected(text, drawn)
            equal = accuracy_and_collisions(drawn, drawn[0])[1]
            missed.append(own[text][::step, -1] - brier(hits.mean(0), equal)[:, -1].numpy())
            return hits

        score = calm.brier_lm(lm, texts, samples=samples, stride=step * MAX_ORDER, expected_match=expected_and_missed)
        figures = {**score.figures(), "gap": asdict(calm.brier_difference(itself(step), score))}
        gaps, certain = np.concatenate(missed), np.concatenate([own[text][::step, -1] for text in texts]) > CERTAIN
        figures["Brier-4"] = {"missed": 100 * gaps.mean(), "certain": 100 * (gaps * certain).mean()}
        return figures if lm.is_calm else {**figures, "nats a token": sum(nats(lm, text) for text in texts) / tokens}

    of_the_language = {
        **itself(1).figures(),
        "on the texts": on_the_texts().figures(),
        "nats a token": total_nats / tokens,
    }
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
        if "on the texts" in figures:
            line += ", on the texts {score:.2f} ({low:.2f} to {high:.2f})".format(**figures["on the texts"])
        if "gap" in figures:
            line += ", gap {difference:.2f} ({low:.2f} to {high:.2f})".format(**figures["gap"])
            line += ", Brier-4 {missed:.2f}, {certain:.2f} where the language is certain".format(**figures["Brier-4"])
        if "nats a token" in figures:
            line += f", {figures['nats a token']:.4f} nats a token"
        print(line)


if __name__ == "__main__":
    main()
