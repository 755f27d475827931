import re


def test_a_race_is_run_and_drawn(visitor):
    page = visitor.page
    visitor.tab("Race")
    lanes = page.locator("#race-view .calm-lane")
    page.wait_for_function("() => document.querySelectorAll('#race-view .calm-piece').length > 100")
    assert "An example, measured" in page.locator("#race-status").inner_text()
    headings = ["story-k4: one vector (4 tokens) per step", "story-ar: one token per step"]
    assert lanes.locator("h2").all_inner_texts() == headings
    assert all("6 layers of width 256" in lane for lane in lanes.all_inner_texts())
    assert ["samples per step" in lane for lane in lanes.all_inner_texts()] == [True, False]
    visitor.set("#race-length", 48)
    visitor.race()
    figures = [re.findall(r"(steps|tokens)\n(\d+)", lane) for lane in lanes.all_inner_texts()]
    (calm_steps, calm_tokens), (steps, tokens) = [[int(number) for _, number in facts] for facts in figures]
    assert calm_tokens == 4 * calm_steps <= 48 and tokens == steps <= 48
    assert [lanes.nth(i).locator(".calm-piece").count() for i in (0, 1)] == [calm_steps, steps]
    assert re.search(r"speed-up \d", page.locator("#race-status").inner_text())
    points = page.evaluate("() => document.querySelector('#race-view .calm-plot').data.map(t => t.x.length)")
    assert points == [calm_steps + 1, steps + 1]
    before = lanes.first.inner_text()
    visitor.set("#race-seed", "")
    page.locator("#race").click()
    page.wait_for_selector("#race-status [role=alert]")
    assert "Random seed must be a whole number" in page.locator("#race-status").inner_text()
    assert lanes.first.inner_text() == before


def test_a_race_can_be_stopped(visitor):
    page = visitor.page
    visitor.tab("Race")
    visitor.set("#race-temperature", 1.9)
    visitor.set("#race-length", 512)
    visitor.click_once("document.querySelector('#race-status').innerText.includes('tokens/s')", "#race-stop")
    page.locator("#race").click()
    page.wait_for_function("() => document.querySelector('#race-status').innerText.includes('Stopped')")
    assert 0 < visitor.settled(page.locator("#race-view .calm-piece").count) < 128 + 512
    assert "Stopped" in page.locator("#race-status").inner_text()
    assert page.locator("#race").is_visible() and not page.locator("#race-stop").is_visible()
