"""The code that the page shows for a run repeats it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .conftest import STORY_PROMPT
from .test_run_cards import take_other_candidate

ROOT = Path(__file__).parents[2]


def code_of(page, title: str) -> str:
    return page.locator(f"#run [data-code='{title}'] code").inner_text()


def printed(code: str) -> str:
    """What a Python program prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


def test_the_code_of_a_run_gives_its_text(visitor):
    page = visitor.page
    prompt = 'He said: "It\'s mine" \\ 🙂'
    visitor.set("#temperature", 0.8)
    visitor.set("#length", 24)
    visitor.set("#seed", 4)
    text = prompt + visitor.generate(prompt)
    page.locator("#run summary", has_text="Use in code").click()
    for title in ("Python", "gradio_client"):
        assert printed(code_of(page, title)) == text
    curl = code_of(page, "curl")
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
        last = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")][-1]
        assert json.loads(last)[0]["text"] == text
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the code: curl").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('url=')")
    visitor.set("#seed", 5)  # the code describes the run and not the inputs
    assert code_of(page, "curl") == curl


def test_the_code_of_a_steered_run_gives_its_text(visitor):
    visitor.set("#temperature", 1.2)
    visitor.set("#length", 40)
    visitor.generate(STORY_PROMPT)
    take_other_candidate(visitor, 2)
    visitor.page.locator("#run summary", has_text="Use in code").click()
    prompt = visitor.page.evaluate("() => CALM.store.shown.prompt")
    assert printed(code_of(visitor.page, "Python")) == prompt + visitor.text()
    assert visitor.page.locator("#run [data-code]").count() == 1
