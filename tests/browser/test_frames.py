"""The page under its Content-Security-Policy: in a frame of Hugging Face, and refused to a frame of another site."""

import pytest

SITES = {"https://huggingface.co/spaces/owner/name": True, "https://example.org/": False}


@pytest.fixture
def framed(browser, address):
    """Opens a site that shows the page in a frame; yields the function that does so, and the errors in the console."""
    context = browser.new_context()
    context.grant_permissions(["local-network-access"])  # a public site may frame a page on this machine
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def visit(site: str):
        frame = f'<iframe width=1200 height=800 src="{address}/"></iframe>'
        page.route(site, lambda route: route.fulfill(content_type="text/html", body=frame))
        page.goto(site)
        return page

    yield visit, errors
    context.close()


def test_the_page_works_in_a_frame_of_hugging_face(framed):
    visit, errors = framed
    inside = visit("https://huggingface.co/spaces/owner/name").frame_locator("iframe")
    inside.locator("#run .calm-chunk").first.wait_for(timeout=60_000)
    inside.locator("#generate").click()
    inside.locator("#status", has_text="tokens/s").wait_for(timeout=180_000)
    assert errors == []


def test_another_site_may_not_frame_the_page(framed):
    visit, errors = framed
    page = visit("https://example.org/")
    while not errors:  # the browser reports the refusal
        page.wait_for_timeout(50)
    assert "frame-ancestors" in errors[0] and page.frame_locator("iframe").locator("#run").count() == 0


def test_the_policy_stops_scripts_of_other_sites(browser, address):
    page = browser.new_page()
    page.goto(address)
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            const script = document.createElement("script");
            script.src = "https://example.org/script.js";
            document.head.append(script);
        })"""
    )
    assert blocked.startswith("script-src")
    page.close()
