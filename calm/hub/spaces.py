"""Publishes the playground as a Hugging Face Space: the files, the front matter, the hardware and the variables."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CalmError, reason_of

ROOT = Path(__file__).parents[2]
NOT_NEEDED = (
    "tests/",
    "benchmarks/",
    "docs/screenshots/",
    ".ci/",
    "deploy/",
    "package.json",
    "package-lock.json",
    "biome.json",
)
"""Tracked paths that the page does not read. They are not uploaded."""
FLAVORS = {"cpu": "cpu-basic", "zero": "zero-a10g", "t4": "t4-small", "l4": "l4x1", "a10g": "a10g-small"}
"""Short names of hardware. Any other name is passed to the Hub unchanged."""
ZERO_GPU = "zero-a10g"
THUMBNAIL = "assets/thumbnail.png"
"""The picture beside a link to the Space in social networks, 1200 by 630 pixels."""
ACCOUNTS = {
    ZERO_GPU: "A free account may create ZeroGPU Spaces; a visitor without an account has two GPU minutes a day.",
    "cpu-basic": "CPU Spaces need a paid plan (PRO, Team or Enterprise).",
}
PAID_HARDWARE = "GPU Spaces need a paid plan, and the hardware is billed by the hour."


@dataclass(frozen=True)
class SpacePlan:
    """Everything that ``deploy`` sends. A dry run prints it."""

    repository: str
    """OWNER/NAME on the Hub."""
    hardware: str
    """The Hub's name of the hardware flavor, such as ``cpu-basic``."""
    files: dict[str, int]
    """Path in the Space -> size in bytes."""
    front_matter: str
    """The YAML block at the top of the Space's README.md."""
    account: str
    """The requirement on the account, in one sentence."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of the Space."""

    @property
    def url(self) -> str:
        return f"https://huggingface.co/spaces/{self.repository}"

    @property
    def total_bytes(self) -> int:
        return sum(self.files.values())


def plan(
    repository: str, hardware: str = "cpu", variables: Mapping[str, str] | None = None, root: Path = ROOT
) -> SpacePlan:
    """Collects what a Space of this checkout would hold.

    ``hardware`` is a key of ``FLAVORS`` or a flavor of the Hub; ``root`` is the checkout. Raises CalmError if
    ``repository`` is not OWNER/NAME or ``root`` is not a git checkout.
    """
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise CalmError(f"A Space is named OWNER/NAME, not {repository!r}.")
    flavor = FLAVORS.get(hardware, hardware)
    readme = _readme(root, repository, flavor)
    files = {path: (root / path).stat().st_size for path in _tracked(root)}
    files["README.md"] = len(readme.encode())
    return SpacePlan(
        repository=repository,
        hardware=flavor,
        files=files,
        front_matter=_split_front_matter(readme)[0],
        account=ACCOUNTS.get(flavor, PAID_HARDWARE),
        variables=dict(variables or {}),
    )


def deploy(space: SpacePlan, root: Path = ROOT) -> str:
    """Creates the Space, or updates the one that exists, and returns its address.

    Files of an earlier upload that the plan does not list are deleted from the Space. Raises CalmError where the Hub
    refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    hardware: Any = space.hardware  # the Hub may have flavors that this client does not list
    target: dict[str, Any] = {"repo_id": space.repository, "repo_type": "space"}
    with TemporaryDirectory() as staging:
        _stage(space, root, Path(staging))
        try:
            exists = api.repo_exists(**target)
            if not exists:
                api.create_repo(**target, space_sdk="gradio", space_hardware=hardware, exist_ok=True)
            for key, value in space.variables.items():
                api.add_space_variable(space.repository, key, value)
            api.upload_folder(
                **target, folder_path=staging, delete_patterns=["*"], commit_message="Update the playground"
            )
            if exists and api.get_space_runtime(space.repository).requested_hardware != space.hardware:
                api.request_space_hardware(space.repository, hardware=hardware)
        except Exception as error:  # the Hub client's errors share no base class with those of its HTTP library
            raise CalmError(f"The Hub did not accept {space.repository}: {reason_of(error)}") from error
    return space.url


def _stage(space: SpacePlan, root: Path, staging: Path) -> None:
    """Copies the plan's files into a folder, with the README of the chosen hardware."""
    for path in space.files:
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        if path == "README.md":
            (staging / path).write_text(_readme(root, space.repository, space.hardware), encoding="utf-8")
        else:
            shutil.copyfile(root / path, staging / path)


def _tracked(root: Path) -> list[str]:
    """The tracked files that the page needs, as they are in the working tree."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CalmError(f"{root} is no git checkout; clone the repository and run the command there.") from error
    paths = [path for path in listing.decode().split("\0") if path and (root / path).is_file()]
    return [path for path in paths if not path.startswith(NOT_NEEDED)]


def _split_front_matter(readme: str) -> tuple[str, str]:
    """The lines between the two ``---`` at the top, and the text below them."""
    lines = readme.splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if line.strip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        raise CalmError("README.md has no front matter; a Space needs the lines between --- and --- at its top.")
    return "".join(lines[1 : ends[1]]), "".join(lines[ends[1] + 1 :])


def _readme(root: Path, repository: str, flavor: str) -> str:
    """The README with the chosen hardware as ``suggested_hardware``, and the Space's picture for social networks."""
    front, text = _split_front_matter((root / "README.md").read_text(encoding="utf-8"))
    others = [line for line in front.splitlines(keepends=True) if not line.startswith("suggested_hardware:")]
    picture = ""
    if (root / THUMBNAIL).is_file():
        picture = f"thumbnail: https://huggingface.co/spaces/{repository}/resolve/main/{THUMBNAIL}\n"
    return f"---\n{''.join(others)}suggested_hardware: {flavor}\n{picture}---\n{text}"
