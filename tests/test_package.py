"""The package as users install it: a wheel in its own folder outside the repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import calm
from calm.training import recipe

ROOT = Path(__file__).parents[1]

CODE = """
import json, os, sys
import calm
from calm.cli import main
from calm.training import recipe

result = {"file": calm.__file__, "version": calm.__version__, "story": calm.storyland.story(0)}
result["recipes"], result["bundled"] = recipe.names(), calm.bundled()
for name in ("story-k4", "tiny"):
    try:
        result[name] = calm.reconstruct(calm.load(name, device="cpu"), "Once upon a time").tokens
    except calm.CalmError as error:
        result[name] = str(error)
print(json.dumps(result))
sys.exit(main(["bench"]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which pip installed the wheel, without its dependencies."""
    folder = tmp_path_factory.mktemp("package")
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "lib"), str(wheel)]
    subprocess.run(install, check=True, env=environment, capture_output=True)
    return folder / "lib"


def test_the_wheel_holds_the_library_and_its_data(installed):
    expected = {
        path.relative_to(ROOT)
        for path in (ROOT / "calm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packaged = {path.relative_to(installed) for path in (installed / "calm").rglob("*") if path.suffix != ".pyc"}
    assert {path for path in packaged if (installed / path).is_file()} == expected
    (metadata,) = installed.glob("calm_playground-*.dist-info")
    assert "calm = calm.cli:main" in (metadata / "entry_points.txt").read_text()
    assert not (installed / "app").exists() and not (installed / "tests").exists()


def test_the_installed_package_runs_without_the_repository(installed, tiny, tmp_path):
    from calm.hub.saving import save

    save(tiny(4), tmp_path / "models" / "tiny")
    environment = {**os.environ, "PYTHONPATH": str(installed), "CALM_CHECKPOINTS": str(tmp_path / "models")}
    run = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    result = json.loads(run.stdout)
    assert Path(result["file"]).is_relative_to(installed) and result["version"] == calm.__version__
    assert result["story"] == calm.storyland.story(0) and result["recipes"] == recipe.names()
    assert result["bundled"] == ["tiny"] and result["tiny"] > 0
    assert result["story-k4"] == "There is no model 'story-k4': name a folder, a Hub id, or one of tiny."
    assert run.returncode == 2 and "The benchmarks come with the project's repository" in run.stderr


def test_the_sentence_where_no_model_is_bundled(monkeypatch, tmp_path):
    from calm.hub import folders

    monkeypatch.setattr(folders, "CHECKPOINTS", tmp_path)
    with pytest.raises(calm.CalmError, match="clone it and set CALM_CHECKPOINTS to its folder checkpoints"):
        calm.load("story-k4")


def test_each_pinned_version_lies_in_the_range_of_the_package():
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ranges = [Requirement(line) for line in [*project["dependencies"], *extras["app"], *extras["train"]]]
    lines = (ROOT / "requirements.txt").read_text().split()
    pins = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in map(Requirement, lines)}
    assert {canonicalize_name(r.name) for r in ranges} == set(pins)
    for requirement in ranges:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
