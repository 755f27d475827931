"""No pickle is read or written except by functions that refuse code, and no code of a model folder runs."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from . import audit

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "app.py", *(path for name in ("calm", "app", "benchmarks") for path in ROOT.glob(f"{name}/**/*.py"))]
PICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "shelve"}


def calls(tree: ast.AST):
    """The name of each called function, as it is written, and its named arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}


def problems(source: str) -> list[str]:
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.partition(".")[0] in PICKLERS]
    for function, words in calls(tree):
        is_pickle = function in ("pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "pickle.Unpickler")
        is_unsafe = function == "torch.load" and words.get("weights_only") != "True"
        allows_objects = function in ("np.load", "numpy.load") and words.get("allow_pickle", "False") != "False"
        if is_pickle or is_unsafe or allows_objects or words.get("trust_remote_code", "False") != "False":
            found.append(function)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_reads_or_writes_pickles_that_may_hold_code(path):
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import joblib", "from dill import load", "pickle.loads(b'')", "torch.load('x')",
        "numpy.load('x', allow_pickle=True)",
        "torch.load('x', weights_only=False)", "AutoModel.from_pretrained('x', trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_check_sees_unsafe_code(source):
    assert len(problems(source)) == 1


def test_every_requirement_is_pinned():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert "==" in line, f"{line} is not pinned"


def test_the_image_installs_from_the_lock_file_where_it_exists(tmp_path):
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (install,) = re.findall(r"^RUN pip install (.*)$", dockerfile, re.MULTILINE)

    def options() -> str:
        return subprocess.run(["sh", "-c", f"echo {install}"], cwd=tmp_path, capture_output=True, text=True).stdout

    assert options() == "--no-cache-dir -r requirements.txt\n"
    (tmp_path / "requirements.lock").touch()
    assert options() == "--no-cache-dir --require-hashes -r requirements.lock\n"


@pytest.mark.parametrize(
    ("licence", "verdict"),
    [
        ("MIT", True), ("BSD-3-Clause", True), ("Apache License 2.0", True), ("Apache-2.0 OR BSD-2-Clause", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True), ("PSF-2.0", True), ("ISC", True), ("GPL-3.0-only", False),
        ("GNU Affero General Public License v3", False), ("", False), ("Proprietary", False),
    ],
)  # fmt: skip
def test_licences_that_allow_every_use_pass(licence, verdict):
    assert audit.is_permissive(licence) is verdict


def test_the_packages_are_those_that_the_requirements_need():
    names = {package.name for package in audit.packages()}
    assert {"torch", "gradio", "numpy", "pydantic", "prometheus-client"} <= names and "pytest" not in names


def test_known_vulnerabilities_fail_the_audit(monkeypatch, capsys):
    package = audit.Package("torch", "1.0", "MIT")
    monkeypatch.setattr(audit, "packages", lambda: [package])
    monkeypatch.setattr(audit, "vulnerabilities", lambda packages: {package: ["PYSEC-1"]})
    assert audit.main() == 1 and "torch 1.0: PYSEC-1" in capsys.readouterr().out
    monkeypatch.setattr(audit, "vulnerabilities", lambda packages: {})
    assert audit.main() == 0


def test_a_database_that_cannot_be_reached_is_named_and_licences_are_still_checked(monkeypatch, capsys):
    def fail(packages):
        raise OSError("no route")

    monkeypatch.setattr(audit, "vulnerabilities", fail)
    monkeypatch.setattr(audit, "packages", lambda: [audit.Package("a", "1", "GPL-3.0")])
    assert audit.main() == 1
    printed = capsys.readouterr().out
    assert "cannot be reached (no route), so vulnerabilities were not checked" in printed and "a 1: GPL-3.0" in printed
