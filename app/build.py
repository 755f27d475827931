"""Writes the examples that the page shows before the first click: ``python -m app.build`` writes four assets."""

import os
from typing import Any

import calm
from calm.files import write_json

from . import compute
from .backends import LoadedModel
from .controls import status_line
from .files import ASSETS
from .limits import DEFAULT_NEW_TOKENS, NOISE_LEVELS
from .payloads import latent
from .payloads.runs import Run
from .payloads.types import RunPayload
from .registry import BASELINE, loaded, map_files
from .requests import GenerateArguments
from .tabs import race, reconstruct

PROMPT = "Once upon a time, near a forest"  # short, so that several lines of the text are above the fold of a phone
STORIES = 20  # held-out stories of the reference curve
SETTINGS: dict[str, Any] = {"temperature": 0.5, "max_new_tokens": DEFAULT_NEW_TOKENS, "seed": 0}
RACE_TOKENS = 200
CONDITIONS = f"T = {SETTINGS['temperature']:g}, seed {SETTINGS['seed']}"


def example_run(model: LoadedModel) -> RunPayload:
    options = calm.GenerationOptions(**SETTINGS)
    run = Run(model, PROMPT, options)
    for event in model.stream(PROMPT, options):
        run.add(event)
    status = status_line(f"An example, made when the page was built: {CONDITIONS}. Press Generate to make your own.")
    return {**run.finished(status), "run_id": "example"}


def example_race(model: LoadedModel) -> dict[str, Any]:
    models = [model, loaded(BASELINE)]
    arguments = GenerateArguments.parse({"prompt": PROMPT, **SETTINGS, "max_new_tokens": RACE_TOKENS})
    *_, final = compute.iterate(race.race(models, arguments))
    device = f"{os.cpu_count()} CPU cores" if model.lm.device.type == "cpu" else "a GPU"
    status = f"An example, measured on {device} when the page was built: {CONDITIONS}. Press Start the race to measure."
    return {"race": {**final.payload(), "race_id": 0}, "status": status_line(status), "card": final.card()}


def example_reconstruction(model: LoadedModel) -> dict[str, Any]:
    result = model.reconstruct(reconstruct.SAMPLE, 0, 0)
    return {
        "view": latent.reconstruction(model, result),
        "status": status_line(reconstruct.summary(result, 0)),
        "card": reconstruct.card(model.name, reconstruct.SAMPLE, 0, 0, result),
    }


def robustness_curves() -> dict[str, list[list[float]]]:
    """For each model with a map, the share of tokens of held-out stories restored at each noise level."""
    stories = "\n".join(calm.storyland.stories("vector_map", STORIES))
    return {
        name: [[noise, round(share, 5)] for noise, share in calm.robustness(loaded(name).lm, stories, NOISE_LEVELS)]
        for name in map_files()
    }


def main() -> None:
    model = loaded()
    content = {
        "example": example_run(model),
        "reconstruction": example_reconstruction(model),
        "robustness": robustness_curves(),
        "race": example_race(model),
    }
    for name, value in content.items():
        write_json(ASSETS / f"{name}.json", value, ensure_ascii=False)


if __name__ == "__main__":
    main()
