"""The sections below a run: several temperatures side by side, and a table of seeds."""

import csv
import io
import json
from pathlib import Path

from .conftest import STORY_PROMPT

WAIT = 120_000  # milliseconds, for what computes


def wait_for_card(page, name: str) -> None:
    page.wait_for_function(
        "name => document.querySelector(`#${name}-card`).innerText.includes('Export CSV')", arg=name, timeout=WAIT
    )


def exported(page, name: str, kind: str) -> str:
    with page.expect_download() as download:
        page.locator(f"#{name}-card").get_by_role("button", name=f"Export {kind}").click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_a_prompt_is_shown_at_several_temperatures(visitor):
    page = visitor.page
    page.locator("#prompt textarea").fill(STORY_PROMPT)
    visitor.set("#compare-length", 24)
    page.locator("#compare").click()
    wait_for_card(page, "compare")
    columns = page.locator("#compare-result section")
    assert columns.locator("h3").all_inner_texts() == ["T = 0.3", "T = 0.5", "T = 0.7", "T = 1"]
    assert all("well-formed" in text and " of 2" in text for text in columns.all_inner_texts())
    rows = [json.loads(line) for line in exported(page, "compare", "JSON Lines").splitlines()]
    assert [row["text"] for row in rows] == page.locator("#compare-result .calm-text").all_text_contents()
    assert "useful range" in page.locator("#useful-range").inner_text()


def test_a_comparison_can_be_stopped(visitor):
    page = visitor.page
    visitor.set("#compare-length", 256)
    visitor.set("#compare-seeds", 4)
    page.locator("#prompt textarea").fill("")
    visitor.click_once("document.querySelector('#compare-status').innerText.includes('Generating')", "#compare-stop")
    page.locator("#compare").click()
    page.wait_for_function(
        "() => document.querySelector('#compare-status').innerText.includes('Stopped')", timeout=WAIT
    )
    assert page.locator("#compare").is_visible() and not page.locator("#compare-stop").is_visible()


def test_a_sweep_is_exported_as_a_table(visitor):
    page = visitor.page
    visitor.set("#sweep-seeds", 3)
    visitor.set("#sweep-length", 16)
    visitor.set("#sweep-seed", 40)
    page.locator("#sweep").click()
    wait_for_card(page, "sweep")
    assert page.locator("#sweep-result tbody th").all_inner_texts() == ["40", "41", "42"]
    rows = [json.loads(line) for line in exported(page, "sweep", "JSON Lines").splitlines()]
    table = list(csv.DictReader(io.StringIO(exported(page, "sweep", "CSV").removeprefix("\ufeff"), newline="")))
    assert [row["text"] for row in table] == [row["text"] for row in rows]
    assert [int(row["seed"]) for row in table] == [row["inputs"]["sweep-seed"] + i for i, row in enumerate(rows)]
    visitor.set("#sweep-seed", 41)
    page.wait_for_function(
        "() => document.querySelector('#sweep-card .calm-changed').innerText.startsWith('Settings changed: random')"
    )
