"""The steps of the Dockerfile, as user 1000 in a read-only root. Only its installations come from this machine."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from calm.engine.ops.cpu import cache

from .sandbox import Sandbox
from .test_space import free_port, wait_until_it_answers

ROOT = Path(__file__).parents[2]
HOME, APP, CACHE = "/home/user", "/home/user/app", "/cache"
INSTALLED = ("apt-get update", "useradd", "pip install")
"""Beginnings of the RUN instructions that only a build with Docker carries out."""


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction of the Dockerfile."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line]  # type: ignore[misc]


def copy_context(target: Path) -> None:
    """``COPY . .``: the tracked files without those that .dockerignore names."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for name in tracked.stdout.split("\0")[:-1]:
        if not any(f"/{name}/".startswith(f"/{pattern}/") for pattern in ignored):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)  # with its time, by which numba knows the file


def copy_kernels(sandbox: Sandbox) -> None:
    """Takes the kernels that are compiled on this machine, as a build takes a layer that is built already."""
    from numba.core.caching import _CacheLocator

    def folder(checkout: str) -> str:
        return _CacheLocator.get_suitable_cache_subpath(f"{checkout}/calm/engine/ops/cpu/x.py")

    compiled = cache.FOLDER / folder(str(ROOT))
    target = sandbox.path(f"{CACHE}/numba/{cache.FOLDER.name}") / folder(APP)
    shutil.copytree(compiled, target)
    subprocess.run(["chmod", "-R", "a+rwX", sandbox.path(f"{CACHE}/numba")], check=True)


def test_the_steps_of_the_dockerfile(tmp_path):
    tmp_path.chmod(0o755)
    sandbox = Sandbox(tmp_path / "root", HOME, writable=["/tmp", CACHE])
    environment: dict[str, str] = {}
    image: dict[str, str] = {}
    carried_out = []
    for keyword, arguments in instructions():
        if keyword == "ENV":
            environment |= dict(pair.split("=", 1) for pair in arguments.split())
        elif keyword == "COPY" and arguments.endswith(". ."):
            copy_context(sandbox.path(APP))
            copy_kernels(sandbox)
        elif keyword == "RUN" and not arguments.startswith(INSTALLED):
            assert image["USER"] == "1000" and image["WORKDIR"] == APP
            sandbox.run(arguments.split(), APP, environment)
            carried_out.append(arguments)
        else:
            image[keyword] = arguments
    assert len(carried_out) == 1  # the kernels
    assert image["VOLUME"] == CACHE and image["EXPOSE"] == environment["GRADIO_SERVER_PORT"]

    port = free_port()
    log = tmp_path / "log"
    command = json.loads(image["CMD"])
    process = sandbox.start(command, APP, environment | {"GRADIO_SERVER_PORT": str(port)}, log)
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/health", process, log)
        check = json.loads(image["HEALTHCHECK"].split("CMD", 1)[1].replace(image["EXPOSE"], str(port)))
        sandbox.run(check, APP, environment)
    finally:
        process.terminate()
        process.wait(timeout=30)
