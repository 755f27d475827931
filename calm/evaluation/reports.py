"""The figures of evaluation.json: reconstruction, BrierLM, cost, and the quality of generated stories."""

import math
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
from .brier import brier_lm
from .cost import flops_per_token, training_flops_per_token

STORY_TOKENS = 280


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


def generate_stories(
    lm: LanguageModel, count: int, temperature: float, seed: int = 0, prompted: bool = True
) -> list[str]:
    """``count`` generated stories, with seeds ``seed``, ``seed + 1``, ...

    If ``prompted``, every second story continues a held-out story prompt, its first line.
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

    ``samples`` holds the first two stories.
    """
    stories = generate_stories(lm, count, temperature, seed)
    check = storyland.check("\n\n".join(stories))
    prompted = storyland.check("\n\n".join(stories[1::2]))
    return {
        "temperature": temperature,
        "well_formed": check.well_formed,
        "consistent": check.consistent,
        "prompt_followed": prompted.prompt_followed,
        "stories": check.stories,
        "sentences": check.sentences,
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
) -> dict[str, Any]:
    """All figures of a model: cost, then reconstruction (CALM only) and BrierLM of each source, then its stories.

    ``brier_lm`` is at T = 1, and ``brier_lm_at`` maps each of ``brier_temperatures`` to the same figures. ``stories``
    is the number of stories to generate at each of ``temperatures``. Raises CalmError if there is nothing to measure,
    and for a bad number of stories or a bad temperature, before it measures anything.
    """
    check_integer("stories", stories, 0)
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
    return {
        "model": lm.name,
        "parameters": lm.num_parameters,
        "seed": seed,
        "flops_per_token": {"generation": flops_per_token(lm), "training": training_flops_per_token(lm)},
        "texts": texts,
        "stories": [story_figures(lm, stories, t, seed) for t in temperatures] if stories else [],
    }


def samples_page(models: Sequence[LanguageModel], temperatures: Sequence[float], count: int) -> str:
    """A Markdown page with ``count`` stories of each model at each temperature, seeds 0, 1, ..., not selected.

    Every second story continues a held-out story prompt, shown in italics. All models get the same prompts.
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
