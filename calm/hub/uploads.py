"""Uploads a model folder with its card to the Hugging Face Hub."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CalmError, reason_of
from .loading import load, shared_autoencoder
from .saving import save

WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json"]
"""Names of files that hold weights or list them."""


def push(folder: str | Path, repository: str, dry: bool = True) -> dict[str, Any]:
    """Uploads a model folder as the logged-in user. A dry run only lists the files.

    Returns ``repository``, ``files`` (path -> size in bytes), ``uploaded`` and ``url``. A model with a shared
    autoencoder is uploaded with its own copy of it. Raises CalmError if the folder is not a model, has no card, or if
    the Hub refuses.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    for name in ("config.json", "README.md"):
        if not (folder / name).is_file():
            raise CalmError(f"{folder} holds no {name}; only a complete model with its card is uploaded.")
    url = f"https://huggingface.co/{repository}"
    with TemporaryDirectory() as scratch:
        complete = _with_autoencoder(folder, Path(scratch))
        paths = sorted(path.relative_to(complete) for path in complete.rglob("*") if path.is_file())
        sent = [path for path in paths if not any(part in (".git", ".cache") for part in path.parts[:-1])]
        files = {path.as_posix(): (complete / path).stat().st_size for path in sent}
        if not dry:
            try:
                HfApi().create_repo(repository, exist_ok=True)
                # Weights of an earlier upload in other files would be loaded instead of the new ones.
                HfApi().upload_folder(repo_id=repository, folder_path=complete, delete_patterns=WEIGHTS)
            except Exception as error:  # the Hub client's errors share no base class with those of its HTTP library
                raise CalmError(f"The Hub did not accept {repository}: {reason_of(error)}") from error
    return {"repository": repository, "files": files, "uploaded": not dry, "url": url}


def _with_autoencoder(folder: Path, scratch: Path) -> Path:
    """The folder itself, or a copy in ``scratch`` that includes the shared autoencoder."""
    if not shared_autoencoder(folder):
        return folder
    for path in folder.iterdir():
        if path.is_file() and "safetensors" not in path.name:
            shutil.copy(path, scratch)
    save(load(folder, "cpu"), scratch)
    return scratch
