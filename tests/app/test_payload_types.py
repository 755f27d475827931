"""Python and JavaScript declare the values that they exchange with the same names and keys."""

import re
from pathlib import Path
from typing import NotRequired, get_origin, get_type_hints

from typing_extensions import is_typeddict

from app.payloads import measurement_types, origins, types

SCRIPTS = Path(__file__).parents[2] / "assets" / "js"
TYPESCRIPT = [SCRIPTS / f"{name}.d.ts" for name in ("types", "measurement_types", "origins")]


def python_types() -> dict[str, dict[str, bool]]:
    """For each TypedDict its keys, and whether the key is optional."""
    return {
        name: {key: get_origin(hint) is NotRequired for key, hint in get_type_hints(value, include_extras=True).items()}
        for name, value in (vars(types) | vars(measurement_types) | vars(origins)).items()
        if is_typeddict(value)
    }


def javascript_types() -> dict[str, dict[str, bool]]:
    """The same for each interface; one that extends another has its keys, too."""
    source = re.sub(
        r"/\*.*?\*/|//[^\n]*", "", "\n".join(path.read_text(encoding="utf-8") for path in TYPESCRIPT), flags=re.DOTALL
    )
    interfaces: dict[str, dict[str, bool]] = {}
    for name, parent, body in re.findall(r"interface (\w+)(?: extends (\w+))? \{(.*?)\n\}", source, re.DOTALL):
        keys = re.findall(r"^  (\w+)(\??):", body, re.MULTILINE)
        interfaces[name] = {**interfaces.get(parent, {}), **{key: mark == "?" for key, mark in keys}}
    return interfaces


def test_both_languages_declare_the_same_types():
    assert javascript_types() == python_types()


def test_keys_are_read_with_their_parents_and_marks():
    interfaces = javascript_types()
    assert interfaces["StepPayload"]["candidates"] is False and interfaces["StepPayload"]["distance"] is True
    assert len(interfaces) > 20 and all(interfaces.values())
