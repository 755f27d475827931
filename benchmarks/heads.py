"""The three generative heads compared: quality and speed over the number of evaluations in a draw.

    python -m benchmarks.heads quality [--texts 60] [--stories 48]
    python -m benchmarks.heads speed [--rounds 7]
    python -m benchmarks.heads places
    python -m benchmarks.heads table

The heads are those of the recipes heads-energy, heads-diffusion and heads-flow (``--runs`` names their folder), which
differ in the head alone: each was trained from random weights on the frozen backbone of ``story-k4`` for the same CPU
time. The bundled ``story-k4``, whose energy head was trained far longer, is the reference. One thread computes.

- ``quality``: BrierLM of held-out stories, and the share of well-formed sentences in generated ones, with 95 %
  intervals that resample stories. At T = 0.5, with pools of 50 draws, only the largest number of evaluations of each
  head is measured, on a third of the stories.
- ``speed``: draws per second at one position, 128 at a time, by the PyTorch modules of each head; the median of
  interleaved rounds.
- ``places``: 200 draws of each head at fixed chunk boundaries with several continuations, in the first two principal
  components of all draws, next to the chunks that Storyland allows there.
- ``table`` prints the file. The other commands write their part of it (``--out``, ``assets/heads.json``).
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calm
from calm import storyland
from calm.files import write_json
from calm.modeling.heads.base import GenerativeHead
from calm.storyland.tokens import TokenLanguage

from .rounds import medians, seconds

REFERENCE = "story-k4"
EVALUATIONS = {"energy": (1,), "flow": (2, 4, 10, 20), "diffusion": (10, 20, 50, 100)}
"""Numbers of evaluations of a head's network in one draw; the last is that of the official code."""
STORY_TOKENS = 160
POOL = 50
TEXTS_AT_ONCE = 8  # as many requests as an engine runs at once
DRAWS_AT_ONCE = 128
PLACES = ((0, 7), (4, 14), (2, 20))
"""Stories of the split ``cost_benchmark``, and the number of chunks of each that are the context of a place."""
DRAWS = 200
LIKELY = 0.05
"""Storyland's chunks of at least this probability are marked at a place."""


@dataclass(frozen=True)
class Contestant:
    """A model with a number of evaluations for each draw."""

    name: str
    """The name of its head, or of the reference model."""
    folder: str
    evaluations: int

    def load(self) -> calm.LanguageModel:
        lm = calm.load(self.folder, device="cpu")
        lm.calm.generative_head.num_sampling_steps = self.evaluations
        return lm

    @property
    def is_official(self) -> bool:
        """Whether the official code evaluates the head as often."""
        return self.evaluations == EVALUATIONS.get(self.name, (1,))[-1]


def contestants(runs: Path) -> Iterator[Contestant]:
    for name, numbers in EVALUATIONS.items():
        yield from (Contestant(name, str(runs / f"heads-{name}" / "last"), number) for number in numbers)
    yield Contestant(REFERENCE, REFERENCE, 1)


def interval(good: list[int], all_of: list[int]) -> dict[str, float]:
    """The share sum(good) / sum(all_of) with a 95 % bootstrap interval that resamples the pairs."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(good), size=(2000, len(good)))
    shares = np.array(good)[picks].sum(1) / np.maximum(np.array(all_of)[picks].sum(1), 1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return {"value": sum(good) / max(sum(all_of), 1), "low": float(low), "high": float(high)}


def well_formed(lm: calm.LanguageModel, stories: int, temperature: float) -> dict[str, float]:
    """The share of well-formed sentences in generated stories, with its interval."""

    def write(seed: int) -> str:
        steps = calm.generate(lm, "", temperature, max_new_tokens=STORY_TOKENS, pool_size=POOL, seed=seed)
        return "".join(step.text for step in steps)

    with ThreadPoolExecutor(TEXTS_AT_ONCE) as threads:
        checks = [storyland.check(text) for text in threads.map(write, range(stories))]
    counts = [check.sentences for check in checks]
    return interval([count - len(check.ill_formed) for count, check in zip(counts, checks)], counts)


def quality(contestant: Contestant, texts: list[str], stories: int) -> dict[str, Any]:
    lm = contestant.load()
    brier = calm.brier_lm(lm, texts)
    figures: dict[str, Any] = {
        "brier_lm": {"value": brier.score, "low": brier.low, "high": brier.high},
        "well_formed": well_formed(lm, stories, 1.0),
    }
    if contestant.is_official:
        figures["well_formed_tempered"] = well_formed(lm, -(-stories // 3), 0.5)
    return figures


@torch.inference_mode()
def speeds(all_of: list[Contestant], rounds: int) -> dict[Contestant, float]:
    """Draws per second of each contestant: the median of interleaved rounds, after one that is not counted."""
    heads = {contestant: contestant.load().calm.generative_head for contestant in all_of}
    hidden = torch.randn(1, calm.load(REFERENCE).calm.config.hidden_size, generator=torch.Generator().manual_seed(0))
    rows = torch.zeros(DRAWS_AT_ONCE, dtype=torch.long)

    def rate(head: GenerativeHead, _: int) -> float:
        return DRAWS_AT_ONCE / seconds(
            lambda: head.draw(head.project(hidden), head.noise((DRAWS_AT_ONCE,), hidden), rows)
        )

    return medians({contestant: partial(rate, head) for contestant, head in heads.items()}, rounds)


@torch.inference_mode()
def place(models: dict[str, calm.LanguageModel], text: str, chunks: int) -> dict[str, Any]:
    """The draws of each model after the first ``chunks`` chunks of a story."""
    lm = models[REFERENCE]
    k, autoencoder, tokenizer = lm.chunk_size, lm.calm.ae_model, lm.tokenizer
    ids = lm.tokenize(text)[: chunks * k]
    language = TokenLanguage(tokenizer)
    context, _ = next(itertools.islice(language.contexts(text), chunks * k, None))
    probabilities = {chunk: p for chunk, (p, _) in language.chunks(context, k).items()}
    likely = sorted((c for c, p in probabilities.items() if p >= LIKELY), key=lambda c: -probabilities[c])

    hidden = lm.calm(torch.tensor([[lm.tokenizer.eos_token_id] * k + ids]), use_cache=False)[0, -1]
    generator = torch.Generator().manual_seed(0)
    vectors = {name: m.calm.generative_head.sample(hidden, DRAWS, generator).float() for name, m in models.items()}
    decoded = {name: [tuple(row) for row in autoencoder.decode(drawn).tolist()] for name, drawn in vectors.items()}
    table = list(dict.fromkeys([*likely, *itertools.chain.from_iterable(decoded.values())]))

    everything = torch.cat(list(vectors.values()))
    centre = everything.mean(0)
    axes = torch.linalg.svd(everything - centre, full_matrices=False).Vh[:2].T
    centres = ((autoencoder.encode(torch.tensor(likely))[0] - centre) @ axes).tolist()
    return {
        "context": tokenizer.decode(ids),
        "chunks": [{"text": tokenizer.decode(c), "probability": round(probabilities.get(c, 0.0), 4)} for c in table],
        "likely": [[round(x, 2), round(y, 2)] for x, y in centres],
        "draws": [
            {
                "name": name,
                "points": [[round(x, 2), round(y, 2)] for x, y in ((drawn - centre) @ axes).tolist()],
                "chunks": [table.index(chunk) for chunk in decoded[name]],
            }
            for name, drawn in vectors.items()
        ],
    }


def training(run: Path) -> dict[str, float]:
    """Steps, tokens and seconds of CPU time of a run, from its log."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    *_, last = (line for line in lines if "cpu_seconds" in line)
    return {key: last[key] for key in ("step", "tokens", "cpu_seconds")}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"heads": [], "places": []}


def add(content: dict[str, Any], contestant: Contestant, figures: dict[str, Any]) -> None:
    """Puts figures of a contestant into its point."""
    names = [head["name"] for head in content["heads"]]
    if contestant.name not in names:
        content["heads"].append({"name": contestant.name, "points": []})
    head = next(head for head in content["heads"] if head["name"] == contestant.name)
    points = {point["evaluations"]: point for point in head["points"]}
    number = contestant.evaluations
    points[number] = {"evaluations": number, **points.get(number, {}), **figures}
    head["points"] = [points[number] for number in sorted(points)]


def table(content: dict[str, Any]) -> str:
    """A Markdown table of all points."""
    columns = ("head", "evaluations", "draws/s", "BrierLM", "well-formed, T = 1", "well-formed, T = 0.5")
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]

    def cell(figure: dict[str, float] | None, scale: float = 1) -> str:
        if not figure:
            return ""
        value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
        return f"{value:.1f} ({low:.1f} to {high:.1f})"

    for head in content["heads"]:
        for point in head["points"]:
            cells = (
                head["name"],
                str(point["evaluations"]),
                f"{point.get('draws_per_second', 0):,.0f}",
                cell(point.get("brier_lm")),
                cell(point.get("well_formed"), 100),
                cell(point.get("well_formed_tempered"), 100),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("quality", "speed", "places", "table"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("assets/heads.json"))
    parser.add_argument("--texts", type=int, default=60, help="held-out stories for BrierLM")
    parser.add_argument(
        "--stories", type=int, default=48, help="generated stories at T = 1; a third as many at T = 0.5"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the contestants to measure; all by default")
    parser.add_argument("--evaluations", nargs="+", type=int, help="numbers of evaluations to measure; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content = read(arguments.out)
    chosen = [
        contestant
        for contestant in contestants(arguments.runs)
        if not arguments.only or contestant.name in arguments.only
        if not arguments.evaluations or contestant.evaluations in arguments.evaluations
    ]
    if arguments.command == "quality":
        texts = list(storyland.stories("cost_benchmark", arguments.texts))
        for contestant in chosen:
            add(content, contestant, quality(contestant, texts, arguments.stories))
            write_json(arguments.out, content, ensure_ascii=False)
    elif arguments.command == "speed":
        for contestant, rate in speeds(chosen, arguments.rounds).items():
            add(content, contestant, {"draws_per_second": rate})
    elif arguments.command == "places":
        models = {c.name: c.load() for c in chosen if c.is_official}
        texts = list(storyland.stories("cost_benchmark", max(number for number, _ in PLACES) + 1))
        content["places"] = [place(models, texts[number], chunks) for number, chunks in PLACES]
    if arguments.command != "table":
        for head in content["heads"]:
            if head["name"] != REFERENCE:
                head["training"] = training(arguments.runs / f"heads-{head['name']}")
        write_json(arguments.out, content, ensure_ascii=False)
    print(table(content))


if __name__ == "__main__":
    main()
