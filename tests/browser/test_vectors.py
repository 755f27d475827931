import math
import re
from pathlib import Path

import pytest

from app.tabs import generate as generate_tab

from .conftest import STORY_PROMPT

TRACE = """(name) => { const plot = document.querySelector('#map .calm-plot');
  const trace = plot.data.find(t => t.name === name); return [...trace.x].length; }"""


NAMES = "() => document.querySelector('#map .calm-plot').data.map(t => t.name)"
DRAWN = "() => document.querySelector('#map .calm-plot')?.data"


def open_map(visitor, *checked: str) -> None:
    """Opens the tab of the map and ticks some of its boxes."""
    visitor.tab("Vector space")
    visitor.page.wait_for_function(DRAWN)
    for label in checked:
        visitor.page.locator("#map").get_by_label(label).check()
    if "training chunks" in checked:
        visitor.page.wait_for_function(f"() => ({NAMES})().includes('training chunks')")


def test_the_path_appears_on_the_map_and_follows_the_text(visitor):
    page = visitor.page
    text = visitor.generate(STORY_PROMPT)
    steps = page.locator("#run .calm-chunk").count()
    open_map(visitor, "whole path", "training chunks")
    assert page.evaluate(TRACE, "predicted path") == steps
    assert page.evaluate(TRACE, "training chunks") >= 2000
    assert page.evaluate(TRACE, "prompt (encoded)") >= 3
    assert visitor.text("#map") == text
    page.locator("#map .calm-strip .calm-chunk").nth(3).click()
    assert page.evaluate(TRACE, "selected step") == 1
    visitor.tab("Generate")
    assert "Step 4" in page.locator("#run .calm-detail").inner_text()
    assert page.locator("#run .calm-chunk.selected").get_attribute("data-index") == "3"
    visitor.tab("Vector space")
    page.get_by_role("button", name="3-D").click()
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data[0].type === 'scatter3d'")
    assert page.evaluate(TRACE, "predicted path") == steps


def test_the_text_below_the_map_follows_the_step(visitor):
    page = visitor.page
    open_map(visitor)
    steps = page.locator("#map .calm-strip .calm-chunk").count()
    for step in (steps, 1):
        page.locator("#map [data-step]").evaluate(
            "(input, step) => { input.value = step; input.dispatchEvent(new Event('input')); }", step
        )
        page.wait_for_function(
            """step => {
                const strip = document.querySelector('#map .calm-strip'), chosen = strip.querySelector('.selected');
                const [box, chunk] = [strip, chosen].map((node) => node.getBoundingClientRect());
                const seen = chunk.top >= box.top - 1 && chunk.bottom <= box.bottom + 1;
                return Number(chosen.dataset.index) === step - 1 && seen;
            }""",
            arg=step,
        )


def test_the_map_keeps_its_zoom_while_a_new_run_streams_in(visitor):
    page = visitor.page
    open_map(visitor)
    page.evaluate("() => Plotly.relayout(document.querySelector('#map .calm-plot'),"
                  "{'xaxis.range': [1, 4], 'yaxis.range': [2, 5]})")  # fmt: skip
    visitor.tab("Generate")
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    visible = page.evaluate("() => document.querySelector('#map .calm-plot').layout.xaxis.range.map(Math.round)")
    assert visible == [1, 4]


def test_shown_chunks_do_not_flicker(visitor):
    """Chunks that stand on the page stay the same elements while others follow, and so does the map."""
    page = visitor.page
    visitor.set("#temperature", 1.2)
    visitor.set("#length", 80)
    before = visitor.run_id()
    page.evaluate("() => (window.firsts = new Set())")
    visitor.record(
        f"CALM.store.shown.run_id !== '{before}' && window.firsts.add(document.querySelector('#run .calm-chunk')).size"
    )
    page.locator("#generate").click()
    visitor.another_run(before)
    visitor.finished()
    assert visitor.recorded()[-1] == 1  # the first chunk was always the same element
    open_map(visitor, "training chunks")
    page.evaluate("() => (window.canvas = document.querySelector('#map canvas'))")
    visitor.tab("Generate")
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    assert page.evaluate("() => window.canvas === document.querySelector('#map canvas')")


def test_the_map_shows_more_than_one_path(visitor):
    page = visitor.page
    visitor.set("#length", 48)
    visitor.generate(STORY_PROMPT)
    visitor.generate("Once upon a time")
    steps = page.locator("#run .calm-chunk").count()
    open_map(visitor, "whole path")
    parts = page.locator("#map")
    parts.get_by_label("encoded path").check()
    assert page.evaluate(TRACE, "encoded path") == steps
    parts.get_by_label("earlier runs").check()
    assert (
        page.evaluate(
            "() => document.querySelector('#map .calm-plot').data.filter(t => t.name.startsWith('earlier run')).length"
        )
        >= 1
    )
    parts.get_by_label("Colour by").select_option("distance")
    colours = page.evaluate(
        "() => document.querySelector('#map .calm-plot').data.find(t => t.name === 'predicted path').marker.color"
    )
    assert len(colours) == steps and all(distance >= 0 for distance in colours)
    parts.locator(".calm-strip .calm-chunk").nth(1).click()
    parts.get_by_role("button", name="Draw 200 samples").click()
    page.wait_for_function(
        "() => document.querySelector('#map .calm-plot').data.some(t => t.name === '200 samples at this step')"
    )
    assert page.evaluate(TRACE, "200 samples at this step") == 200
    parts.get_by_label("Layout").select_option("principal")
    assert page.evaluate(TRACE, "predicted path") == steps
    parts.locator("[data-play]").click()
    page.wait_for_function("() => document.querySelector('#map [data-status]').innerText.startsWith('step 4')")
    parts.locator("[data-play]").click()
    formats = {"CSV": b"\xef\xbb\xbfstep,text,distance", "PNG": b"\x89PNG", "HTML": b"<!doctype html>"}
    for kind, first_bytes in formats.items():
        with page.expect_download() as download:
            parts.get_by_role("button", name=f"Export {kind}").click()
        assert Path(download.value.path()).read_bytes().startswith(first_bytes)


def test_the_camera_keeps_its_position_in_space(visitor):
    page = visitor.page
    open_map(visitor)
    page.get_by_role("button", name="3-D").click()
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data[0].type === 'scatter3d'")
    eye = "() => document.querySelector('#map .calm-plot')._fullLayout.scene.camera.eye"
    before = page.evaluate(eye)
    box = page.locator("#map .calm-plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 - 60, steps=8)
    page.mouse.up()
    page.wait_for_function(f"before => JSON.stringify(({eye})()) !== JSON.stringify(before)", arg=before)
    turned = page.evaluate(eye)
    page.locator("#map .calm-chunk").nth(1).click()
    visitor.tab("Generate")
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    assert page.evaluate(eye) == pytest.approx(turned)


def test_the_path_is_coloured_by_the_chosen_quantity(visitor):
    page = visitor.page
    open_map(visitor, "whole path")
    marker = (
        "() => document.querySelector('#map .calm-plot').data.find((t) => t.name === 'predicted path').marker.color"
    )
    markers = {}
    for rule in ("step", "distance", "frequency"):
        page.get_by_label("Colour by").select_option(rule)
        markers[rule] = page.evaluate(marker)
    steps = generate_tab.example()["steps"]
    assert markers["step"] == [step["index"] for step in steps]
    assert markers["distance"] == [step["distance"] for step in steps]
    assert markers["frequency"] == pytest.approx([math.log10(1 + step["frequency"]) for step in steps])
    page.get_by_label("Colour by").select_option("")
    assert isinstance(page.evaluate(marker), str)


def test_a_map_of_a_visitors_own_runs_is_fitted(visitor):
    page = visitor.page
    visitor.set("#length", 32)
    visitor.generate("Once upon a time")
    open_map(visitor, "whole path", "encoded path")
    page.get_by_text("Fit a map of your own runs").click()
    page.get_by_label("Neighbours").first.fill("12")
    page.get_by_label("3", exact=True).check()
    visitor.click_once("true", "#fit-stop")
    page.locator("#fit").click()
    page.wait_for_function("() => document.querySelector('#fit-status').innerText.includes('Stopped')")
    visitor.record("document.querySelector('#fit-status').innerText")
    page.locator("#fit").click()
    page.wait_for_function("() => document.querySelector('#fit-status').innerText.includes('own fit')", timeout=300_000)
    assert any(re.search(r"Fitting … \d+ % of the epochs", status) for status in visitor.recorded())
    assert page.get_by_label("Layout").input_value() == "own"
    assert page.evaluate(TRACE, "training chunks") == 800 and page.evaluate(TRACE, "predicted path") == 8
    assert page.evaluate("() => document.querySelector('#map .calm-plot').data[0].type") == "scatter3d"
    offsets = page.evaluate(
        """() => document.querySelector('#map .calm-plot').data
            .filter((trace) => ["training chunks", "predicted path"].includes(trace.name))
            .flatMap((trace) => [trace.x, trace.y, trace.z].map((axis) => [...axis].filter(Number.isFinite).length))"""
    )
    assert sorted(offsets) == [8] * 3 + [800] * 3
    assert page.evaluate(TRACE, "encoded path") == 8 and page.evaluate(TRACE, "prompt (encoded)") >= 1
