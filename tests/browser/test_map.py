"""The content of the vector map: regions, density, the last steps, candidates, search, and models without a map."""

import pytest

from .conftest import STORY_PROMPT
from .test_learn import choose
from .test_vectors import DRAWN, NAMES, TRACE, open_map

LABELS = """() => [...document.querySelectorAll('#map .textpoint text')]
  .filter((label) => label.textContent && label.getBoundingClientRect().width)
  .map((label) => label.getBoundingClientRect())
  .map(({ left, right, top, bottom }) => [left, right, top, bottom])"""
OPEN_STEP = """() => { const { steps } = CALM.store.shown;
  const counts = steps.map((step) => step.candidates.length);
  return counts.indexOf(Math.max(...counts)); }"""
ARROWS = "() => document.querySelector('#map .calm-plot').layout.annotations.map((arrow) => arrow.opacity)"


def test_labels_of_regions_do_not_overlap(visitor):
    page = visitor.page
    open_map(visitor)
    page.wait_for_function("() => document.querySelectorAll('#map .textpoint text').length > 10")
    boxes = page.evaluate(LABELS)
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or left >= other[1] or bottom <= other[2] or top >= other[3]
    assert page.evaluate(TRACE, "regions") == len(boxes)


def test_training_chunks_show_when_zoomed_in_or_on_request(visitor):
    page = visitor.page
    open_map(visitor)
    names = page.evaluate(NAMES)
    assert "density of training chunks" in names and "training chunks" not in names
    zoom = "range => Plotly.relayout(document.querySelector('#map .calm-plot'), {'xaxis.range': range})"
    page.evaluate(zoom, [3, 4])
    page.wait_for_function(f"() => ({NAMES})().includes('training chunks')")
    page.evaluate(zoom, [-20, 30])
    page.wait_for_function(f"() => !({NAMES})().includes('training chunks')")
    page.locator("#map").get_by_label("training chunks").check()
    page.wait_for_function(f"() => ({NAMES})().includes('training chunks')")


def test_the_last_steps_are_fading_arrows(visitor):
    page = visitor.page
    open_map(visitor)
    page.locator("#map .calm-strip .calm-chunk").nth(9).click()
    arrows = page.evaluate(ARROWS)
    assert 3 <= len(arrows) <= 6 and arrows == sorted(arrows) and arrows[0] < arrows[-1] == 1
    assert page.evaluate(TRACE, "predicted path") == 6
    page.locator("#map").get_by_label("whole path").check()
    steps = page.locator("#map .calm-strip .calm-chunk").count()
    assert page.evaluate(TRACE, "predicted path") == steps and page.evaluate(ARROWS) == arrows


def test_the_candidates_of_a_step_collapse_onto_its_vector(visitor):
    page = visitor.page
    page.evaluate(
        """() => { window.flights = [];
          const animate = Element.prototype.animate;
          Element.prototype.animate = function (frames, options) {
            if (this.closest('.calm-flight')) window.flights.push(options.duration);
            return animate.call(this, frames, options); }; }"""
    )
    open_map(visitor)
    step = page.evaluate(OPEN_STEP)
    page.locator("#map .calm-strip .calm-chunk").nth(step).click()
    page.wait_for_function(f"() => ({NAMES})().includes('candidates of this step')")
    candidates = page.evaluate("step => CALM.store.shown.steps[step].candidates.length", step)
    page.wait_for_function(
        "count => document.querySelector('#map .calm-plot').data"
        ".find((trace) => trace.name === 'candidates of this step')?.x.length === count",
        arg=candidates,
    )
    page.wait_for_function("() => window.flights.length > 0")
    assert all(duration < 200 for duration in page.evaluate("() => window.flights"))
    page.wait_for_function("() => document.querySelectorAll('.calm-flight i').length === 0")


def test_nothing_moves_for_those_who_prefer_it(visitor):
    page = visitor.page
    page.emulate_media(reduced_motion="reduce")
    open_map(visitor)
    page.evaluate(
        """() => { window.flights = 0;
          Element.prototype.animate = function () { if (this.closest('.calm-flight')) window.flights += 1; }; }"""
    )
    step = page.evaluate(OPEN_STEP)
    page.locator("#map .calm-strip .calm-chunk").nth(step).click()
    page.wait_for_function(f"() => ({NAMES})().includes('candidates of this step')")
    assert page.evaluate("() => window.flights") == 0


def test_the_prediction_error_stands_beside_what_is_typical(visitor):
    page = visitor.page
    open_map(visitor)
    page.locator("#map .calm-strip .calm-chunk").nth(4).click()
    usual = page.evaluate(
        """async () => { const config = JSON.parse(document.querySelector('#calm-config').textContent);
          return (await (await fetch(config.map_urls['story-k4'].summary)).json()).prediction_error; }"""
    )
    error = page.evaluate("() => CALM.store.shown.steps[4].distance")
    text = f"prediction error {error:.2f} (typical {usual['low']:.2f} to {usual['high']:.2f})"
    page.wait_for_function("text => document.querySelector('#map [data-status]').innerText.endsWith(text)", arg=text)


def test_a_chunk_is_found_and_its_neighbours_are_listed_by_keyboard(visitor):
    page = visitor.page
    open_map(visitor)
    page.get_by_label("Find a chunk").focus()
    page.keyboard.type("lived a")
    page.wait_for_function(f"() => ({NAMES})().includes('matching chunks')")
    texts = page.evaluate(
        "() => document.querySelector('#map .calm-plot').data.find((t) => t.name === 'matching chunks').text"
    )
    assert len(texts) > 10 and all("lived a" in text for text in texts)
    page.keyboard.press("Tab")
    first = page.evaluate("() => document.activeElement.innerText")
    assert "lived a" in first
    page.keyboard.press("Enter")
    nearest = page.locator("#map [data-near] li")
    nearest.first.wait_for()
    assert nearest.count() == 8 and first in page.locator("#map [data-near] h3").inner_text()
    distances = [float(text.split("·")[1]) for text in nearest.locator(".figure").all_inner_texts()]
    assert distances == sorted(distances) and distances[0] > 0
    # The lists belong to the shown model.
    shown = page.evaluate("() => CALM.store.shown.run_id")
    page.evaluate("() => CALM.store.receive({ ...CALM.store.shown, run_id: 'other', model: 'story-ar' })")
    found = page.locator("#map [data-found] button")
    assert found.count() == 0 and page.locator("#map [data-near]").is_hidden()
    page.evaluate("run => CALM.store.show(CALM.store.runs.get(run))", shown)
    assert found.count() > 0 and page.locator("#map [data-near]").is_hidden()
    page.get_by_label("Find a chunk").focus()
    page.keyboard.press("Escape")
    assert page.get_by_label("Find a chunk").input_value() == ""


def test_a_click_on_the_map_lists_the_nearest_chunks(visitor):
    page = visitor.page
    open_map(visitor, "training chunks")
    page.evaluate(
        """() => { const plot = document.querySelector('#map .calm-plot');
          const data = plot.data.find((trace) => trace.name === 'training chunks');
          plot.emit('plotly_click', { points: [{ data, customdata: 7 }] }); }"""
    )
    page.locator("#map [data-near] li").first.wait_for()
    page.wait_for_function(f"() => ({NAMES})().includes('matching chunks')")
    page.evaluate(
        """() => { const plot = document.querySelector('#map .calm-plot');
          const data = plot.data.find((trace) => trace.name === 'predicted path');
          plot.emit('plotly_click', { points: [{ data, customdata: 2 }] }); }"""
    )
    text = page.evaluate("() => CALM.store.shown.steps[2].text")
    page.wait_for_function("text => document.querySelector('#map [data-near] h3').innerText.includes(text)", arg=text)
    assert page.evaluate("() => CALM.store.selected.step_index") == 2


@pytest.mark.parametrize("dark", [False, True])
def test_points_in_space_are_opaque_and_axes_have_meaning(visitor, dark):
    page = visitor.page
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
    open_map(visitor, "whole path", "encoded path")
    page.get_by_role("button", name="3-D").click()
    page.wait_for_function(
        "() => document.querySelector('#map .calm-plot').data.some((trace) => trace.name === 'training chunks')"
    )
    plot = "document.querySelector('#map .calm-plot')"
    traces = page.evaluate(f"() => {plot}.data.map(({{ marker, line }}) => [marker, line])")
    for marker, line in traces:
        for part in filter(None, (marker, line)):
            assert part.get("opacity", 1) == 1
            assert not isinstance(part.get("color"), str) or "rgba" not in part["color"]
    titles = f"() => ['xaxis', 'yaxis', 'zaxis'].map((axis) => {plot}.layout.scene[axis].title.text)"
    assert page.evaluate(titles) == ["", "", ""]
    page.get_by_label("Layout").select_option("principal")
    page.wait_for_function(f"() => {plot}.layout.scene.xaxis.title.text !== ''")
    assert page.evaluate(titles) == [f"principal component {i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("visitor", [{"width": 390, "height": 844}], indirect=True)
def test_the_text_below_the_map_shows_whole_lines(visitor):
    page = visitor.page
    open_map(visitor)
    lines = """() => { const strip = document.querySelector('#map .calm-strip'), text = strip.firstElementChild;
      const line = parseFloat(getComputedStyle(text).lineHeight);
      return [strip.scrollTop / line, strip.clientHeight / line, text.clientHeight / line]; }"""
    assert page.evaluate(lines)[2] > 6
    count = page.locator("#map .calm-strip .calm-chunk").count()
    for step in (count - 1, count // 2, 0, count // 3):
        page.evaluate("step => CALM.store.selectStep(step)", step)
        for number in page.evaluate(lines):
            assert number == pytest.approx(round(number), abs=0.05)


def test_a_model_without_a_map_says_why_and_offers_one_that_has_one(visitor):
    page = visitor.page
    choose(visitor, "story-ar")
    visitor.set("#length", 24)
    visitor.generate(STORY_PROMPT)
    visitor.tab("Vector space")
    note = page.locator("#map [data-no-map]")
    note.wait_for()
    assert "story-ar generated the shown text" in note.inner_text() and "no chunk vectors" in note.inner_text()
    assert page.locator("#map .calm-map").is_hidden() and page.locator("#map [data-cloud]").is_disabled()
    page.get_by_role("button", name="Choose story-k4").click()
    page.wait_for_function(DRAWN)
    assert note.is_hidden() and page.evaluate("() => CALM.store.shown.model") == "story-k4"
    page.wait_for_function("() => document.querySelector('#model input').value.startsWith('story-k4')")


def test_the_map_follows_the_store_while_its_tab_is_hidden(visitor):
    page = visitor.page
    open_map(visitor, "whole path")
    visitor.tab("Generate")
    visitor.set("#length", 32)
    visitor.generate("Once upon a time")
    example = page.evaluate("() => CALM.store.runs.get('example')")
    # A tab that opens late receives the value with which the page was built.
    page.evaluate("example => CALM.store.receive(example)", example)
    assert page.evaluate("() => CALM.store.shown.run_id") != "example"
    visitor.tab("Vector space")
    page.wait_for_function(f"() => ({TRACE})('predicted path') === 8")


def test_a_small_map_can_be_mounted_anywhere(visitor):
    page = visitor.page
    page.evaluate(
        """async () => {
          const url = new URL(document.querySelector('link[href$="vector_map.js"]').href, document.baseURI);
          const { mountVectorMap } = await import(url);
          const container = document.createElement('div');
          container.id = 'small-map';
          container.style = 'position:fixed;inset:0 auto auto 0;width:420px;height:320px';
          document.body.append(container);
          mountVectorMap({ container, compact: true }); }"""
    )
    page.wait_for_function("() => document.querySelector('#small-map .calm-plot').data")
    names = page.evaluate("() => document.querySelector('#small-map .calm-plot').data.map((trace) => trace.name)")
    assert "density of training chunks" in names and "predicted path" in names and "training chunks" not in names
    assert page.locator("#small-map .legend").count() == 0 and page.locator("#small-map .modebar-btn").count() == 0
    page.evaluate("() => CALM.store.selectStep(3)")
    text = page.evaluate("() => CALM.store.shown.steps[3].text")
    page.wait_for_function(
        "text => document.querySelector('#small-map .calm-plot').data"
        ".find((trace) => trace.name === 'selected step').text[0] === text",
        arg=text,
    )
