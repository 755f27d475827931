"""Pictures of Plotly figures, taken in Chromium."""

from pathlib import Path

import plotly.graph_objects as go


def save(figure: go.Figure, path: Path, width: int, height: int) -> None:
    """Writes a figure as PNG."""
    from tests.browser.conftest import running_browser

    figure.update_layout(template="plotly_white", width=width, height=height)
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_content(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}))
        page.wait_for_selector(".js-plotly-plot .points")
        page.locator(".js-plotly-plot").screenshot(path=path)
