"""Training records: training.json describes a run and the runs that it was initialized from."""

import itertools
import json
import statistics
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storyland import EDITION
from .folders import CHECKPOINTS, read_json

SETTINGS = (
    "task", "primer", "primer_steps", "shares", "steps", "batch_size", "row_tokens", "learning_rate", "init_layers",
    "distil_from", "muon_learning_rate", "device",
)  # fmt: skip
"""The settings of a run that its record contains."""


def read_record(folder: Path) -> dict[str, Any] | None:
    """The training record of an exported model or of a run's folder; None for any other folder and before the first
    line of a run's log.

    The record of a run holds its settings, sources, tokens and seconds, and the edition of Storyland that it read.
    Under ``init_from``, ``init_backbone_from`` and ``autoencoder`` it holds the records of the runs that these name;
    that of the backbone has the name under ``model``.
    Runs on a CPU also have their seconds of CPU time.
    """
    if (folder / "training.json").is_file():
        return read_json(folder / "training.json")
    if not (folder / "settings.json").is_file() or not (folder / "log.jsonl").is_file():
        return None
    settings = read_json(folder / "settings.json")
    rows = [row for row in _log(folder / "log.jsonl") if "tokens" in row]
    if not rows:
        return None
    if not settings.get("primer_steps"):
        settings.pop("primer", None)  # inherited from the base of the recipe, and not used
    record = {name: settings[name] for name in SETTINGS if settings.get(name)}
    record |= {"sources": _portable(settings["sources"]), "tokens": rows[-1]["tokens"], "seconds": _seconds(rows)}
    sources = settings["sources"]
    if isinstance(sources, list) and any(source.startswith(("storyland:", "prompted:")) for source in sources):
        record["storyland_edition"] = EDITION
    if "cpu_seconds" in rows[-1] and "device" not in record:
        record["cpu_seconds"] = rows[-1]["cpu_seconds"]
    for stage in ("init_from", "init_backbone_from", "autoencoder"):
        if name := settings.get(stage):
            record[stage] = find_record(name)
    if backbone := record.get("init_backbone_from"):
        record["init_backbone_from"] = {"model": _portable(settings["init_backbone_from"]), **backbone}
    # The setting may name a CALM; the record is that of its autoencoder.
    stage = "init_from" if isinstance(settings["sources"], dict) else "autoencoder"
    if record.get(stage):
        record[stage] = record[stage].get("autoencoder") or record[stage]
    return record


def _log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log. A killed run may leave a part of a line, which is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)


def find_record(name: str) -> dict[str, Any] | None:
    """The training record of a model: a bundled name, an exported folder, or the best or last model of a run."""
    return next(filter(None, map(read_record, (CHECKPOINTS / name, Path(name), Path(name).parent))), None)


def _seconds(rows: list[dict[str, Any]]) -> float:
    """Seconds of training without pauses.

    A log interval that took more than twice the median of its neighbours counts as that median: something outside the
    run interrupted it.
    """
    spans = [after["seconds"] - before["seconds"] for before, after in itertools.pairwise([{"seconds": 0.0}, *rows])]
    medians = [statistics.median(spans[max(0, i - 10) : i + 11]) for i in range(len(spans))]
    return sum(median if span > 2 * median else span for span, median in zip(spans, medians))


def _portable(sources: Any) -> Any:
    """Text sources (a name, a list, or groups of lists) without the folders of the machine."""
    if isinstance(sources, dict):
        return {group: _portable(members) for group, members in sources.items()}
    if isinstance(sources, list):
        return [_portable(member) for member in sources]
    return Path(sources).name if Path(sources).is_absolute() else sources
