"""SHA-256 checksums of the weights of bundled models, in the format of sha256sum."""

import hashlib
from pathlib import Path

from ..errors import CalmError
from ..files import write_text
from .folders import short

MANIFEST = "SHA256SUMS"
"""The file beside the model folders; ``sha256sum -c SHA256SUMS`` checks it, too."""


def verify(path: Path) -> None:
    """Raises CalmError if a weights file differs from its line in the manifest. Unlisted files pass."""
    expected = _read(path.parent.parent / MANIFEST).get(short(path))
    if expected and _digest(path) != expected:
        raise CalmError(f"{short(path)} does not match its checksum in {MANIFEST}; restore it with: git checkout.")


def update(folder: Path) -> None:
    """Rewrites the lines of a model folder in the manifest beside it, if there is one."""
    manifest = folder.parent / MANIFEST
    if manifest.is_file():
        lines = {name: digest for name, digest in _read(manifest).items() if Path(name).parent.name != folder.name}
        lines |= {short(path): _digest(path) for path in folder.glob("*.safetensors")}
        write_text(manifest, "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items())))


def _read(manifest: Path) -> dict[str, str]:
    """folder/file -> digest; empty if there is no manifest."""
    if not manifest.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.strip(): digest for digest, name in lines}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
