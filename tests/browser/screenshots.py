"""Takes the pictures of the documents, and the one of links to a Space: ``make screenshots``."""

from pathlib import Path

from app.payloads.config import TABS
from calm.hub.spaces import THUMBNAIL

from ..running_page import running_page
from .conftest import Visitor, running_browser

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "screenshots"
SIZES = {"desktop": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with running_page() as (address, _), running_browser() as browser:
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                visitor = Visitor(context.new_page(), address).open()
                visitor.page.locator("#settings > button").click()  # as a visitor finds it
                for name, tab in TABS.items():
                    visitor.tab(tab)
                    if name == "race":
                        visitor.race()
                    elif name == "evaluate":
                        visitor.measure_stories()
                    visitor.page.wait_for_timeout(1500)
                    visitor.page.screenshot(path=OUT / f"{name}-{size}-{scheme}.png")
                    if (name, size, scheme) == ("evaluate", "desktop", "light"):
                        plot = visitor.page.locator("#scores-plot")
                        plot.screenshot(path=OUT / "scores.png", style=".modebar { display: none }")
                context.close()
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        Visitor(page, address).open()
        page.locator("#settings > button").click()
        page.screenshot(path=ROOT / THUMBNAIL)


if __name__ == "__main__":
    main()
