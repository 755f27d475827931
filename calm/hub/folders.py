"""Model folders: the bundled ones, local ones, and downloads from the Hugging Face Hub. Reads their JSON files.

This module does not import torch.
"""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CalmError

CHECKPOINTS = Path(os.environ.get("CALM_CHECKPOINTS") or Path(__file__).parents[2] / "checkpoints")
"""The folder of the bundled models: ``CALM_CHECKPOINTS`` from the environment, or checkpoints/ of the repository."""

DOWNLOADED = ["*.json", "*.safetensors", "*.bin", "*.model"]
"""The files of a Hub repository that a model needs. Python code is never among them."""

OFFICIAL_AUTOENCODER = "cccczshao/CALM-Autoencoder"
"""The Hub id of the autoencoder that the authors' models share."""

Report = Callable[[int, int], None]
"""A function of the bytes of a download that have arrived and of all its bytes. Its exception ends the download; the
next one continues it."""

HUB_TIMEOUT = 15.0
"""Seconds without an answer, or without the next bytes of a file, after which a request to the Hub fails."""


def bundled() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))


def is_hub_id(name: str) -> bool:
    """Whether a name has the form OWNER/NAME and is not a local path."""
    return name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists()


def find_folder(name: str, revision: str | None = None, report: Report | None = None) -> Path:
    """The folder of a bundled name, a local folder, or a Hub id, which is downloaded.

    Raises CalmError if there is no such model or it cannot be downloaded.
    """
    for folder in (CHECKPOINTS / name, Path(name)):
        if (folder / "config.json").is_file():
            return folder.resolve()
    if Path(name).exists():
        raise CalmError(f"The folder {name} holds no config.json, so it is not a model.")
    if is_hub_id(name):
        return download(name, revision, report)
    if names := bundled():
        raise CalmError(f"There is no model {name!r}: name a folder, a Hub id, or one of {', '.join(names)}.")
    raise CalmError(
        f"There is no model {name!r}: the bundled models come with the project's repository, so clone it and set "
        "CALM_CHECKPOINTS to its folder checkpoints, or name a model folder or a Hub id."
    )


def download(name: str, revision: str | None = None, report: Report | None = None) -> Path:
    """The local copy of a Hub repository. Raises CalmError if it cannot be downloaded, with the reason.

    Without ``report``, a terminal shows the progress.
    """
    from huggingface_hub import errors, snapshot_download

    at = f" at revision {revision!r}" if revision else ""
    reasons: dict[type[Exception], str] = {  # the first class that matches counts
        errors.GatedRepoError: "needs permission: accept its terms on the Hub and log in with hf auth login",
        errors.RepositoryNotFoundError: "does not exist on the Hugging Face Hub, or needs a login",
        errors.RevisionNotFoundError: f"does not exist on the Hugging Face Hub{at}",
        errors.HFValidationError: "is not a valid name on the Hugging Face Hub",
        errors.LocalEntryNotFoundError: "could not be downloaded, because the Hugging Face Hub cannot be reached",
        errors.HfHubHTTPError: "could not be downloaded, because the Hugging Face Hub answered with an error",
        Exception: "could not be downloaded from the Hugging Face Hub",
    }
    _limit_waiting()
    try:
        bar = _reporting_bar(report) if report else None
        return Path(snapshot_download(name, revision=revision, allow_patterns=DOWNLOADED, tqdm_class=bar))
    except CalmError:  # of ``report``
        raise
    except Exception as error:  # the Hub's client and its HTTP library raise dozens of kinds
        cause = error.__cause__ if isinstance(error.__cause__, errors.HfHubHTTPError) else error
        reason = next(text for kind, text in reasons.items() if isinstance(cause, kind))
        is_disk = isinstance(error, OSError) and error.filename and not isinstance(error, errors.HfHubHTTPError)
        detail = f" ({error.strerror})" if is_disk and error.strerror else ""  # type: ignore[attr-defined]
        raise CalmError(f"The model {name!r} {reason}{detail}.") from error


def _reporting_bar(report: Report) -> Any:
    """The class of a progress bar that draws nothing and calls ``report`` for every piece of the files."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counts_bytes and self.total:
                report(int(self.n), int(self.total))

    return Bar


@cache
def _limit_waiting() -> None:
    """Gives each request to the Hub a time limit. The Hub's client has none for some of them, and would wait forever
    for a Hub that accepts a connection and does not answer."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def limit(request: Any) -> None:
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), HUB_TIMEOUT)

    def create_client() -> Any:
        client = default_client_factory()
        client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], limit]}
        return client

    set_client_factory(create_client)


def short(path: Path) -> str:
    """The name of a file in messages: its folder and its file name."""
    return f"{path.parent.name}/{path.name}"


def check_complete(path: Path) -> None:
    """Raises CalmError if a file is missing, empty, or a Git LFS pointer."""
    if not path.is_file():
        raise CalmError(f"{short(path)} is missing; download it again.")
    with path.open("rb") as file:
        start = file.read(40)
    if not start:
        raise CalmError(f"{short(path)} is empty; download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CalmError(f"{short(path)} is a Git LFS pointer and not the file itself; fetch it with: git lfs pull.")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CalmError for anything else."""
    check_complete(path)
    content = path.read_bytes()
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise CalmError(f"{short(path)} is not UTF-8 text; save it as UTF-8 or download it again.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        if content.lstrip().startswith(b"<"):
            raise CalmError(f"{short(path)} is a web page and not JSON; download the file itself.") from error
        raise CalmError(f"{short(path)} is not valid JSON; download it again.") from error
    if not isinstance(value, dict):
        raise CalmError(f"{short(path)} must hold a JSON object, not a {type(value).__name__}; download it again.")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder. Raises CalmError if it is missing or damaged."""
    return read_json(folder / "config.json")
