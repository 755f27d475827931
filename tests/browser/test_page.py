"""Behaviour that all tabs share."""

import threading

import pytest
from gradio_client import Client

from .conftest import STORY_PROMPT, Visitor

PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda v: v.page.locator("#prompt textarea").fill("x" * 5000), "The prompt has 5,000 characters"),
        (lambda v: v.set("#seed", ""), "Random seed must be a whole number"),
        (lambda v: v.set("#seed", -4), "seed must be a whole number from 0"),
        (lambda v: (v.page.get_by_label("exact", exact=True).check(),
                    v.set("#temperature", 1.5)), "at most 1"),
    ],
)  # fmt: skip
def test_bad_input_is_reported_in_one_sentence_and_nothing_is_lost(visitor, prepare, sentence):
    visitor.page.locator("#prompt textarea").fill("My words stay")
    before = visitor.text()
    prepare(visitor)
    typed = visitor.page.locator("#prompt textarea").input_value()
    visitor.page.locator("#generate").click()
    visitor.page.wait_for_selector("#status [role=alert]")
    assert sentence in visitor.status() and "Traceback" not in visitor.page.content()
    assert visitor.page.locator("#prompt textarea").input_value() == typed
    assert visitor.text() == before
    assert visitor.page.locator("#generate").is_visible()


def test_a_reload_keeps_tab_inputs_and_text(visitor):
    page = visitor.page
    text = visitor.generate("Once upon a time")
    visitor.tab("Race")
    page.wait_for_function("() => location.search.includes('tab=race')")
    page.reload()
    page.wait_for_function("() => document.querySelector('button[aria-selected=true]')?.innerText === 'Race'")
    visitor.tab("Generate")
    page.locator("#run .calm-chunk").first.wait_for()
    assert visitor.text() == text
    assert page.locator("#prompt textarea").input_value() == "Once upon a time"


def test_the_page_works_where_the_browser_denies_storage(browser, address):
    context = browser.new_context()
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
        history.replaceState = () => { throw new DOMException("denied", "SecurityError"); };"""
    )
    visitor = Visitor(context.new_page(), address).open()
    visitor.set("#length", 24)
    assert visitor.generate("Once upon a time")
    visitor.tab("Learn")
    visitor.page.get_by_role("button", name="Start the tour").click()
    visitor.page.get_by_role("heading", name="Encode a chunk").first.wait_for()
    assert visitor.problems == []
    context.close()


def test_controls_and_texts_begin_on_one_line(visitor):
    page = visitor.page
    lefts = page.evaluate(
        """() => ["#header h1", "#tab-generate-button", ".calm-intro", "#prompt textarea", ".gallery", "#length label",
            "#status p", "#run .calm-text", "#run .calm-actions button"]
            .map((selector) => Math.round(document.querySelector(selector).getBoundingClientRect().left))"""
    )
    assert len(set(lefts)) == 1, lefts
    middles = page.evaluate(
        """() => [["#length input[type=range]", "#seed input", "#samples input[type=range]"],
                  ["#generate", "#surprise"]]
            .map((row) => row.map((selector) => document.querySelector(selector).getBoundingClientRect())
                .map((box) => (box.top + box.bottom) / 2))"""
    )
    assert all(max(row) - min(row) <= 2 for row in middles), middles


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (390, 844)])
def test_the_text_is_above_the_fold(browser, address, width, height):
    """At each size a visitor sees what CALM is, the prompt, both buttons and several lines of the text at once."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#run .calm-chunk", timeout=60_000)
    for selector in ("#header p", "#prompt textarea", "#generate", "#surprise", "#temperature input[type=range]"):
        box = page.locator(selector).first.bounding_box()
        assert box and box["y"] + box["height"] <= height, selector
    chunks = page.evaluate(
        "height => [...document.querySelectorAll('#run .calm-chunk')]"
        ".filter((chunk) => chunk.getBoundingClientRect().bottom <= height).length",
        height,
    )
    assert chunks >= 5
    context.close()


def test_select_boxes_have_an_arrow_and_the_strip_shows_whole_lines(visitor):
    page = visitor.page
    visitor.tab("Vector space")
    style = "(e) => getComputedStyle(e)"
    assert page.locator("[data-layout]").evaluate(f"(e) => ({style})(e).backgroundImage").count("gradient") == 2
    strip = page.locator("#map .calm-strip").evaluate(f"(e) => parseFloat(({style})(e).maxHeight)")
    line = page.locator("#map .calm-strip .calm-text").evaluate(f"(e) => parseFloat(({style})(e).lineHeight)")
    assert strip / line == pytest.approx(round(strip / line), abs=0.01)


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_the_footer_of_a_phone_has_no_lone_dot(visitor):
    assert visitor.page.locator("footer .divider").first.is_hidden()
    assert visitor.page.locator("footer button.settings").is_visible()


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_the_page_works_at_phone_width(visitor):
    page = visitor.page
    assert visitor.generate(STORY_PROMPT)
    for tab in ("Generate", "Reconstruct", "Vector space", "Race", "Evaluate", "Learn"):
        visitor.tab(tab)
        page.wait_for_timeout(400)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"] + 1, tab
        small = page.evaluate(
            """() => [...document.querySelectorAll('input, textarea, select')]
                .filter((e) => e.checkVisibility() && !['range', 'radio', 'checkbox', 'file'].includes(e.type))
                .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 16).map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert small == [], tab  # iOS enlarges the page when such an input gets the focus
        cut = page.evaluate(
            """() => [...document.querySelectorAll('p, dd, h1, h2, button, label, textarea')]
                .filter((e) => e.checkVisibility())
                .filter((e) => !e.closest('.calm-plot, .calm-scores, [aria-hidden=true]'))
                .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                .map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert cut == [], tab


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_lines_break_between_words_wherever_a_chunk_ends(visitor):
    words, broken = visitor.page.evaluate(
        """() => {
            const chunks = [...document.querySelectorAll('#run .calm-chunk')];
            const words = chunks.slice(1).map((after, i) => [chunks[i], after]).filter(
                ([before, after]) => /\\w$/.test(before.textContent) && /^\\w/.test(after.textContent));
            const broken = words.filter(([before, after]) =>
                [...before.getClientRects()].at(-1).bottom <= after.getClientRects()[0].top + 1);
            return [words.length, broken.length];
        }"""
    )
    assert words > 0 and broken == 0


def test_two_visitors_do_not_affect_each_other(address):
    def ask(seed: int) -> str:
        client = Client(address, verbose=False)
        return client.predict(STORY_PROMPT, seed=seed, max_new_tokens=120, api_name="/generate")["text"]

    alone = [ask(seed) for seed in (1, 2)]
    together: dict[int, str] = {}

    def visit(seed: int) -> None:
        together[seed] = ask(seed)

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[1], together[2]] == alone


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_on_a_phone_the_candidates_are_a_sheet_below_the_text(visitor):
    page = visitor.page
    title, menu = (
        page.evaluate(
            """(selector) => { const range = document.createRange();
                range.selectNodeContents(document.querySelector(selector));
                const { left, right } = range.getBoundingClientRect(); return [left, right]; }""",
            selector,
        )
        for selector in ("#header h1", "#model .wrap-inner")
    )
    assert title[1] < menu[0]  # the menu of models stands beside the title
    sheet, chunk = page.locator("#run .calm-sheet"), page.locator("#run .calm-chunk").nth(3)
    close = sheet.get_by_role("button", name="Close")
    is_closed = "() => !document.querySelector('#run .calm-sheet').checkVisibility()"
    assert page.evaluate(is_closed)

    def open_sheet() -> None:
        chunk.click()
        assert "Step 4" in sheet.inner_text() and page.evaluate("() => document.activeElement.innerText") == "Close"
        top = sheet.bounding_box()["y"]
        assert top > PHONE["height"] / 2 - 5 and chunk.bounding_box()["y"] + chunk.bounding_box()["height"] <= top

    open_sheet()
    page.locator("#run .calm-chunk").nth(2).click()
    assert "Step 3" in sheet.inner_text()
    close.click()
    assert page.evaluate(is_closed)
    assert page.evaluate("() => document.activeElement.dataset.index") == "2"
    open_sheet()
    page.keyboard.press("Escape")
    assert page.evaluate(is_closed) and page.evaluate("() => document.activeElement.dataset.index") == "3"
    page.keyboard.press("Enter")
    assert not page.evaluate(is_closed)
    page.locator("#run .calm-prompt").click()
    assert page.evaluate(is_closed)
