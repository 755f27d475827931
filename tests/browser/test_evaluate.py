import re
from pathlib import Path

import pytest

from app.limits import COMPARED_TEMPERATURES
from app.tabs import evaluate as evaluate_tab
from app.tabs import heads as heads_tab
from calm import storyland


def test_models_are_measured_on_a_visitors_text(visitor):
    page = visitor.page
    visitor.tab("Evaluate")
    page.locator("#evaluate").click()
    page.wait_for_selector("#evaluate-status [role=alert]")
    assert "no text to measure" in page.locator("#evaluate-status").inner_text()
    page.locator("#evaluate-text textarea").fill("\n\n".join(storyland.stories("validation", 2)))
    page.locator("#evaluate").click()
    page.wait_for_function(
        "() => document.querySelector('#evaluate-status').innerText.includes('samples at each')", timeout=120_000
    )
    rows = page.locator("#evaluate-table tbody tr")
    assert [rows.nth(i).locator("th").inner_text() for i in range(rows.count())] == ["story-k4", "story-ar"]
    for i in range(rows.count()):
        score, low, high = map(
            float, re.match(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", rows.nth(i).locator("td").first.inner_text()).groups()
        )
        assert 0 < low <= score <= high < 100
    differences = [rows.nth(i).locator("td").nth(1).inner_text() for i in range(rows.count())]
    best = differences.index("–")
    assert re.fullmatch(r"\d+\.\d \(−?\d+\.\d to \d+\.\d\)", differences[1 - best])
    assert not page.locator("#brier-curve-view .calm-plot").is_visible()
    page.locator("#evaluate-text textarea").fill("Mia lost her kite near the old mill.\n\nA shy fox lived in a den.")
    page.locator("#brier-curve").click()
    page.wait_for_function(
        "() => document.querySelector('#brier-curve-status').innerText.includes('samples at each')", timeout=180_000
    )
    curves = page.evaluate(
        """() => document.querySelector('#brier-curve-view .calm-plot').data
            .map((trace) => [trace.name, trace.x, trace.y.length, trace.line.dash])"""
    )
    temperatures = list(COMPARED_TEMPERATURES)
    assert curves == [["story-k4", temperatures, 4, "solid"], ["story-ar", temperatures, 4, "dash"]]
    assert "0.3, 0.5, 0.7, 1" in page.locator("#brier-curve-card").inner_text()
    assert page.locator("#brier-curve-card").get_by_role("button", name="Export CSV").is_visible()


def test_a_file_is_measured_with_progress_until_it_is_stopped(visitor, tmp_path):
    page = visitor.page
    visitor.tab("Evaluate")

    def upload(path: Path) -> None:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a text file").click()
        chooser.value.set_files(path)

    (tmp_path / "picture.txt").write_bytes(bytes(range(256)))
    upload(tmp_path / "picture.txt")
    page.wait_for_selector("#evaluate-status [role=alert]")
    assert "not a text file" in page.locator("#evaluate-status").inner_text()
    text = "\n\n".join(storyland.stories("validation", 20))
    (tmp_path / "stories.txt").write_text(text, encoding="utf-8")
    upload(tmp_path / "stories.txt")
    page.wait_for_function(
        "text => document.querySelector('#evaluate-text textarea').value === text", arg=text, timeout=10_000
    )
    visitor.click_once(
        r"/Measuring … ([3-9]|\d\d) of 40 texts/.test(document.querySelector('#evaluate-status').innerText)",
        "#evaluate-stop",
    )
    page.locator("#evaluate").click()
    page.wait_for_function("() => document.querySelector('#evaluate-status').innerText.includes('Stopped')")
    table = page.locator("#evaluate-table").inner_text()
    assert re.search(r"story-k4\s+[\d.]+ \([\d.]+ to [\d.]+\)", table)
    assert page.locator("#evaluate-text textarea").input_value() == text


def test_the_scores_of_the_cards_and_the_heads_are_drawn(visitor):
    page = visitor.page
    visitor.tab("Evaluate")
    page.wait_for_function("() => document.querySelector('#scores-plot .calm-plot').data")
    series = page.evaluate(
        """() => document.querySelector('#scores-plot .calm-plot').data
            .map((t) => [t.text, t.x, t.y, t.marker.symbol])"""
    )
    known = evaluate_tab.scores_payload()["models"]
    assert {"story-k4", "story-ar"} <= {model["model"] for model in known}
    for (names, costs, scores, _), cost in zip(series, ("generation_flops", "training_flops"), strict=True):
        assert [name.strip() for name in names] == [model["model"] for model in known]
        assert costs == pytest.approx([model[cost] / 1e6 for model in known])
        assert scores == [model["score"] for model in known]
    assert len({symbol for *_, symbol in series}) == 2
    lines = page.evaluate(
        """() => document.querySelector('#scores-plot .calm-plot').layout.shapes
            .map((line) => [line.y0, line.y1, line.label.text])"""
    )
    best = evaluate_tab.scores_payload()["upper_bound"]
    assert lines == [[best, best, f"upper bound (true distribution), {best:.1f}"]] * 2
    page.locator("#head-draws").scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('#head-draws .calm-plot').data")
    lines = page.evaluate(
        """() => document.querySelector('#heads-plot .calm-plot').data
            .map((trace) => [trace.name, trace.x, trace.line.dash])"""
    )
    compared = [head for head in heads_tab.heads_payload()["heads"] if "training" in head]
    assert [(name, counts) for name, counts, _ in lines] == [
        (head["name"], [point["evaluations"] for point in head["points"]]) for head in compared
    ]
    assert len({dash for *_, dash in lines}) == len(lines)
    titles = "() => document.querySelector('#head-draws .calm-plot').layout.annotations.map((a) => a.text)"
    first = page.evaluate(titles)
    page.locator("#head-draws select").select_option("1")
    page.wait_for_function(f"before => String(({titles})()) !== String(before)", arg=first)
    assert all(re.fullmatch(r"[\w-]+: [\d.]+% impossible", title) for title in page.evaluate(titles))
