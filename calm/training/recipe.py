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

    - ``{corpus}`` in a value stands for the folder ``corpus``.
    - A recipe with ``base = NAME`` changes the recipe of that name.
    - ``changes`` are ``key=value`` lines in TOML syntax that replace settings, with dots for tables
      (``model.hidden_size=128``).

    Raises CalmError for a recipe that does not exist, cannot be read, or is its own base.
    """
    settings = _read(name, corpus, ())
    for change in changes or []:
        _merge(settings, _parse(change, f"change {change!r}"))
    return settings


def _read(name: str, corpus: str, derived: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a recipe and its bases; ``derived`` holds the recipes that have it as a base."""
    path = FOLDER / f"{name}.toml"
    path = path if path.exists() else Path(name)
    if not path.is_file():
        raise CalmError(f"There is no recipe {name!r}: name a file, or one of {', '.join(names())}.")
    if name in derived:
        raise CalmError(f"The recipe {name!r} is its own base, by way of {', '.join(derived)}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CalmError(f"The recipe {path.name} is not UTF-8 text.") from error
    settings = _with_corpus(_parse(text, f"recipe {path.name}"), corpus)
    if "base" not in settings:
        return settings
    base = settings.pop("base")
    if not isinstance(base, str):
        raise CalmError(f"The base of the recipe {path.name} must be a recipe's name, not {base!r}.")
    merged = _read(base, corpus, (*derived, name))
    _merge(merged, settings)
    return merged


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalmError(f"The {what} cannot be read as TOML: {error}.") from error


def _with_corpus(value: Any, corpus: str) -> Any:
    """A value of a recipe with ``corpus`` for ``{corpus}``, which is replaced after parsing: a path may hold quotes."""
    if isinstance(value, dict):
        return {key: _with_corpus(item, corpus) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_corpus(item, corpus) for item in value]
    return value.replace("{corpus}", corpus) if isinstance(value, str) else value


def _merge(settings: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            _merge(settings[key], value)
        else:
            settings[key] = value
