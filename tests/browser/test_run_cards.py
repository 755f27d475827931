"""Each result says how it was made, and its link makes it again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page

from .conftest import STORY_PROMPT, Visitor

WAIT = 120_000  # milliseconds, for what computes
RUN_CARD = "#run .calm-card"


@contextmanager
def opened(browser, link: str) -> Iterator[Page]:
    """A page that another visitor opens with a link; it must have no console error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    other = Visitor(context.new_page(), link.split("/?")[0])
    other.page.goto(link)
    yield other.page
    assert other.problems == []
    context.close()


def copied(page: Page, card: str) -> str:
    """The link that the button in a part of the page copies."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(card).get_by_role("button", name="Copy link").click()
    page.locator(card).get_by_role("button", name="Copied").wait_for()
    return page.evaluate("() => navigator.clipboard.readText()")


def wait_for_note(page: Page, card: str, sentence: str) -> None:
    page.wait_for_function(
        "([card, sentence]) => document.querySelector(`${card} .calm-changed`)?.innerText.startsWith(sentence)",
        arg=[card, sentence],
    )


def choose_model(page: Page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name).click()
    page.wait_for_function(
        "name => document.querySelector('#model-facts [data-model]')?.dataset.model === name", arg=name
    )


def take_other_candidate(visitor: Visitor, start: int) -> None:
    """Takes another candidate of the first step from ``start`` on that has one."""
    page = visitor.page
    chunks, others = page.locator("#run .calm-chunk"), page.locator("#run .calm-bars button.name")
    for index in range(start, chunks.count()):
        chunks.nth(index).focus()
        if others.count():
            break
    before = visitor.run_id()
    others.first.click()
    visitor.another_run(before)
    visitor.finished()


def test_link_and_export_describe_the_run_and_not_the_inputs(visitor, browser):
    page = visitor.page
    visitor.set("#seed", 7)
    visitor.set("#temperature", 0.8)
    visitor.set("#length", 32)
    text = visitor.generate(STORY_PROMPT)
    card = page.locator(RUN_CARD)
    assert "story-k4" in card.inner_text() and "0.8" in card.inner_text()
    assert not card.locator(".calm-changed").is_visible()
    visitor.set("#seed", 9)
    visitor.set("#length", 64)
    wait_for_note(page, RUN_CARD, "Settings changed: max new tokens, random seed.")
    link = copied(page, "#run")
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert (query["seed"], query["t"], query["length"], query["run"]) == ("7", "0.8", "32", "generate")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON", exact=True).click()
    exported = json.loads(Path(download.value.path()).read_text())
    assert exported["address"] == link and exported["options"]["seed"] == 7 and exported["origin"]["branches"] == []
    with opened(browser, link) as other:
        other.wait_for_function(
            "() => window.CALM?.store.shown?.finished && CALM.store.shown.run_id !== 'example'", timeout=WAIT
        )
        assert "".join(other.locator("#run .calm-chunk").all_text_contents()) == text
        other.locator("#settings > button").click()
        other.locator("#settings > button").click()
        assert other.locator("#seed input").input_value() == "7"
        assert other.locator("#prompt textarea").input_value() == STORY_PROMPT.strip()
        assert not other.locator(f"{RUN_CARD} .calm-changed").is_visible()


def test_settings_that_changed_run_again_at_a_click(visitor):
    page = visitor.page
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    visitor.set("#seed", 5)
    wait_for_note(page, RUN_CARD, "Settings changed: random seed.")
    before = visitor.run_id()
    page.locator(RUN_CARD).get_by_role("button", name="Run again").click()
    visitor.another_run(before)
    visitor.finished()
    assert page.evaluate("() => CALM.store.shown.options.seed") == 5
    page.locator(f"{RUN_CARD} .calm-changed").wait_for(state="hidden")


def test_the_address_repeats_the_shown_run_until_an_input_changes(visitor, browser):
    page = visitor.page
    visitor.set("#length", 24)
    visitor.set("#temperature", 0.9)
    text = visitor.generate("Once upon a time")
    page.wait_for_function("() => location.search.includes('run=generate')")
    with opened(browser, page.url) as other:
        other.wait_for_function(
            "() => window.CALM?.store.shown?.finished && CALM.store.shown.run_id !== 'example'", timeout=WAIT
        )
        assert "".join(other.locator("#run .calm-chunk").all_text_contents()) == text
    before = visitor.run_id()
    page.reload()
    page.locator("#run .calm-chunk").first.wait_for()
    page.locator("#model-facts [data-model=story-k4]").wait_for()  # the inputs have the values of the address
    assert visitor.run_id() == before  # a reload keeps the run and does not repeat it
    page.locator("#settings > button").click()
    visitor.set("#length", 28)
    page.wait_for_function("() => !location.search.includes('run=')")
    visitor.generate("é" * 1300)  # the address has no room for it, so that it names no run
    assert "run=" not in page.url and "prompt=" not in page.url


def test_a_link_repeats_the_branches_of_a_run(visitor, browser):
    page = visitor.page
    visitor.set("#temperature", 1.2)
    visitor.set("#length", 48)
    visitor.generate(STORY_PROMPT)
    for start in (2, 5):
        take_other_candidate(visitor, start)
        visitor.set("#temperature", 0.9)  # each branch has settings of its own
    assert "at 2 steps" in page.locator(RUN_CARD).inner_text()
    text = visitor.text()
    with opened(browser, copied(page, "#run")) as other:
        other.wait_for_function(
            "() => window.CALM?.store.shown?.finished && CALM.store.shown.origin.branches.length === 2", timeout=WAIT
        )
        assert "".join(other.locator("#run .calm-chunk").all_text_contents()) == text
        assert other.locator("#run .calm-tree button").count() == 3


def test_a_link_with_wrong_settings_is_one_sentence(browser, address):
    with opened(browser, f"{address}/?run=generate&prompt=Once&t=5") as page:
        page.wait_for_selector("#status [role=alert]", timeout=WAIT)
        assert "temperature must be" in page.locator("#status").inner_text()


def test_each_tab_says_of_which_model_its_result_is(visitor):
    page = visitor.page
    choose_model(page, "story-k2")
    sentence = "This is a result of story-k4; story-k2 is chosen now."
    for tab, card in {
        "Generate": RUN_CARD,
        "Reconstruct": "#reconstruct-card",
        "Vector space": "#map .calm-card",
        "Race": "#race-card",
    }.items():
        visitor.tab(tab)
        wait_for_note(page, card, sentence)
    visitor.race()
    page.locator("#race-card .calm-changed").wait_for(state="hidden")
    assert "story-k2 and story-ar" in page.locator("#race-card").inner_text()


def test_a_link_repeats_a_race(visitor, browser):
    page = visitor.page
    visitor.tab("Race")
    visitor.set("#race-length", 48)
    visitor.set("#race-seed", 3)
    visitor.race()
    texts = page.locator("#race-view .calm-lane .calm-text").all_inner_texts()
    visitor.set("#race-seed", 4)
    wait_for_note(page, "#race-card", "Settings changed: random seed.")
    with opened(browser, copied(page, "#race-card")) as other:
        other.wait_for_function(
            "() => document.querySelector('#race-status')?.innerText.includes('speed-up')", timeout=WAIT
        )
        other.wait_for_selector("#race", state="visible", timeout=WAIT)
        assert other.locator("#race-seed input").input_value() == "3"
        assert other.locator("#race-view .calm-lane .calm-text").all_inner_texts() == texts


def test_a_link_repeats_a_reconstruction(visitor, browser):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill("Mia lost her kite, her lantern & her way.")
    visitor.set("#noise", 2.7)
    page.wait_for_function("() => document.querySelector('#reconstruct-status').innerText.includes('2.70')")
    assert "her lantern" in page.locator("#reconstruct-card").inner_text()
    status = page.locator("#reconstruct-status").inner_text()
    with opened(browser, copied(page, "#reconstruct-card")) as other:
        other.wait_for_function(
            "status => document.querySelector('#reconstruct-status')?.innerText === status", arg=status
        )


def test_an_evaluation_has_a_card_and_exports_its_figures(visitor, browser):
    page = visitor.page
    visitor.tab("Evaluate")
    page.locator("#evaluate-text textarea").fill(
        "Once upon a time there was a shy fox.\n\nMia lost her kite near the mill."
    )
    page.locator("#evaluate").click()
    page.wait_for_function(
        "() => document.querySelector('#evaluate-card').innerText.includes('Export CSV')", timeout=WAIT
    )
    facts = page.locator("#evaluate-card").inner_text()
    assert "story-k4, story-ar" in facts and "Once upon a time" in facts
    with page.expect_download() as download:
        page.locator("#evaluate-card").get_by_role("button", name="Export JSON Lines").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert [line["model"] for line in lines] == ["story-k4", "story-ar"]
    assert all(0 <= line["brier_lm"] <= 100 for line in lines)
    page.locator("#evaluate-text textarea").fill("Another text.")
    wait_for_note(page, "#evaluate-card", "Settings changed: text.")
    with opened(browser, lines[0]["address"]) as other:
        other.wait_for_function(
            "() => document.querySelector('#evaluate-card')?.innerText.includes('Export CSV')", timeout=WAIT
        )
        assert (
            other.locator("#evaluate-table td").first.inner_text()
            == page.locator("#evaluate-table td").first.inner_text()
        )
