"""Makes what the page shows before the first click: ``python -m app.build`` writes two files in assets."""

import json
from typing import Any

import calm
from calm.maps import path_of, read

from . import reconstruct_tab, render
from .components import ASSETS
from .models import DEFAULT

PROMPT = "A story about a shy fox named Mia and a fear of thunder.\n"
SETTINGS: dict[str, Any] = {"temperature": 0.5, "max_new_tokens": 280, "seed": 0}


def main() -> None:
    lm = calm.load(DEFAULT, device="cpu")
    run = render.Run(lm, read(path_of(lm.name, ASSETS)), PROMPT, SETTINGS["temperature"])
    for step in calm.generate(lm, PROMPT, **SETTINGS):
        run.add(step)
    mark = "An example, made when the page was built: T = 0.5, seed 0. Generate makes your own."
    value = {**run.value, "run": "example", "told": render.note(mark)}
    found = calm.reconstruct(lm, reconstruct_tab.SAMPLE)
    view = {"view": render.reconstruction(lm, found), "summary": render.reconstruction_summary(found, 0)}
    for name, shown in (("example", value), ("reconstruction", view)):
        (ASSETS / f"{name}.json").write_text(json.dumps(shown, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
