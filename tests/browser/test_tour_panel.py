"""The tour is docked beside the page, offered once, chooses a CALM, and says when a step fails."""

import pytest

from .conftest import Visitor
from .test_learn import act, choose

SIZES = [(1440, 900), (1024, 768), (390, 844)]
TABS = ("Generate", "Reconstruct", "Vector space", "Race", "Evaluate", "Learn")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_header_and_tour_leave_the_page_free(browser, address, width, height):
    """The header ends within 120 px in each tab. The tour takes a column at the right, or a quarter of the screen."""
    context = browser.new_context(viewport={"width": width, "height": height})
    visitor = Visitor(context.new_page(), address).open()
    page = visitor.page
    for tab in TABS:
        visitor.tab(tab)
        page.evaluate("() => scrollTo(0, 0)")
        box = page.locator("#model-row").bounding_box()
        assert box["y"] + box["height"] <= 120, tab
        fits = "() => document.documentElement.scrollWidth <= innerWidth + 1"
        assert page.evaluate(fits), tab
    page.locator(".calm-offer").get_by_role("button", name="Take the tour").click()
    panel = page.locator(".calm-tour")
    box = panel.bounding_box()
    if width >= 1200:
        rights = [page.locator(part).bounding_box() for part in ("#header", "#model", "#tour")]
        assert all(part is None or part["x"] + part["width"] <= box["x"] + 1 for part in rights)
    else:
        assert box["height"] <= height / 4 + 1 and box["y"] + box["height"] == pytest.approx(height, abs=1)
    act(visitor)
    box = panel.bounding_box()
    assert width >= 1200 or box["height"] <= height / 4 + 1
    assert page.locator("#reconstruction .calm-pairs.calm-here").is_visible()
    assert page.evaluate(fits)
    assert visitor.problems == []
    context.close()


def test_the_tour_is_offered_once(browser, address):
    context = browser.new_context()
    page = Visitor(context.new_page(), address).open().page
    page.get_by_role("button", name="Do not offer the tour again").click()
    assert page.locator(".calm-offer").count() == 0
    page.reload()
    page.wait_for_selector("#run .calm-chunk")
    page.get_by_role("tab", name="Learn").click()
    page.get_by_role("button", name="Start the tour").wait_for()
    assert page.locator(".calm-offer").count() == 0
    context.close()


def test_the_tour_waits_for_a_header_that_comes_late(browser, address):
    """Gradio mounts the components in no fixed order."""
    context = browser.new_context()
    context.add_init_script(
        """new MutationObserver((_, observer) => {
            const header = document.querySelector(".calm-header");
            if (!header) return;
            observer.disconnect();
            const place = header.parentNode;
            header.remove();
            window.showHeader = () => place.append(header);
        }).observe(document, { childList: true, subtree: true });"""
    )
    visitor = Visitor(context.new_page(), address).open()
    assert visitor.page.locator(".calm-tour").count() == 1
    assert visitor.page.locator(".calm-offer").count() == 0
    visitor.page.evaluate("() => showHeader()")
    visitor.page.locator(".calm-offer").get_by_role("button", name="Take the tour").wait_for()
    assert visitor.problems == []
    context.close()


def test_the_tour_chooses_a_calm_and_a_text_of_one(visitor):
    page = visitor.page
    choose(visitor, "story-ar")
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    visitor.tab("Learn")
    page.get_by_role("button", name="Show me step 3").click()
    act(visitor)
    assert "Each ring is one sample" in page.locator(".calm-outcome").inner_text()
    assert page.locator("#model-facts [data-model]").get_attribute("data-model") == "story-k4"
    assert page.evaluate("() => CALM.store.shown.model") == "story-k4"


def test_a_step_that_fails_says_so_and_is_not_done(visitor):
    page = visitor.page
    visitor.tab("Race")
    visitor.set("#race-seed", "")
    visitor.tab("Learn")
    page.get_by_role("button", name="Show me step 7").click()
    act(visitor)
    outcome = page.locator(".calm-outcome").inner_text()
    assert outcome.startswith("This step failed: Random seed must be a whole number")
    visitor.tab("Learn")
    assert page.locator("#tour").inner_text().count("✓ done") == 0
