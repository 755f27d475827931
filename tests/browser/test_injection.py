"""Text that a visitor, a link, a file or the model brings is shown as text: it does not run and adds no element."""

from urllib.parse import urlencode

import pytest

RUN = "window.injected = (window.injected || 0) + 1"
PAYLOADS = [
    f'<img src=x onerror="{RUN}">',
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f'"><svg onload="{RUN}">',
    f"javascript:{RUN}",
    f"${{{RUN}}}",
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f"<details open ontoggle='{RUN}'>",
    f'<a href="javascript:{RUN}">x</a>',
]
TEXT = "\n".join(PAYLOADS)


def check(page) -> None:
    """Nothing has run, and no element of a payload is on the page."""
    assert page.evaluate("() => window.injected") is None
    assert page.evaluate("() => document.querySelectorAll('[onerror], [ontoggle], [srcdoc]').length") == 0
    assert page.locator("svg[onload], a[href^='javascript:'], img[src='x']").count() == 0


def forged_run(page) -> None:
    """Shows a run in which every text of the model is a payload."""
    page.evaluate(
        """text => {
            const run = structuredClone(CALM.store.shown);
            const put = (value, key) => {
                if (Array.isArray(value)) return value.map((item) => put(item, key));
                if (value && typeof value === "object")
                    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, put(item, name)]));
                return typeof value === "string" && ["text", "tokens", "prompt"].includes(key) ? text : value;
            };
            const forged = { ...put(run, ""), run_id: "forged", finished: true };
            CALM.store.receive(forged);
            CALM.store.show(forged);
        }""",
        TEXT,
    )
    page.wait_for_function("() => document.querySelector('#run .calm-text').textContent.includes('onerror')")


def test_no_text_runs_on_the_page(visitor, tmp_path):
    page = visitor.page
    page.on("dialog", lambda dialog: pytest.fail("A dialog was opened."))

    visitor.generate(TEXT)  # the prompt, on the page and in its address
    check(page)
    forged_run(page)
    page.locator("#run .calm-chunk").first.click()
    check(page)
    visitor.tab("Vector space")
    page.wait_for_selector("#map .main-svg", timeout=120_000)
    check(page)
    with page.expect_download() as download:
        page.locator("#map [data-export='html']").click()
    download.value.save_as(tmp_path / "map.html")
    exported = page.context.new_page()
    exported.goto((tmp_path / "map.html").as_uri())
    exported.wait_for_selector("#map .main-svg", timeout=60_000)
    check(exported)
    exported.close()

    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill(TEXT)
    page.locator("#reconstruct").click()
    page.wait_for_function("() => document.querySelector('#reconstruction').textContent.includes('onerror')")
    check(page)

    visitor.tab("Evaluate")
    name = tmp_path / "<img src=x onerror=window.injected=1>.txt"
    name.write_bytes(b"\xff\xfe\x00\xd8" + bytes(range(128, 256)))
    page.locator("#evaluate-upload input[type=file], input[type=file]").first.set_input_files(str(name))
    page.wait_for_function("() => document.querySelector('#evaluate-status').textContent.trim()")
    check(page)


def test_no_text_of_a_link_runs(browser, address):
    page = browser.new_context().new_page()
    for parameters in ({"prompt": TEXT, "text": TEXT}, {"model": PAYLOADS[0], "tab": PAYLOADS[0], "t": PAYLOADS[0]}):
        page.goto(f"{address}/?{urlencode(parameters)}")
        page.wait_for_selector("#run .calm-chunk", timeout=120_000)
        page.wait_for_function("() => !document.querySelector('#model-facts').innerText.includes('loading')")
        check(page)
    page.context.close()
