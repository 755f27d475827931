"""The page under its Content-Security-Policy: in a frame of Hugging Face, and refused to a frame of another site."""

import pytest

SITES = {"https://huggingface.co/spaces/owner/name": True, "https://example.org/": False}


@pytest.mark.parametrize("site", SITES)
def test_only_hugging_face_may_frame_the_page(browser, address, site):
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    frame = f'<iframe width=1200 height=800 src="{address}/"></iframe>'
    page.route(site, lambda route: route.fulfill(content_type="text/html", body=frame))
    page.goto(site)
    if SITES[site]:
        inside = page.frame_locator("iframe")
        inside.locator("#run .calm-chunk").first.wait_for(timeout=60_000)
        inside.locator("#generate").click()
        inside.locator("#status", has_text="tokens/s").wait_for(timeout=60_000)
        assert errors == []
    else:
        page.wait_for_function("() => document.querySelector('iframe').contentDocument === null")
        assert any("frame-ancestors" in error for error in errors)
        assert page.frame_locator("iframe").locator("#run").count() == 0
    page.close()


def test_the_policy_stops_scripts_of_other_sites(visitor):
    page = visitor.page
    requests: list[str] = []
    page.context.on("request", lambda request: requests.append(request.url))
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            const script = document.createElement("script");
            script.src = "https://example.org/script.js";
            document.head.append(script);
        })"""
    )
    assert blocked.startswith("script-src") and not any("example.org" in url for url in requests)
    visitor.problems[:] = [problem for problem in visitor.problems if "example.org" not in problem]
