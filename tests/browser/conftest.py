"""Fixtures: the running page, and a visitor in Chromium."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from calm import storyland

from ..running_page import running_page

# One process for all pages of a context compiles the page's scripts once.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--process-per-site"]
Value = TypeVar("Value")
STORY_PROMPT = storyland.prompt(0)


@contextmanager
def running_browser(arguments: Sequence[str] = ARGUMENTS) -> Iterator[Browser]:
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert chromium, "the browser tests need Chromium; run: make test"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(arguments))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with running_page() as page:
        yield page.address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


def run_and_open_map(page: Page, timeout: int = 60_000) -> None:
    """Generates a text, within ``timeout`` milliseconds, on a page that is being opened, and shows the map."""
    page.wait_for_selector("#run .calm-chunk", timeout=60_000)
    before = page.evaluate("() => CALM.store.shown.run_id")
    page.locator("#generate").click()
    page.wait_for_function(
        "before => CALM.store.shown.run_id !== before && CALM.store.shown.finished", arg=before, timeout=timeout
    )
    page.get_by_role("tab", name="Vector space").click()
    page.wait_for_function("() => document.querySelector('#map .js-plotly-plot')", timeout=60_000)


class Visitor:
    """A page and the errors and outside requests that it recorded."""

    def __init__(self, page: Page, address: str):
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.outside: list[str] = []
        self.pending: set[Request] = set()  # Gradio's requests, and the stream of their results
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda r: self.outside.append(r.url) if self._is_outside(r.url) else None)
        page.on("request", lambda r: self.pending.add(r) if "/queue/" in r.url else None)
        # The page closes a stream when all results have arrived. Playwright does not accept a bound method of a set.
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda r: self.pending.discard(r))

    def _is_outside(self, url: str) -> bool:
        return url.startswith(("http", "ws")) and not url.split("://", 1)[1].startswith(self.address.split("://")[1])

    def open(self) -> "Visitor":
        self.page.goto(self.address)
        self.page.wait_for_selector("#run .calm-chunk", timeout=60_000)
        self.page.wait_for_function(
            "() => !document.querySelector('#model-facts').innerText.includes('loading')", timeout=60_000
        )
        self.page.locator("#settings > button").click()
        self.page.wait_for_selector("#length input", state="visible")
        self._wait_for_events()
        return self

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def race(self) -> None:
        """Lets the models race, in the open tab, until both have finished."""
        self.page.locator("#race").click()
        self.raced()

    def raced(self) -> None:
        """Waits until the first race of this page has ended; a quick one shows its Stop button for an instant only."""
        self.page.wait_for_function(
            "() => document.querySelector('#race-status').innerText.includes('speed-up')", timeout=120_000
        )
        self.page.wait_for_selector("#race", state="visible", timeout=120_000)

    def click_once(self, condition: str, button: str) -> None:
        """Lets the page click a button as soon as it exists and a condition holds. A click from outside could come
        after the end of a short run."""
        self.page.evaluate(
            """([condition, button]) => {
                const holds = new Function("return " + condition);
                const timer = setInterval(() => {
                    const element = document.querySelector(button);
                    if (!element || !element.offsetParent || !holds()) return;
                    clearInterval(timer);
                    element.click();
                }, 5);
            }""",
            [condition, button],
        )

    def record(self, expression: str) -> None:
        """Keeps, from now on, each value that a JavaScript expression takes when the page changes. Polling from outside
        could miss a value that a fast run shows for an instant only."""
        self.page.evaluate(
            """(expression) => {
                const read = new Function("return " + expression);
                const look = () => {
                    const value = read();
                    if (value !== window.recorded.at(-1)) window.recorded.push(value);
                };
                window.recorded = [];
                const changes = { subtree: true, childList: true, characterData: true };
                new MutationObserver(look).observe(document.body, changes);
            }""",
            expression,
        )

    def recorded(self) -> list:
        """The values that ``record`` has kept."""
        return self.page.evaluate("() => window.recorded")

    def measure_stories(self) -> None:
        """Lets the models be measured on the stories that a button fills in, in the tab that is open."""
        self.page.locator("#evaluate-stories").click()
        self.page.wait_for_function("() => document.querySelector('#evaluate-text textarea').value.length > 1000")
        self.page.locator("#evaluate").click()
        self.page.wait_for_function(
            "() => document.querySelector('#evaluate-status').innerText.includes('samples at each')", timeout=180_000
        )

    def text(self, part: str = "#run") -> str:
        """The generated text, without the prompt."""
        return "".join(self.page.locator(f"{part} .calm-chunk").all_text_contents())

    def run_id(self) -> str:
        """The id of the run that is shown."""
        return self.page.evaluate("() => CALM.store.shown.run_id")

    def another_run(self, before: str) -> None:
        """Waits until another run than ``before`` is shown."""
        self.page.wait_for_function("before => CALM.store.shown.run_id !== before", arg=before, timeout=60_000)

    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    def finished(self) -> None:
        """Waits until the current run has ended and is shown completely."""
        self.page.wait_for_function("() => CALM.store.shown.finished", timeout=60_000)
        self.page.wait_for_selector("#generate", state="visible")
        self._wait_for_events()  # Gradio sends the last value once more when a run completes

    def _wait_for_events(self) -> None:
        """Waits until no event is pending, for a second at most: a stream may stay open once another was stopped."""
        deadline = time.monotonic() + 1
        while self.pending and time.monotonic() < deadline:
            self.page.wait_for_timeout(20)

    def settled(self, read: Callable[[], Value]) -> Value:
        """The final value of ``read`` after a stop: on a busy machine, updates sent before the stop arrive late. Fails
        if the value still changes after 20 seconds."""
        value = read()
        for _ in range(13):
            self.page.wait_for_timeout(1500)
            before, value = value, read()
            if value == before:
                return value
        raise AssertionError("The run goes on.")

    def set(self, element: str, value: object) -> None:
        box = self.page.locator(f"{element} input[type=number]").first
        box.fill(str(value))
        box.press("Tab")

    def generate(self, prompt: str | None = None) -> str:
        if prompt is not None:
            self.page.locator("#prompt textarea").fill(prompt)
        before = self.run_id()
        self.page.locator("#generate").click()
        self.another_run(before)
        self.page.wait_for_function(
            """() => { const status = document.querySelector('#status').innerText;
                 return status.includes('tokens/s') && !status.includes('Generating'); }""",
            timeout=60_000,
        )
        self.finished()
        return self.text()


@pytest.fixture(scope="session")
def context(browser, address) -> BrowserContext:
    """The context of all visitors. Its cache holds the files of the page, and a page that stays open keeps the process
    with its compiled scripts: that saves half of the time in which a page opens."""
    context = browser.new_context()
    context.new_page().goto(f"{address}/health")
    return context


@pytest.fixture
def visitor(context, address, request) -> Iterator[Visitor]:
    """A visitor without cookies and stored settings; afterwards the page must have had no console error and no outside
    request."""
    page = context.new_page()
    page.set_viewport_size(getattr(request, "param", {"width": 1440, "height": 900}))
    try:
        opened = Visitor(page, address).open()
        yield opened
        assert opened.problems == []
        assert opened.outside == []
    finally:
        page.goto(f"{address}/health")  # a page of the same origin whose scripts store nothing
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        page.close()
        context.clear_cookies()
        context.clear_permissions()
