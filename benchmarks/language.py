"""What is there to learn? BrierLM of Storyland itself, and how far models are behind it.

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
from calm.storyland.exact import Telling, beginning, next_words, weight

Tokens = tuple[int, ...]
Likely = dict[Tokens, float]
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

    def read(self, text: str) -> tuple[list[Likely], float]:
        """The probabilities of the next tokens at every fourth token of a story, and the nats of all words and the end.

        Raises ValueError for a text that is no story of Storyland.
        """
        words = [text[begin:end] for _, (begin, end) in self.split(text)]
        ids = [token for word in words for token in self.tokens(word)]
        places = iter(range(0, len(ids) - MAX_ORDER + 1, MAX_ORDER))
        place, reached, tellings = next(places, None), 0, [beginning()]
        nats, found = 0.0, []
        for word in [*words, ""]:
            ways = next_words(tellings, self.first_word)
            if word not in ways:
                raise ValueError(f"No story of Storyland begins: {text}")
            behind = reached + len(self.tokens(word))
            while place is not None and place <= behind:
                seen = tuple(ids[reached:place])
                begun = [
                    (tokens[len(seen) :], further)
                    for other, further in ways.items()
                    if (tokens := self.tokens(other))[: len(seen)] == seen
                ]
                found.append(self._next_tokens(begun))
                place = next(places, None)
            nats -= math.log(weight(ways[word]) / sum(map(weight, ways.values())))
            tellings, reached = ways[word], behind
        return found, nats

    def _next_tokens(self, ways: list[tuple[Tokens, list[Telling]]]) -> Likely:
        """The probabilities of the next 1 to 4 tokens, given partial derivations that have produced the text so far."""
        total = sum(weight(tellings) for _, tellings in ways)
        likely: Likely = defaultdict(float)
        begun = [(0, tokens, tellings) for tokens, tellings in ways]
        while begun:
            counted, tokens, tellings = begun.pop()
            tokens = tokens[:MAX_ORDER]
            for n in range(counted, len(tokens)):
                likely[tokens[: n + 1]] += weight(tellings) / total
            if len(tokens) == MAX_ORDER:
                continue
            for word, further in next_words(tellings, self.first_word, FLOOR * total).items():
                said = self.tokens(word)
                if not word:  # after the end of a story the next one begins, as in the training data
                    said, further = (self.tokenizer.eos_token_id,), [replace(beginning(), scale=weight(further))]
                begun.append((len(tokens), tokens + said, further))
        return likely


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


def collisions(places: list[Likely]) -> np.ndarray:
    """The probability that two draws of the language are equal [P, 4]: the sum of p^2."""
    sums = np.zeros((len(places), MAX_ORDER))
    for row, likely in zip(sums, places):
        for tokens, p in likely.items():
            row[len(tokens) - 1] += p * p
    return sums


def likelihoods(places: list[Likely], tokens: list[list[int]]) -> np.ndarray:
    """The probability under the language of the first 1 to 4 tokens at each position [P, 4]."""
    return np.array(
        [[likely.get(tuple(said[: n + 1]), 0.0) for n in range(MAX_ORDER)] for likely, said in zip(places, tokens)]
    )


def expectation(read: dict[str, list[Likely]]) -> ExpectedMatch:
    """The ``expected_match`` of ``calm.brier_lm`` for texts whose next-token probabilities are in ``read``."""

    def expected(text: str, drawn: torch.Tensor) -> torch.Tensor:
        step = -(-len(read[text]) // drawn.shape[1])  # a chunk of eight tokens begins at every other place
        return torch.from_numpy(np.array([likelihoods(read[text][::step], draw) for draw in drawn.tolist()]))

    return expected


def measure(models: list[calm.LanguageModel], texts: list[str], samples: int) -> dict[str, Any]:
    language = Language()
    read, told = {}, 0.0
    for text in texts:
        read[text], nats_of_text = language.read(text)
        told += nats_of_text
    ids = {text: language.tokenizer(text)["input_ids"] for text in texts}
    tokens = sum(len(of_text) + 1 for of_text in ids.values())
    own = {text: collisions(places) for text, places in read.items()}

    def itself(step: int) -> calm.BrierLM:
        """The expected score of the true distribution at every ``step``-th position."""
        return summarize(tuple(_by_text(equal[::step], equal[::step]) for equal in own.values()))

    def on_the_texts() -> calm.BrierLM:
        found = []
        for text, places in read.items():
            targets = [ids[text][MAX_ORDER * place :][:MAX_ORDER] for place in range(len(places))]
            found.append(_by_text(likelihoods(places, targets), own[text]))
        return summarize(tuple(found))

    def against(lm: calm.LanguageModel) -> dict[str, Any]:
        step = max(1, lm.chunk_size // MAX_ORDER)
        likely, missed = expectation(read), []

        def expected(text: str, drawn: torch.Tensor) -> torch.Tensor:
            hits = likely(text, drawn)
            equal = accuracy_and_collisions(drawn, drawn[0])[1]
            missed.append(own[text][::step, -1] - brier(hits.mean(0), equal)[:, -1].numpy())
            return hits

        found = calm.brier_lm(lm, texts, samples=samples, stride=step * MAX_ORDER, expected_match=expected)
        figures = {**found.figures(), "behind": asdict(calm.brier_difference(itself(step), found))}
        places, certain = np.concatenate(missed), np.concatenate([own[text][::step, -1] for text in texts]) > CERTAIN
        figures["Brier-4"] = {"missed": 100 * places.mean(), "certain": 100 * (places * certain).mean()}
        return figures if lm.is_calm else {**figures, "nats a token": sum(nats(lm, text) for text in texts) / tokens}

    of_the_language = {
        **itself(1).figures(),
        "on the texts": on_the_texts().figures(),
        "nats a token": told / tokens,
    }
    return {"Storyland": of_the_language, **{lm.name: against(lm) for lm in models}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SPLITS["validation"].start, help="of the first text")
    parser.add_argument("--samples", type=int, default=2, help="draws at each place")
    parser.add_argument("--out", help="a file for the figures")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    models = [calm.load(name) for name in arguments.models]
    found = measure(models, list(corpus(arguments.texts, arguments.seed)), arguments.samples)
    if arguments.out:
        command = f"python -m benchmarks.language {' '.join(sys.argv[1:])}"
        Path(arguments.out).write_text(json.dumps({"command": command, **found}, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        line = f"{name:16} BrierLM {figures['score']:.2f} ({figures['low']:.2f} to {figures['high']:.2f})"
        if "on the texts" in figures:
            line += ", on the texts {score:.2f} ({low:.2f} to {high:.2f})".format(**figures["on the texts"])
        if "behind" in figures:
            line += ", {difference:.2f} ({low:.2f} to {high:.2f}) behind".format(**figures["behind"])
            line += ", Brier-4 {missed:.2f}, {certain:.2f} where the language is certain".format(**figures["Brier-4"])
        if "nats a token" in figures:
            line += f", {figures['nats a token']:.4f} nats a token"
        print(line)


if __name__ == "__main__":
    main()
