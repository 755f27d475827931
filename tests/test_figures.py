"""The figures of docs/how-it-works.md: charts are valid SVG, and their numbers are consistent."""

from xml.etree import ElementTree

import pytest
import torch

from benchmarks import figures
from benchmarks.svg import Axis, Line, bar_chart, line_chart

SVG = "{http://www.w3.org/2000/svg}"
TEXT = "Once upon a time there was a shy fox named Mia. She was afraid of the dark."


def test_a_line_chart_has_a_curve_and_a_name_for_each_line():
    lines = [Line("a < b", [(0, 0), (1, 2)], [(1, 2)]), Line("c", [(0, 1), (1, 2)])]
    root = ElementTree.fromstring(
        line_chart("Title", Axis("x", (0, 1), (0, 1)), Axis("y", (0, 2), (0, 1, 2), " %"), lines)
    )
    assert len(root.findall(f"{SVG}polyline")) == 2 and len(root.findall(f"{SVG}circle")) == 1
    texts = [node.text for node in root.findall(f"{SVG}text")]
    assert {"a < b", "c", "x", "y", "0", "1", "2 %"} <= set(texts)
    heights = [float(node.get("y")) for node in root.findall(f"{SVG}text") if node.text in ("a < b", "c")]
    assert abs(heights[0] - heights[1]) >= 16


def test_a_bar_chart_has_a_bar_for_each_height():
    chart = bar_chart("Title", Axis("x", (0.5, 3.5), (1, 2, 3)), Axis("y", (0, 10), (0, 10)), [1, 10, 5], [1])
    bars = ElementTree.fromstring(chart).findall(f"{SVG}rect")
    assert [bar.get("class") for bar in bars] == ["mark c0", "mark c1", "mark c0"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[1] == pytest.approx(10 * heights[0], abs=0.5)


@torch.inference_mode()
def test_the_numbers_of_the_figures_are_consistent(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "POOL", 8)
    monkeypatch.setattr(figures, "TEMPERATURES", (0.5, 1.0, 1.5))
    lm, generator = tiny(4), torch.Generator().manual_seed(0)
    boundaries = figures.Boundaries(lm, [TEXT])
    assert len(boundaries.chunks) == len(boundaries.hidden) > 2
    pools = boundaries.pools(generator)
    steps = figures.next_vector(tmp_path, boundaries, pools)["steps"]
    assert "".join(step["chunk"] for step in steps) == TEXT[: len("".join(step["chunk"] for step in steps))]
    measured = figures.brier(tmp_path, boundaries, (pools, boundaries.pools(generator)))
    for (_, brier), (_, accuracy), (_, collisions) in zip(
        *(measured[name] for name in ("Brier-4", "accuracy", "collisions"))
    ):
        assert brier == pytest.approx(2 * accuracy - collisions)
    scores = figures.energy(tmp_path, boundaries, generator)
    for (_, score), (_, distance), (_, spread) in zip(*(scores[n] for n in ("energy score", "2 x distance", "spread"))):
        assert score == pytest.approx(distance - spread)
    assert figures.temperature(tmp_path, lm, pools)["distinct"] >= 1
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"next-vector", "brier", "energy", "temperature"}
