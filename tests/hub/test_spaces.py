"""Publishing as a Space: a stand-in Hub receives exactly the files that the dry run lists."""

import subprocess
from pathlib import Path

import huggingface_hub.constants
import pytest

from calm import CalmError
from calm.hub import spaces

from .fake_hub import FakeHub, is_binary, running_hub

FRONT = "---\ntitle: A page\nsuggested_hardware: t4-small\n---\n"


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield hub


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small checkout with a binary file, tests, and a file that git does not track."""
    root = tmp_path / "checkout"
    for path, data in {
        "README.md": (FRONT + "# A page\n").encode(),
        "app.py": b"print(1)\n",
        "assets/map.npy": b"\x93NUMPY\x00\xff",
        "tests/test_page.py": b"",
        "docs/screenshots/page.png": b"\x89PNG\x00",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    subprocess.run("git init -q && git add -A", shell=True, cwd=root, check=True)
    (root / "notes.txt").write_text("not tracked")
    return root


def test_a_plan_lists_the_tracked_files_that_the_page_needs(checkout):
    plan = spaces.plan("me/page", "zero", root=checkout)
    assert sorted(plan.files) == ["README.md", "app.py", "assets/map.npy"]
    assert plan.hardware == "zero-a10g" and "free account" in plan.account
    assert plan.front_matter == "title: A page\nsuggested_hardware: zero-a10g\n"
    assert plan.total_bytes == sum(plan.files.values()) and plan.url.endswith("/spaces/me/page")


def test_links_to_the_space_show_its_picture(checkout):
    (checkout / spaces.THUMBNAIL).write_bytes(b"\x89PNG\x00")
    subprocess.run(["git", "add", "-A"], cwd=checkout, check=True)
    plan = spaces.plan("me/page", root=checkout)
    assert f"thumbnail: {plan.url}/resolve/main/{spaces.THUMBNAIL}\n" in plan.front_matter
    assert spaces.THUMBNAIL in plan.files


def test_the_hub_receives_exactly_the_files_of_the_plan(hub: FakeHub, checkout):
    plan = spaces.plan("me/page", "cpu", {"CALM_MODELS": "cccczshao/CALM-M"}, root=checkout)
    assert spaces.deploy(plan, checkout) == plan.url
    space = hub.repositories["me/page"]
    assert {path: len(data) for path, data in space["files"].items()} == plan.files
    assert space["files"]["assets/map.npy"] == (checkout / "assets/map.npy").read_bytes()
    assert b"suggested_hardware: cpu-basic" in space["files"]["README.md"]
    assert space["variables"] == {"CALM_MODELS": "cccczshao/CALM-M"}
    assert (space["sdk"], space["hardware"]) == ("gradio", "cpu-basic")


def test_a_second_run_updates_the_space_and_deletes_removed_files(hub: FakeHub, checkout):
    spaces.deploy(spaces.plan("me/page", "cpu", root=checkout), checkout)
    subprocess.run(["git", "rm", "-qf", "app.py"], cwd=checkout, check=True)
    (checkout / "assets/map.npy").write_bytes(b"\x93NUMPY\x00\xfe")
    plan = spaces.plan("me/page", "t4", root=checkout)
    spaces.deploy(plan, checkout)
    space = hub.repositories["me/page"]
    assert {path: len(data) for path, data in space["files"].items()} == plan.files
    assert space["files"]["assets/map.npy"].endswith(b"\xfe") and space["hardware"] == "t4-small"


def test_a_refusal_is_reported_in_one_sentence(hub: FakeHub, checkout):
    hub.refuse = "You need a paid plan for this hardware."
    with pytest.raises(CalmError, match="did not accept me/page") as error:
        spaces.deploy(spaces.plan("me/page", root=checkout), checkout)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["page", "me/", "/page", "me/my/page"])
def test_a_bad_name_is_refused(name, checkout):
    with pytest.raises(CalmError, match="OWNER/NAME"):
        spaces.plan(name, root=checkout)


def test_a_folder_without_git_is_refused(tmp_path):
    (tmp_path / "README.md").write_text(FRONT)
    with pytest.raises(CalmError, match="no git checkout"):
        spaces.plan("me/page", root=tmp_path)


def test_a_readme_without_front_matter_is_refused(checkout):
    (checkout / "README.md").write_text("# A page\n")
    with pytest.raises(CalmError, match="front matter"):
        spaces.plan("me/page", root=checkout)


HOOK = """#!/usr/bin/env python3
import subprocess, sys
for line in sys.stdin:
    new = line.split()[1]
    names = subprocess.run(["git", "ls-tree", "-r", "--name-only", "-z", new], capture_output=True).stdout
    for name in filter(None, names.decode().split("\\0")):
        data = subprocess.run(["git", "cat-file", "blob", f"{new}:{name}"], capture_output=True).stdout
        if b"\\0" in data[:8000]:
            sys.exit(f"binary file outside LFS: {name}")
"""


def _push(root: Path, remote: Path) -> subprocess.CompletedProcess:
    identity = "git -c user.name=t -c user.email=t@example.org"
    command = f"{identity} commit -qm all && git push -q {remote} HEAD:main"
    return subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True)


def test_the_hubs_rule_refuses_a_push_and_takes_the_upload(hub: FakeHub, checkout, tmp_path):
    """The Hub refuses a git push with binary files outside LFS. The upload sends those as LFS objects."""
    bare = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    (bare / "hooks/pre-receive").write_text(HOOK)
    (bare / "hooks/pre-receive").chmod(0o755)
    refused = _push(checkout, bare)
    assert refused.returncode != 0 and "binary file outside LFS" in refused.stderr
    spaces.deploy(spaces.plan("me/page", root=checkout), checkout)
    sent = {path for path, data in hub.files("me/page").items() if is_binary(data)}
    assert sent == {"assets/map.npy"} and set(hub.blobs.values()) == {(checkout / path).read_bytes() for path in sent}
    text = tmp_path / "text"
    for path in set(hub.files("me/page")) - sent:
        (text / path).parent.mkdir(parents=True, exist_ok=True)
        (text / path).write_bytes(hub.files("me/page")[path])
    subprocess.run("git init -q && git add -A", shell=True, cwd=text, check=True)
    assert _push(text, bare).returncode == 0
