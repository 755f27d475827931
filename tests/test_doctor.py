"""The report about this machine: each check describes what is present, and how to add what is missing."""

import json
import os
import socket
import subprocess
import sys

import pytest

from calm import CalmError, doctor
from calm.hub import folders


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_the_report_covers_the_machine_and_names_remedies():
    checks = by_name(doctor.examine())
    assert {"Python", "PyTorch", "GPU", "CPU kernels", "Kernel cache", "Memory", "Models", "Hub", "Port"} <= set(checks)
    assert all(check.message.endswith(".") for check in checks.values())
    assert all(bool(check.remedy) == (check.status != "ok") for check in checks.values())
    assert "story-k4" in checks["Models"].message and "HF_HUB_OFFLINE" in checks["Hub"].message


def test_a_port_in_use_is_a_warning():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        check = by_name(doctor.examine(listener.getsockname()[1]))["Port"]
    assert check.status == "warning" and "GRADIO_SERVER_PORT" in check.remedy


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_a_port_that_does_not_exist_is_one_sentence(port):
    with pytest.raises(CalmError, match=f"port must be a whole number from 0 to 65,535, not {port}"):
        doctor.examine(port)


def test_an_unreachable_hub_is_a_warning(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    check = by_name(doctor.examine())["Hub"]
    assert check.status == "warning" and "cannot be reached" in check.message


def test_no_models_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "CHECKPOINTS", tmp_path)
    check = by_name(doctor.examine())["Models"]
    assert check.status == "warning" and "CALM_CHECKPOINTS" in check.remedy


def test_a_folder_that_cannot_be_written_is_a_warning(monkeypatch):
    def refuse(**arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = by_name(doctor.examine())["Hub cache"]
    assert check.status == "warning" and "HF_HOME" in check.remedy


def test_a_check_that_fails_is_an_error_of_the_report_and_does_not_end_it(monkeypatch):
    def fail() -> doctor.Check:
        raise RuntimeError("broken")

    monkeypatch.setattr(doctor, "_gpu", fail)
    checks = doctor.examine()
    failed = [(check.name, check.message) for check in checks if check.status == "error"]
    assert failed == [("GPU", "The check failed: RuntimeError: broken.")]
    assert doctor.summary(checks) == "error" and len(checks) > 8


def test_a_missing_torch_does_not_end_the_report():
    code = "import sys; sys.modules['torch'] = None; from calm.cli import main; sys.exit(main(['doctor', '--json']))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    checks = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and checks["PyTorch"] == "error" and checks["Models"] != "error"
