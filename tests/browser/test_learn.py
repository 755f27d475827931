"""The guided tour and the menu of models."""

import re

from .conftest import Visitor

TITLES = [
    "Encode a chunk",
    "Add noise",
    "Sample vectors",
    "Apply temperature",
    "Compare steps",
    "Read the map",
    "Race",
]


def act(visitor: Visitor) -> None:
    """Starts the action of the current tour step, and waits until the step shows its outcome."""
    panel = visitor.page.locator(".calm-tour")
    panel.locator(".calm-strong").click()
    visitor.page.wait_for_function(
        """() => document.querySelector('.calm-outcome').innerText
             && !document.querySelector('.calm-tour .calm-strong').disabled""",
        timeout=60_000,
    )


def test_the_tour_acts_on_the_real_page_in_seven_steps(visitor):
    page = visitor.page
    before = visitor.run_id()
    visitor.tab("Learn")
    page.locator("#tour li h2").last.wait_for()
    assert page.locator("#tour li h2").all_inner_texts() == TITLES
    page.get_by_role("button", name="Start the tour").click()
    panel = page.locator(".calm-tour")

    def forward(number: int) -> None:
        assert panel.locator("h2").inner_text() == TITLES[number - 1]
        assert f"Step {number} of 7 · paper, section" in panel.inner_text()
        act(visitor)

    forward(1)
    page.wait_for_function("() => document.querySelector('#reconstruct-status').innerText.includes('100.00%')")
    assert "as brave as Mia" in page.locator("#reconstruct-text textarea").input_value()
    panel.get_by_role("button", name="Next").click()
    forward(2)
    page.wait_for_function("() => document.querySelector('#reconstruct-status').innerText.includes('noise of 0.30')")
    panel.get_by_role("button", name="Next").click()
    forward(3)
    page.wait_for_function(
        "() => document.querySelector('#map .calm-plot').data.some((t) => t.name === '200 samples at this step')"
    )
    panel.get_by_role("button", name="Next").click()
    forward(4)
    detail = page.locator("#run .calm-detail")
    assert "200 fresh samples" in detail.inner_text() and detail.locator("input[type=range]").input_value() == "0.33"
    assert detail.locator(".calm-bars li").count() > 1  # a step at which something was open
    panel.get_by_role("button", name="Next").click()
    forward(5)
    visitor.another_run(before)
    visitor.finished()
    assert re.search(r"\d+ steps · \d+ tokens", visitor.status())
    panel.get_by_role("button", name="Next").click()
    forward(6)
    page.wait_for_function("() => document.querySelector('#map [data-status]').innerText.startsWith('step 3')")
    panel.get_by_role("button", name="Next").click()
    forward(7)
    visitor.raced()
    panel.get_by_role("button", name="Finish").click()
    page.get_by_role("button", name="Continue with step 1").wait_for()
    assert panel.is_hidden() and page.locator("#tour").inner_text().count("✓ done") == 7


def test_the_tour_can_be_left_and_resumed(visitor):
    page = visitor.page
    visitor.tab("Learn")
    page.get_by_role("button", name="Show me step 2").click()
    page.locator("#noise").wait_for()
    page.reload()
    panel = page.locator(".calm-tour")
    panel.get_by_role("heading", name="Add noise").wait_for(timeout=60_000)  # it stays in view
    panel.get_by_role("button", name="Back").click()
    panel.get_by_role("heading", name="Encode a chunk").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Start the tour").wait_for()
    assert panel.is_hidden()
    page.get_by_role("button", name="Show me step 7").click()
    panel.get_by_role("button", name="Leave the tour").click()
    page.get_by_role("button", name="Continue with step 7").click()
    page.get_by_role("tab", name="Race", selected=True).wait_for()


def choose(visitor: Visitor, name: str) -> None:
    visitor.page.locator("#model input").click()
    visitor.page.get_by_role("option", name=name).click()
    visitor.page.wait_for_function(
        """name => { const facts = document.querySelector('#model-facts [data-model]');
            return facts && facts.dataset.model === name && !facts.innerText.includes('loading'); }""",
        arg=name,
        timeout=60_000,
    )


def test_another_model_of_the_menu_is_loaded_and_used(visitor):
    page = visitor.page
    choose(visitor, "story-ar")
    facts = page.locator("#model-facts").inner_text()
    assert re.search(r"step\s*one token\s", facts) and re.search(r"loaded models\s*story-k4, story-ar", facts)
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    assert 1 <= page.locator("#run .calm-chunk").count() <= 24
    assert "Most likely tokens" in page.locator("#run .calm-detail").inner_text()
    page.wait_for_function("() => location.search.includes('model=story-ar')")
    visitor.tab("Vector space")
    page.wait_for_function(
        "() => document.querySelector('#map [data-status]').innerText.includes('no map of story-ar')"
    )
    visitor.tab("Reconstruct")
    page.locator("#reconstruct").click()
    page.wait_for_selector("#reconstruct-status [role=alert]")
    assert "token by token" in page.locator("#reconstruct-status").inner_text()
    visitor.tab("Race")
    page.locator("#race").click()
    page.wait_for_selector("#race-status [role=alert]")
    page.reload()
    page.wait_for_function("() => document.querySelector('#model-facts [data-model=story-ar]')")


def test_an_address_with_an_unknown_model_is_reported_in_one_sentence(visitor):
    page = visitor.page
    page.goto(f"{visitor.address}/?model=other&tab=generate")
    page.wait_for_selector("#model-facts [role=alert]", timeout=60_000)
    assert "There is no model 'other' here" in page.locator("#model-facts").inner_text()
    page.locator("#generate").click()
    page.wait_for_selector("#status [role=alert]")
    assert "choose one of story-k4" in visitor.status()
