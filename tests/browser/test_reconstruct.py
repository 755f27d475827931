from calm import storyland


def test_reconstruction_with_and_without_noise(visitor):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill("Mia lost her lantern near the old mill, été 1987.")
    page.locator("#reconstruct").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#reconstruction .before')].map(e => e.innerText).join('')"
        ".includes('lantern near the old')"
    )
    assert "Reconstructed without noise" in page.locator("#reconstruct-status").inner_text()
    assert page.locator("#reconstruction .calm-wrong").count() == 0
    page.wait_for_selector("#reconstruction .calm-plot .bars")
    assert page.locator("#reconstruction .calm-plot .point").count() == 64
    visitor.set("#noise", 2.6)
    page.wait_for_selector("#reconstruction .calm-wrong")
    status = page.locator("#reconstruct-status").inner_text()
    assert "noise of 2.60" in status and "100.00%" not in status
    page.locator("#reconstruction .calm-pair").nth(2).click()
    assert "chunk 3" in page.locator("#reconstruction h2").first.inner_text()
    page.locator("#reconstruct-text textarea").fill("")
    page.locator("#reconstruct").click()
    page.wait_for_selector("#reconstruct-status [role=alert]")
    assert "no text to reconstruct" in page.locator("#reconstruct-status").inner_text()
    assert page.locator("#reconstruction .calm-pair").count() > 0  # the old result is still there
    page.locator("#search").click()
    page.wait_for_selector("#search-result mark")
    assert "in 10 documents, by distance" in page.locator("#search-status").inner_text()


def test_robustness_is_measured_and_a_vector_can_be_moved(visitor):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator(".calm-walk .calm-token").first.wait_for()
    before = page.locator(".calm-walked").inner_text()
    page.locator(".calm-walk .calm-range").fill("40")
    assert page.locator(".calm-walked").inner_text() != before
    assert "+4.0 standard deviations" in page.locator(".calm-walk").inner_text()
    page.get_by_label("where to move the vector").select_option("to 1")
    page.wait_for_function("() => document.querySelector('.calm-walk').innerText.includes('0 % of the way')")
    page.locator(".calm-walk .calm-range").fill("40")
    assert "100 % of the way" in page.locator(".calm-walk").inner_text()
    assert page.locator(".calm-near li").count() == 5
    page.locator("#curve").click()
    page.wait_for_function(
        "() => document.querySelector('#curve-status').innerText.includes('4 draws each')", timeout=60_000
    )
    points = page.evaluate("() => document.querySelector('#curve-view .calm-plot').data.map(t => [t.name, t.y.length])")
    assert points == [["held-out stories", 31], ["this text", 31]]
    assert page.locator("#curve-card").get_by_role("button", name="Export CSV").is_visible()
    page.locator("#reconstruct-text textarea").fill("Mia lost her kite.")
    page.locator("#compare-curves").click()
    page.wait_for_function(
        "() => document.querySelector('#curve-status').innerText.includes('4 autoencoders')", timeout=180_000
    )
    curves = page.evaluate("() => document.querySelector('#curve-view .calm-plot').data.map(t => [t.name, t.y.length])")
    assert curves == [[f"K = {k}, story-k{k}", 16] for k in (1, 2, 4, 8)]


def test_the_curve_can_be_stopped_and_keeps_its_points(visitor):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill("\n".join(storyland.stories("validation", 3))[:3900])
    page.wait_for_function("() => document.querySelector('#curve-view .calm-plot').data")  # the plot is drawn late
    points = "document.querySelector('#curve-view .calm-plot').data[1]?.y.length"
    visitor.click_once(f"{points} > 1", "#curve-stop")
    page.locator("#curve").click()
    page.wait_for_function(
        "() => document.querySelector('#curve-status').innerText.includes('Stopped')", timeout=60_000
    )
    assert 1 < visitor.settled(lambda: page.evaluate(points)) < 31
    assert page.locator("#curve").is_visible() and not page.locator("#curve-stop").is_visible()
