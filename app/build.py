"""Makes what the page shows before the first click: ``python -m app.build`` writes four files in assets."""

import json
import os
from typing import Any

import calm

from . import render
from .components import ASSETS
from .registry import BASELINE, computed, maps, resident
from .run import Run
from .tabs import race as race_tab
from .tabs import reconstruct as reconstruct_tab

PROMPT = "A story about a shy fox named Mia and a fear of thunder.\n"
STORIES = 20  # held-out ones, of the reference curve
SETTINGS: dict[str, Any] = {"temperature": 0.5, "max_new_tokens": 280, "seed": 0}
RACE_TOKENS = 200


def main() -> None:
    model = resident()
    lm = model.lm
    options = calm.GenerationOptions(**SETTINGS)
    how = f"T = {options.temperature:g}, seed {options.seed}"
    run = Run(model, PROMPT, options)
    for step in calm.stream(lm, PROMPT, options):
        run.add(step)
    mark = f"An example, made when the page was built: {how}. Generate makes your own."
    value = {**run.value, "run": "example", "vectors": run.vectors, "told": render.note(mark)}
    found = calm.reconstruct(lm, reconstruct_tab.SAMPLE)
    view = {"view": render.reconstruction(model, found), "summary": render.reconstruction_summary(found, 0)}
    stories = "\n".join(calm.storyland.stories("vector_map", STORIES))
    curves = {
        name: [(n, round(share, 5)) for n, share in calm.robustness(resident(name).lm, stories, reconstruct_tab.NOISES)]
        for name in maps()
    }
    racing = race_tab.race([lm, resident(BASELINE).lm], PROMPT, options.temperature, RACE_TOKENS, options.seed)
    *_, raced = computed(racing)
    place = f"{os.cpu_count()} CPU cores" if lm.device.type == "cpu" else "a GPU"
    timed = f"An example, measured on {place} when the page was built: {how}. Start the race measures yours."
    race = {**raced.value(), "race": 0, "told": render.note(timed)}
    for name, shown in (("example", value), ("reconstruction", view), ("robustness", curves), ("race", race)):
        (ASSETS / f"{name}.json").write_text(json.dumps(shown, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
