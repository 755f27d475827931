"""The page below a path, behind a proxy that strips it, and in a frame of another origin whose storage is denied."""

from collections.abc import Iterator

import pytest

from ..proxy import ProxySettings, running_proxy
from ..running_page import running_page
from .conftest import run_and_open_map

PREFIX = "/calm"
# Another host name is another origin. The page around the frame keeps the messages that the frame sends to it.
FRAME = f"""<script>messages = []; addEventListener("message", (event) => messages.push(event.data));</script>
<iframe width=1200 height=800 src="http://localhost:{{port}}{PREFIX}/"></iframe>"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of the proxy and the paths that it did not find."""
    settings = ProxySettings(prefix=PREFIX, frame=FRAME)
    with running_proxy(settings) as port:
        address = f"http://127.0.0.1:{port}"
        with running_page(GRADIO_ROOT_PATH=PREFIX, CALM_PARENT_ORIGIN=address) as (settings.upstream, _):
            yield address, settings.missing


def test_the_page_works_below_a_path(proxy, browser):
    address, missing = proxy
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}{PREFIX}/")
    run_and_open_map(page)
    assert missing == [] and errors == []
    page.close()


def test_a_frame_without_storage_draws_every_chunk(proxy, browser):
    address, _ = proxy
    page = browser.new_page()
    page.add_init_script(
        """if (window !== top) for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });"""
    )
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/frame")
    frame = page.frame_locator("iframe")
    frame.locator("#run .calm-chunk").first.wait_for(timeout=60_000)
    steps = page.frames[1].evaluate("() => CALM.store.shown.steps.length")
    assert frame.locator("#run .calm-chunk").count() == steps > 10
    assert errors == []
    page.close()


def test_a_frame_sends_its_settings_to_the_page_around_it(proxy, browser):
    address, _ = proxy
    page = browser.new_page()
    page.goto(f"{address}/frame")
    frame = page.frame_locator("iframe")
    frame.locator("#run .calm-chunk").first.wait_for(timeout=60_000)
    frame.get_by_role("tab", name="Evaluate").click()
    page.wait_for_function("() => messages.at(-1)?.queryString?.includes('tab=evaluate')", timeout=60_000)
    page.close()
