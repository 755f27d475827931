"""Model cards, written from what was recorded and measured (training.json, evaluation.json), never by hand."""

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from ..errors import CalmError
from .loading import CHECKPOINTS, shared_autoencoder

RECORDED = (
    "task", "primer", "primer_steps", "shares", "steps", "batch_size", "row_tokens", "learning_rate", "layers",
    "teacher", "muon", "device",
)  # fmt: skip


def _seconds(rows: list[dict[str, Any]]) -> float:
    """Seconds of training without pauses: a stretch of the log that took more than twice the median of those around it
    counts as that median, because the process was held up from outside."""
    spans = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise([{"seconds": 0.0}, *rows])]
    medians = [statistics.median(spans[max(0, i - 10) : i + 11]) for i in range(len(spans))]
    return sum(median if span > 2 * median else span for span, median in zip(spans, medians))


def _named(sources: Any) -> Any:
    """Text sources, lists of them or groups of lists, without the folders of the machine that they lay on."""
    if isinstance(sources, dict):
        return {group: _named(members) for group, members in sources.items()}
    if isinstance(sources, list):
        return [_named(member) for member in sources]
    return Path(sources).name if Path(sources).is_absolute() else sources


def record(run: Path) -> dict[str, Any] | None:
    """What a run folder says of its training: settings, steps, tokens, seconds, the same of the run that it began with
    and of its autoencoder's; None if it is not a run folder."""
    if (run / "training.json").is_file():  # an exported model
        return json.loads((run / "training.json").read_text())
    if not (run / "settings.json").is_file() or not (run / "log.jsonl").is_file():
        return None
    settings = json.loads((run / "settings.json").read_text())
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "tokens" in row]
    if not settings.get("primer_steps"):
        settings.pop("primer", None)  # of a recipe that this one changes
    found = {name: settings[name] for name in RECORDED if settings.get(name)}
    found |= {"sources": _named(settings["sources"]), "tokens": rows[-1]["tokens"], "seconds": _seconds(rows)}
    for stage in ("start", "grown", "autoencoder"):
        if name := settings.get(stage):
            found[stage] = origin(name)
    if found.get("autoencoder"):  # of a CALM it is the autoencoder's own record that counts
        found["autoencoder"] = found["autoencoder"].get("autoencoder") or found["autoencoder"]
    return found


def origin(name: str) -> dict[str, Any] | None:
    """The record of the run that a model came from: a bundled name, an exported folder, or one within a run."""
    return next(filter(None, map(record, (CHECKPOINTS / name, Path(name), Path(name).parent))), None)


def write(folder: str | Path) -> Path:
    """Writes README.md of a model folder. Raises CalmError if a file that it is made from is missing."""
    folder = Path(folder)
    config, evaluation, training = (_read(folder, f"{name}.json") for name in ("config", "evaluation", "training"))
    if k := config.get("patch_size"):
        tokens = f"{k} token{'s' * (k > 1)}"
        kind = f"A Continuous Autoregressive Language Model with K = {k}: one vector a step, {tokens} a vector."
        counted = ", the autoencoder included"
        if shared := shared_autoencoder(folder):
            counted += f", which is that of `{shared}`"
        head = (
            f", an energy head of {config['num_mlp_layers']} blocks, latent vectors of {config['latent_size']} numbers"
        )
    else:
        kind, counted, head = "A token-by-token Transformer, the baseline of the CALM models beside it.", "", ""
    parts = [
        "---\nlicense: mit\nlibrary_name: transformers\ntags: [calm, continuous-autoregressive, storyland]\n---",
        f"# {folder.name}",
        f"{kind} It speaks Storyland, a small language of simple stories, and nothing else. "
        f"{evaluation['parameters']:,} parameters{counted}: a Llama backbone of {config['num_hidden_layers']} layers "
        f"of width {config['hidden_size']}{head}, a byte-level vocabulary of {config['vocab_size']:,}. "
        "bfloat16 on disk.",
        "## Training",
        _training(training, folder.name),
        "## Measured",
        f"With `{evaluation['command']}`; the figures are in `evaluation.json`.",
        _texts(evaluation, folder.name),
        _stories(evaluation),
        "## Samples",
        "Not chosen: the first two stories of each temperature; the second begins with an announcement that was given.",
        *_samples(evaluation),
    ]
    path = folder / "README.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        hint = {"evaluation.json": "calm evaluate --out", "training.json": "calm export"}.get(name)
        raise CalmError(f"{folder} holds no {name}" + (f"; python -m {hint} writes it." if hint else "."))
    return json.loads(path.read_text(encoding="utf-8"))


def _training(found: dict[str, Any], name: str) -> str:
    stages, before = [found], found
    while before := before.get("start") or {}:
        stages.insert(0, before)
    titled = [
        (part, f"{name}, stage {i} of {len(stages)}" if len(stages) > 1 else name) for i, part in enumerate(stages, 1)
    ]
    if grown := stages[0].get("grown"):
        titled.insert(0, (grown, "the model whose backbone it grew from, last stage"))
    titled += [(part, "another run, with which its weights are averaged") for part in found.get("averaged", [])]
    lines = []
    for part, title in [*titled, *([(found["autoencoder"], "its autoencoder")] if found.get("autoencoder") else [])]:
        sources = part["sources"]
        if isinstance(sources, dict):
            shares = part["shares"]
            told = ", ".join(f"{shares[group]:.0%} {group}" for group in sources)
        else:
            told = ", ".join(f"`{source}`" for source in sources)
        primer = f" after {part['primer_steps']} steps on the primer" if part.get("primer_steps") else ""
        device = f" on an {part['device']}" if "device" in part else ""
        kept = f"; kept of the stage before: layers {', '.join(map(str, part['layers']))}" if "layers" in part else ""
        taught = f"; taught by `{part['teacher']}`" if "teacher" in part else ""
        lines.append(
            f"- {title}: {part['steps']:,} steps, {part['tokens'] / 1e6:.1f} million tokens, {part['seconds']:,.0f} "
            f"seconds{device}, pauses not counted; on {told}{primer}{kept}{taught}"
        )
    lines.append(
        "\nStories of seeds from 10,000,000 up were never trained on. The recipes are in `calm/training/recipes`."
    )
    return "\n".join(lines)


def _texts(evaluation: dict[str, Any], name: str) -> str:
    """A row a text source, and for the same texts the BrierLM of the other bundled models that were measured."""
    others = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(CHECKPOINTS.glob("*/evaluation.json"))
        if path.parent.name != name
    }
    rows = [
        "| texts | number | tokens restored, clean | with noise | BrierLM (95 % interval) | Brier-1 to Brier-4 |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for source, found in evaluation.items():
        if not isinstance(found, dict) or "BrierLM" not in found:
            continue
        restored = [
            f"{100 * value:.3f} % ({key.rpartition(' ')[2]})" if "noise" in key else f"{100 * value:.3f} %"
            for key, value in found.get("reconstruction", {}).items()
            if key != "tokens"
        ] or ["", ""]
        rows.append(
            f"| `{Path(source).name}` | {found['texts']} | {restored[0]} | {', '.join(restored[1:])} | "
            f"{_brier(found['BrierLM'])} | {', '.join(f'{b:.1f}' for b in found['BrierLM']['brier'])} |"
        )
        for other, measured in others.items():
            if source in measured:
                rows.append(f"| the same, `{other}` | | | | {_brier(measured[source]['BrierLM'])} | |")
    return "\n".join(rows)


def _brier(found: dict[str, Any]) -> str:
    return f"{found['score']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def _told(evaluation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The temperatures at which stories were told, and what was measured of them."""
    told = "stories at T = "
    return [(title.removeprefix(told), found) for title, found in evaluation.items() if title.startswith(told)]


def _stories(evaluation: dict[str, Any]) -> str:
    names = ("well-formed sentences", "consistent stories", "announcements kept")
    rows = [f"| T | {' | '.join(names)} | stories | sentences |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for temperature, found in _told(evaluation):
        shares = " | ".join(f"{100 * found[name]:.1f} %" for name in names)
        rows.append(f"| {temperature} | {shares} | {found['stories']} | {found['sentences']} |")
    return "Stories that it tells, every second one to order:\n\n" + "\n".join(rows)


def _samples(evaluation: dict[str, Any]) -> list[str]:
    told = []
    for temperature, found in _told(evaluation):
        told.append(f"**T = {temperature}**")
        told += ["> " + sample.strip().replace("\n", "\n> ") for sample in found["samples"]]
    return told
