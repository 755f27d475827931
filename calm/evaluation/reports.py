"""The figures of evaluation.json: reconstruction, BrierLM, cost, and the quality of generated stories."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from .. import storyland
from ..data.documents import read_documents
from ..errors import CalmError, check_integer
from ..generation import GenerationOptions, generate
from ..hub.language_model import LanguageModel
from ..modeling.losses import clamped_kl
from ..reconstruction import reconstruct
from .brier import MAX_ORDER, brier_lm, measure_positions, summarize
from .continuations import ContinuationRequest, without_pauses
from .cost import flops_per_token, training_flops_per_token

STORY_TOKENS = 320  # the longest of 400 held-out stories has 285 with its prompt


def read_texts(sources: Sequence[str], limit: int | None) -> dict[str, list[str]]:
    """The first ``limit`` texts of each source; all of them without a limit. Raises CalmError for a limit below 1."""
    if limit is not None:
        check_integer("limit", limit, 1)
    return {source: list(islice(read_documents(source), limit)) for source in sources}


def reconstruction(lm: LanguageModel, texts: Sequence[str], noises: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Token accuracy in [0, 1] over all texts: ``token_accuracy`` maps each standard deviation of noise, and 0, to it.

    ``tokens`` is the number of tokens. ``bits_per_dimension`` is the mean divergence of the posterior from the prior in
    bits for each latent dimension: what a latent vector can hold at most.
    """
    accuracy, bits = {}, 0.0
    for noise in (0.0, *noises):
        restored = tokens = chunks = 0
        nats = 0.0
        for number, text in enumerate(filter(None, texts)):
            result = reconstruct(lm, text, noise, seed + number)
            restored += round(result.token_accuracy * result.tokens)
            tokens += result.tokens
            chunks += len(result.chunks)
            mean, std = (
                torch.from_numpy(np.stack(values)) for values in zip(*((c.mean, c.std) for c in result.chunks))
            )
            nats += len(mean) * float(clamped_kl(mean, std.log(), floor=0))
        accuracy[f"{noise:g}"] = restored / tokens
        bits = nats / chunks / lm.calm.config.latent_size / math.log(2)
    return {"token_accuracy": accuracy, "tokens": tokens, "bits_per_dimension": bits}


def positions(
    lm: LanguageModel, texts: Sequence[str], row_tokens: int, samples: int = 2, seed: int = 0
) -> list[dict[str, Any]]:
    """BrierLM by position in packed rows: whether a model works at late positions.

    Each row of ``row_tokens`` tokens begins with the start of a text; an end of text separates one text from the next.
    Each quarter of a row has the fields of ``calm.brier_lm`` and ``tokens``, its first and last (exclusive) token. The
    bootstrap resamples rows. Raises CalmError unless ``row_tokens`` is a multiple of 4 * max(K, 4) within the context,
    and if the texts do not fill a row.
    """
    _check_row_tokens(lm, row_tokens)
    k = lm.chunk_size
    stride = max(k, MAX_ORDER)
    context = stride if lm.text_format.single_start else k  # the positions of brier_lm
    rows: list[list[int]] = []
    row: list[int] = []
    for text in texts:
        row = row or (lm.text_format.start(k) if lm.is_calm else [lm.text_format.start_id])
        row = [*row, *lm.tokenize(text), lm.tokenizer.eos_token_id]
        if len(row) >= row_tokens:
            rows.append(row[:row_tokens])
            row = []
    if not rows:
        raise CalmError(f"The texts do not fill a row of {row_tokens:,} tokens.")
    generator = torch.Generator(lm.device).manual_seed(seed)
    requests = (ContinuationRequest(row, context, stride, samples) for row in rows)
    values = np.stack([without_pauses(measure_positions(lm, each, generator)) for each in requests])  # [rows, P, 4]
    quarters = (context + stride * np.arange(values.shape[1])) // (row_tokens // 4)
    figures = []
    for quarter in range(4):
        part = values[:, quarters == quarter]
        per_row = tuple((*row.sum(0).tolist(), float(len(row))) for row in part)
        tokens = [quarter * row_tokens // 4, (quarter + 1) * row_tokens // 4]
        figures.append({"tokens": tokens, "rows": len(rows), **summarize(per_row, seed).figures()})
    return figures


def _check_row_tokens(lm: LanguageModel, row_tokens: int) -> None:
    quarter = 4 * max(lm.chunk_size, MAX_ORDER)
    check_integer("row_tokens", row_tokens, quarter, lm.context_length * lm.chunk_size)
    if row_tokens % quarter:
        raise CalmError(f"A row of {lm.name} must hold a multiple of {quarter} tokens, not {row_tokens:,}.")


def generate_stories(
    lm: LanguageModel, count: int, temperature: float, seed: int = 0, prompted: bool = True
) -> list[str]:
    """``count`` generated stories, with seeds ``seed``, ``seed + 1``, ...

    If ``prompted``, every second story continues a story prompt: the first line of a held-out story. Most prompts also
    occur in training.
    """
    prompts = (
        story.partition("\n")[0] + "\n"
        for story in storyland.stories("evaluation_prompts", 20 * count)
        if "\n" in story
    )
    stories = []
    for number in range(count):
        prompt = next(prompts) if prompted and number % 2 else ""
        steps = generate(lm, prompt, temperature=temperature, max_new_tokens=STORY_TOKENS, seed=seed + number)
        stories.append(prompt + "".join(step.text for step in steps))
    return stories


def story_figures(lm: LanguageModel, count: int, temperature: float, seed: int = 0) -> dict[str, Any]:
    """The result of ``storyland.check`` for ``count`` generated stories, every second one with a story prompt.

    ``unprompted`` counts the different plots and heroes of the other half, and has the share of its commonest plot.
    ``samples`` holds the first two stories.
    """
    stories = generate_stories(lm, count, temperature, seed)
    check = storyland.check("\n\n".join(stories))
    prompted = storyland.check("\n\n".join(stories[1::2]))
    unprompted = [storyland.check(story) for story in stories[::2]]
    plots = Counter(check.plots[0] for check in unprompted if check.plots and check.plots[0])
    heroes = {check.heroes[0] for check in unprompted if check.heroes and all(check.heroes[0])}
    return {
        "temperature": temperature,
        "well_formed": check.well_formed,
        "consistent": check.consistent,
        "prompt_followed": prompted.prompt_followed,
        "stories": check.stories,
        "sentences": check.sentences,
        "unprompted": {
            "stories": len(unprompted),
            "plots": len(plots),
            "heroes": len(heroes),
            "commonest_plot": max(plots.values(), default=0) / len(unprompted),
        },
        "samples": stories[:2],
    }


def evaluate(
    lm: LanguageModel,
    sources: Sequence[str],
    limit: int | None = 200,
    noises: Sequence[float] = (0.3,),
    samples: int = 2,
    stories: int = 0,
    temperatures: Sequence[float] = (0.35, 0.5, 1.0),
    seed: int = 0,
    brier_temperatures: Sequence[float] = (),
    row_tokens: int | None = None,
) -> dict[str, Any]:
    """All figures of a model: cost, then reconstruction (CALM only) and BrierLM of each source, then its stories.

    ``brier_lm`` is at T = 1, and ``brier_lm_at`` maps each of ``brier_temperatures`` to the same figures. With
    ``row_tokens``, ``positions`` has BrierLM by position in packed rows of so many tokens. ``stories`` is the number of
    stories to generate at each of ``temperatures``. Raises CalmError if there is nothing to measure, and for a bad
    number of stories, a bad temperature or a bad ``row_tokens``, before it measures anything.
    """
    check_integer("stories", stories, 0)
    if row_tokens is not None:
        _check_row_tokens(lm, row_tokens)
    for temperature in (*brier_temperatures, *(temperatures if stories else ())):
        GenerationOptions(temperature)
    if not sources and not stories:
        raise CalmError("There is nothing to measure: name a source of text, or ask for stories.")
    texts: dict[str, Any] = {}
    for source, documents in read_texts(sources, limit).items():
        if not any(documents):
            raise CalmError(f"The source {source!r} holds no text.")
        texts[source] = {"count": len(documents)}
        if lm.is_calm:
            texts[source]["reconstruction"] = reconstruction(lm, documents, noises, seed)
        texts[source]["brier_lm"] = brier_lm(lm, documents, seed, samples).figures()
        if brier_temperatures:
            texts[source]["brier_lm_at"] = {
                f"{t:g}": brier_lm(lm, documents, seed, samples, temperature=t).figures() for t in brier_temperatures
            }
        if row_tokens is not None:
            texts[source]["by_position"] = positions(lm, documents, row_tokens, samples, seed)
    return {
        "model": lm.name,
        "parameters": lm.num_parameters,
        "seed": seed,
        "storyland_edition": storyland.EDITION,
        "flops_per_token": {"generation": flops_per_token(lm), "training": training_flops_per_token(lm)},
        "texts": texts,
        "stories": [story_figures(lm, stories, t, seed) for t in temperatures] if stories else [],
    }


def samples_page(models: Sequence[LanguageModel], temperatures: Sequence[float], count: int) -> str:
    """A Markdown page with ``count`` stories of each model at each temperature, seeds 0, 1, ..., not selected.

    Every second story continues a story prompt, shown in italics. All models get the same prompts.
    """
    parts = [
        "# Samples",
        f"Seeds 0 to {count - 1}, not selected. Every second story continues a story prompt, shown in italics.",
    ]
    for lm in models:
        for temperature in temperatures:
            parts.append(f"## {lm.name}, T = {temperature:g}")
            for seed, story in enumerate(generate_stories(lm, count, temperature)):
                prompt, newline, text = story.partition("\n") if seed % 2 else ("", "", story)
                parts.append(f"{seed}. {f'*{prompt}* ' if newline else ''}{text.strip()}")
    return "\n\n".join(parts) + "\n"
