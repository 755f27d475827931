"""Recipes: TOML files that hold the settings of a run, so that it can be repeated."""

import tomllib
from pathlib import Path
from typing import Any

from ..errors import CalmError

FOLDER = Path(__file__).parent / "recipes"


def names() -> list[str]:
    """The recipes that come with the library."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str, corpus: str = "corpus", changes: list[str] | None = None) -> dict[str, Any]:
    """The settings of a recipe (a bundled name or a file).

    - ``{corpus}`` in a source stands for the folder ``corpus``.
    - A recipe with ``base = NAME`` changes the recipe of that name.
    - ``changes`` are ``key=value`` lines in TOML syntax that replace settings, with dots for tables
      (``model.hidden_size=128``).

    Raises CalmError for a recipe that does not exist or cannot be read.
    """
    path = FOLDER / f"{name}.toml"
    path = path if path.exists() else Path(name)
    if not path.is_file():
        raise CalmError(f"There is no recipe {name!r}: name a file, or one of {', '.join(names())}.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8").replace("{corpus}", corpus))
        if "base" in settings:
            base = read(settings.pop("base"), corpus)
            _merge(base, settings)
            settings = base
        for change in changes or []:
            _merge(settings, tomllib.loads(change))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CalmError(f"The settings of {path.name} cannot be read as TOML: {error}.") from error
    return settings


def _merge(settings: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            _merge(settings[key], value)
        else:
            settings[key] = value
