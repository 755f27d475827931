"""Licences and known vulnerabilities of all packages that requirements.txt installs: ``make audit``.

The vulnerabilities come from https://osv.dev. Where it cannot be reached, a line says so, and the licences are checked.
"""

import json
import re
import sys
import urllib.request
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DATABASE = "https://api.osv.dev/v1/querybatch"
REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|HPND|Zlib|CC0|Public Domain|LGPL"
    r"|Lesser General)\b",
    re.IGNORECASE,
)
STRICT = re.compile(r"\b(A?GPL|Affero|(?<!Lesser )General Public)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str


def packages() -> list[Package]:
    """The installed packages that requirements.txt needs, directly or not."""
    waiting = [Requirement(line) for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if line.strip()]
    seen: dict[str, Package] = {}
    visited: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        seen[name] = Package(name, found.version, _licence(found))
        for text in found.requires or ():
            needed = Requirement(text)
            for extra in extras:
                environment = {**default_environment(), "extra": extra}
                if (name + text, extra) in visited or (needed.marker and not needed.marker.evaluate(environment)):
                    continue
                visited.add((name + text, extra))
                waiting.append(needed)
    return sorted(seen.values(), key=lambda package: package.name)


def _licence(found: Distribution) -> str:
    metadata = found.metadata
    lines = [line for line in metadata.get_all("Classifier") or () if line.startswith("License :: ")]
    classifiers = [name for line in lines if (name := line.rpartition(" :: ")[2]) != "OSI Approved"]
    start = (metadata.get("License") or "").strip().partition("\n")[0]
    return metadata.get("License-Expression") or " / ".join(classifiers) or start


def is_permissive(licence: str) -> bool:
    """Whether one of the licences to choose from allows use in a program of any licence."""
    choices = re.split(r"\s+OR\s+", licence)
    return any(PERMISSIVE.search(choice) and not STRICT.search(choice) for choice in choices)


def vulnerabilities(checked: list[Package]) -> dict[Package, list[str]]:
    """Ids of the known vulnerabilities. Raises OSError if the database cannot be reached."""
    queries = [
        {"package": {"name": each.name, "ecosystem": "PyPI"}, "version": each.version.partition("+")[0]}
        for each in checked
    ]
    request = urllib.request.Request(
        DATABASE, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        results = json.load(answer)["results"]
    return {
        each: [entry["id"] for entry in result["vulns"]] for each, result in zip(checked, results) if "vulns" in result
    }


def main() -> int:
    checked = packages()
    unclear = [package for package in checked if not is_permissive(package.licence)]
    for package in unclear:
        print(f"{package.name} {package.version}: {package.licence or 'no licence in its metadata'}")
    try:
        found = vulnerabilities(checked)
    except OSError as error:
        reason = getattr(error, "reason", error)
        print(f"{DATABASE} cannot be reached ({reason}), so vulnerabilities were not checked.")
        found = {}
    else:
        print(f"{len(checked)} packages, {len(found)} with known vulnerabilities.")
    for package, names in found.items():
        print(f"{package.name} {package.version}: {', '.join(names)}")
    return int(bool(unclear or found))


if __name__ == "__main__":
    sys.exit(main())
