"""The figures of a model card, from texts that the user names."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from .. import storyland
from ..errors import CalmError
from ..generation import generate
from ..hub.language_model import LanguageModel
from ..reconstruction import reconstruct
from .brier import brier_lm
from .cost import flops_per_token, training_flops_per_token

MAX_CHARACTERS = 4000  # of one text; a chapter of a novel can be longer than any context


def read_texts(sources: Sequence[str], limit: int) -> dict[str, list[str]]:
    """The first ``limit`` texts of each source."""
    from ..data.documents import read_documents

    return {source: [t[:MAX_CHARACTERS] for t in islice(read_documents(source), limit)] for source in sources}


def reconstruction(lm: LanguageModel, texts: Sequence[str], noises: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Token accuracy over all texts, clean and with Gaussian noise of each standard deviation added to the means."""
    figures = {}
    for noise in (0.0, *noises):
        right = total = 0
        for number, text in enumerate(filter(None, texts)):
            found = reconstruct(lm, text, noise, seed + number)
            right += round(found.token_accuracy * found.tokens)
            total += found.tokens
        figures[f"token accuracy, noise {noise:g}" if noise else "token accuracy, clean"] = right / total
    return {**figures, "tokens": total}


def tell(lm: LanguageModel, count: int, temperature: float, seed: int = 0, prompted: bool = True) -> list[str]:
    """``count`` stories told by the model; the prompts of every second one are held-out story prompts.

    The seeds are ``seed``, ``seed + 1``, ...; nothing is chosen by hand.
    """
    stories = []
    prompts = (
        story.partition("\n")[0] + "\n"
        for story in storyland.stories("evaluation_prompts", 20 * count)
        if "\n" in story
    )
    for number in range(count):
        prompt = next(prompts) if prompted and number % 2 else ""
        told = generate(lm, prompt, temperature=temperature, max_new_tokens=280, seed=seed + number)
        stories.append(prompt + "".join(step.text for step in told))
    return stories


def storyland_figures(lm: LanguageModel, count: int, temperature: float, seed: int = 0) -> dict[str, Any]:
    """The figures of ``storyland.check`` for ``count`` stories of a model at a temperature; every second has a prompt.

    ``samples`` holds the first two of them.
    """
    stories = tell(lm, count, temperature, seed)
    whole = storyland.check("\n\n".join(stories))
    prompted = storyland.check("\n\n".join(stories[1::2]))
    return {
        "well-formed sentences": whole.well_formed,
        "consistent stories": whole.consistent,
        "announcements kept": prompted.prompt_followed,
        "stories": whole.stories,
        "sentences": whole.sentences,
        "samples": stories[:2],
    }


def evaluate(
    lm: LanguageModel,
    sources: Sequence[str],
    limit: int = 200,
    noises: Sequence[float] = (0.3,),
    samples: int = 2,
    stories: int = 0,
    temperatures: Sequence[float] = (0.35, 0.5, 1.0),
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a model: per source the reconstruction (CALM only) and BrierLM, then the stories it tells.

    Raises CalmError when there is nothing to measure.
    """
    if not sources and not stories:
        raise CalmError("There is nothing to measure: name a file of text, or ask for stories.")
    found: dict[str, Any] = {"model": lm.name, "parameters": lm.num_parameters, "seed": seed}
    found["operations a token"] = {"generating": flops_per_token(lm), "training": training_flops_per_token(lm)}
    for source, texts in read_texts(sources, limit).items():
        figures: dict[str, Any] = {"texts": len(texts)}
        if lm.is_calm:
            figures["reconstruction"] = reconstruction(lm, texts, noises, seed)
        figures["BrierLM"] = brier_lm(lm, texts, seed, samples).figures()
        found[source] = figures
    for temperature in temperatures if stories else ():
        found[f"stories at T = {temperature:g}"] = storyland_figures(lm, stories, temperature, seed)
    return found


def samples(models: Sequence[LanguageModel], temperatures: Sequence[float], count: int) -> str:
    """A page in Markdown of ``count`` stories told by each model at each temperature, seeds 0, 1, ..., none chosen.

    Every second one is told to a held-out announcement, the first line; each model gets the same ones.
    """
    parts = [
        "# Samples",
        f"Seeds 0 to {count - 1}, none chosen; every second story was ordered by its first line, in italics.",
    ]
    for lm in models:
        for temperature in temperatures:
            parts.append(f"## {lm.name}, T = {temperature:g}")
            for seed, story in enumerate(tell(lm, count, temperature)):
                order, line, told = story.partition("\n") if seed % 2 else ("", "", story)
                parts.append(f"{seed}. {f'*{order}* ' if line else ''}{told.strip()}")
    return "\n\n".join(parts) + "\n"
