"""Accessibility: an audit by axe-core, the keyboard, reduced motion, and series that do not depend on colour."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from .conftest import Visitor

TABS = ("Generate", "Reconstruct", "Vector space", "Race", "Evaluate", "Learn")
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_no_violation(browser, address, size, scheme):
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    visitor = Visitor(context.new_page(), address).open()
    page = visitor.page
    violations = {}
    for tab in TABS:
        visitor.tab(tab)
        if tab == "Generate":
            page.locator("#run .calm-run-steps summary").click()  # a chart and a table
            page.locator("#run .calm-step-table tbody tr").first.wait_for()
            if size == "phone":
                page.locator("#run .calm-chunk").nth(3).click()
                page.get_by_role("button", name="Close").wait_for()  # the sheet is open
            page.get_by_label("exact beside pooled").check()
        elif tab == "Learn":
            page.get_by_role("button", name="Show me step 1").click()
        page.wait_for_timeout(1000)
        found = Axe().run(page).response["violations"]
        violations[tab] = [(entry["id"], [node["html"][:120] for node in entry["nodes"]]) for entry in found]
        page.keyboard.press("Escape")  # closes the sheet
    assert violations == {tab: [] for tab in TABS}
    context.close()


def test_text_can_be_generated_and_its_steps_inspected_by_keyboard_alone(visitor):
    page = visitor.page
    before = visitor.run_id()
    visitor.set("#length", 24)
    page.locator("#generate").focus()
    page.keyboard.press("Enter")
    visitor.another_run(before)
    visitor.finished()
    assert page.locator("#run .calm-chunk[tabindex='0']").count() == 1  # one Tab stop, however long the text
    page.locator("#run .calm-chunk").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.index") == "1"
    assert "Step 2" in page.locator("#run .calm-detail").inner_text()
    assert page.locator("#run .calm-chunk[tabindex='0']").get_attribute("data-index") == "1"
    ring = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"  # focus is seen
    page.keyboard.press("Tab")
    assert not page.evaluate("() => document.activeElement.closest('.calm-text')")
    page.locator("#tab-generate-button").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('#tab-reconstruct-button').getAttribute('aria-selected') === 'true'"
    )


def test_progress_is_announced_to_screen_readers(visitor):
    live = "() => [...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map((e) => e.innerText)"
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    live_texts = visitor.page.evaluate(live)
    assert any("tokens/s" in text for text in live_texts)
    assert any(visitor.text() in text for text in live_texts)


def test_nothing_moves_with_reduced_motion(browser, address):
    context = browser.new_context(reduced_motion="reduce")
    page = Visitor(context.new_page(), address).open().page
    moving = page.evaluate(
        """() => [...document.querySelectorAll('.calm-bars .fill, .calm-chunk, .calm-tour')]
            .filter((e) => { const style = getComputedStyle(e);
                return style.transitionDuration !== '0s' || style.animationName !== 'none'; })
            .map((e) => e.className)"""
    )
    assert moving == []
    context.close()


def test_no_figure_distinguishes_its_series_by_colour_alone(visitor):
    page = visitor.page
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    visitor.generate("Once upon a time there was")
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    page.get_by_label("encoded path").check()
    page.get_by_label("earlier runs").check()
    looks = page.evaluate(
        """() => document.querySelector('#map .calm-plot').data.filter((t) => t.mode?.includes('lines') && t.x.length)
            .map((t) => `${t.line.dash || 'solid'} ${t.marker.symbol || 'circle'}`)"""
    )
    assert len(looks) >= 3 and len(set(looks)) == len(looks)
