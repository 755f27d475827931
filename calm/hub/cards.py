"""Writes a model's card (README.md) from its config.json, training.json and evaluation.json."""

import json
from pathlib import Path
from typing import Any

from ..errors import CalmError
from ..files import write_text
from ..modeling.heads import HEADS
from .folders import CHECKPOINTS, read_json
from .loading import shared_autoencoder

FRONT_MATTER = """\
---
license: mit
library_name: transformers
tags: [calm, continuous-autoregressive, storyland]
---"""


def write(folder: str | Path) -> Path:
    """Writes README.md of a model folder and returns its path. Raises CalmError if one of the files is missing."""
    folder = Path(folder)
    config, evaluation, training = (_read(folder, f"{name}.json") for name in ("config", "evaluation", "training"))
    parts = [
        FRONT_MATTER,
        f"# {folder.name}",
        _description(folder, config, evaluation),
        "## Training",
        _training(training),
        "Stories with seeds from 10,000,000 up are held out of all training. `calm/training/recipes` has a recipe for "
        "each bundled model; the weights come from the stages above, which may differ from it.",
        "## Evaluation",
        f"Measured with `{evaluation['command']}`. The figures are in `evaluation.json`.",
        _texts(evaluation, folder.name),
        *_positions(evaluation, config),
        "Stories that the model generates at temperature T. Every second story has a story prompt.",
        _stories(evaluation),
        "## Samples",
        "The first two stories at each temperature, not selected. The first line of the second story is its prompt.",
        *_samples(evaluation),
    ]
    path = folder / "README.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        hint = {"evaluation.json": "calm evaluate --out", "training.json": "calm export"}.get(name)
        raise CalmError(f"{folder} holds no {name}" + (f"; python -m {hint} writes it." if hint else "."))
    return read_json(path)


def _description(folder: Path, config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The first paragraph: kind of model, language, size."""
    autoencoder = head = ""
    kind = "A token-by-token Transformer, the baseline of the CALM models."
    if k := config.get("patch_size"):
        vector = f"{k} token{'s' * (k > 1)}"
        kind = f"A Continuous Autoregressive Language Model with K = {k}: each step emits one vector of {vector}."
        autoencoder = " with the autoencoder"
        if shared := shared_autoencoder(folder):
            autoencoder += f", which it shares with `{shared}`"
        named = config.get("head") or config.get("model_type")  # the official format has it in the second field
        name = named if named in HEADS else "energy"
        head = (
            f", {'an' if name == 'energy' else 'a'} {name} head of {config['num_mlp_layers']} blocks, "
            f"latent vectors of {config['latent_size']} numbers"
        )
    return (
        f"{kind} It is trained on Storyland, a small language of simple stories. "
        f"{evaluation['parameters']:,} parameters{autoencoder}: a Llama backbone of "
        f"{config['num_hidden_layers']} layers of width {config['hidden_size']}{head}, a byte-level "
        f"vocabulary of {config['vocab_size']:,}. The weights are stored in bfloat16."
    )


def _training(record: dict[str, Any]) -> str:
    """A line for each run: the stages in order, other runs that were averaged, the autoencoder's run."""
    runs = _stages(record, "stage", "one stage")
    if backbone := runs[0][1].get("init_backbone_from"):
        name = f", `{backbone['model']}`" if "model" in backbone else ""
        runs.insert(0, (f"last stage of the model that initialized the backbone{name}", backbone))
    runs += [("another run, averaged with this one", run) for run in record.get("averaged", [])]
    if autoencoder := record.get("autoencoder"):
        runs += _stages(autoencoder, "autoencoder, stage", "autoencoder")
    return "\n".join(f"- {title}: {_run(run)}" for title, run in runs)


def _stages(record: dict[str, Any], several: str, single: str) -> list[tuple[str, dict[str, Any]]]:
    """Titles and records of a run and of those that it was initialized from, the first one first."""
    stages = [record]
    while before := stages[0].get("init_from"):
        stages.insert(0, before)
    count = len(stages)
    return [(f"{several} {i} of {count}" if count > 1 else single, run) for i, run in enumerate(stages, 1)]


def _run(run: dict[str, Any]) -> str:
    """Steps, tokens, seconds and texts of one run, and its note, which a person writes into training.json."""
    sources = run["sources"]
    if isinstance(sources, dict):
        texts = ", ".join(f"{run['shares'][group]:.0%} {group}" for group in sources)
    else:
        texts = ", ".join(f"`{source}`" for source in sources)
    device = f" on an {run['device']}" if "device" in run else ""
    seconds = (
        f"{run['cpu_seconds']:,.0f} seconds of CPU time" if "cpu_seconds" in run else f"{run['seconds']:,.0f} seconds"
    )
    parts = [
        f"{run['steps']:,} steps, {run['tokens'] / 1e6:.1f} million tokens, {seconds}{device}",
        f"texts {texts}" + (f" after {run['primer_steps']} steps on the primer" if run.get("primer_steps") else ""),
    ]
    if "init_layers" in run:
        parts.append(f"initialized from layers {', '.join(map(str, run['init_layers']))} of the stage before")
    if "distil_from" in run:
        parts.append(f"distilled from `{run['distil_from']}`")
    if "note" in run:
        parts.append(run["note"])
    return "; ".join(parts)


def _texts(evaluation: dict[str, Any], name: str) -> str:
    """A table with a row for each text source, and a row for each other bundled model measured on the same texts."""
    measured = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(CHECKPOINTS.glob("*/evaluation.json"))
        if path.parent.name != name
    }
    edition = evaluation.get("storyland_edition")
    others = {other: each["texts"] for other, each in measured.items() if each.get("storyland_edition") == edition}
    rows = [
        "| texts | count | tokens restored | with noise (standard deviation) | BrierLM (95 % interval) "
        "| Brier-1 to Brier-4 |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for source, figures in evaluation["texts"].items():
        accuracy = figures.get("reconstruction", {}).get("token_accuracy", {})
        clean = "".join(f"{100 * value:.3f} %" for noise, value in accuracy.items() if float(noise) == 0)
        noisy = ", ".join(f"{100 * value:.3f} % ({noise})" for noise, value in accuracy.items() if float(noise))
        parts = ", ".join(f"{value:.1f}" for value in figures["brier_lm"]["brier"])
        score = _score(figures["brier_lm"])
        rows.append(f"| `{Path(source).name}` | {figures['count']} | {clean} | {noisy} | {score} | {parts} |")
        for other, texts in others.items():
            if source in texts:
                rows.append(f"| the same, `{other}` | | | | {_score(texts[source]['brier_lm'])} | |")
    return "\n".join(rows)


def _positions(evaluation: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """A sentence about the context, and a table of BrierLM by position in packed rows, where it was measured. A table
    of zeros, as on novels, is left out."""
    parts = []
    length = config["max_position_embeddings"]
    unit = f" chunks, {length * config['patch_size']:,} tokens" if config.get("patch_size") else " tokens"
    for source, texts in evaluation["texts"].items():
        if any(part["score"] > 0 for part in texts.get("by_position", [])):
            rows = "\n".join(
                f"| {part['tokens'][0]:,} to {part['tokens'][1]:,} | {_score(part)} |" for part in texts["by_position"]
            )
            parts += [
                f"The context is {length:,}{unit}. The table shows BrierLM by position in "
                f"{texts['by_position'][0]['rows']} rows that are packed from the texts of `{Path(source).name}`.",
                f"| tokens of the row | BrierLM (95 % interval) |\n| --- | ---: |\n{rows}",
            ]
    return parts


def _score(brier_lm: dict[str, Any]) -> str:
    return f"{brier_lm['score']:.1f} ({brier_lm['low']:.1f} to {brier_lm['high']:.1f})"


def _stories(evaluation: dict[str, Any]) -> str:
    if any("unprompted" not in figures for figures in evaluation["stories"]):
        raise CalmError("evaluation.json is of an older version; python -m calm evaluate --out writes it anew.")
    rows = [
        "| T | well-formed sentences | consistent stories | prompts followed | stories | sentences "
        "| without a prompt: stories | different plots | different heroes | commonest plot |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for figures in evaluation["stories"]:
        shares = " | ".join(f"{100 * figures[name]:.1f} %" for name in ("well_formed", "consistent", "prompt_followed"))
        free = figures["unprompted"]
        rows.append(
            f"| {figures['temperature']:g} | {shares} | {figures['stories']} | {figures['sentences']} "
            f"| {free['stories']} | {free['plots']} | {free['heroes']} | {100 * free['commonest_plot']:.1f} % |"
        )
    return "\n".join(rows)


def _samples(evaluation: dict[str, Any]) -> list[str]:
    parts = []
    for figures in evaluation["stories"]:
        parts.append(f"**T = {figures['temperature']:g}**")
        parts += ["> " + sample.strip().replace("\n", "\n> ") for sample in figures["samples"]]
    return parts
