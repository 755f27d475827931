"""The first screen: the replay of the example, the counter of steps, and the colours of the chunks."""

import json
import math
from pathlib import Path

import pytest

from .conftest import STORY_PROMPT, Visitor

EXAMPLE = json.loads((Path(__file__).parents[2] / "assets" / "example.json").read_text(encoding="utf-8"))
STEPS = len(EXAMPLE["steps"])
TOKENS = sum(len(step["token_ids"]) for step in EXAMPLE["steps"])
TOKENS_AS_TEXT = [token for step in EXAMPLE["steps"] for token in step["tokens"]]
COMPLETE = f"{STEPS} steps instead of {TOKENS}"
RECORD_COUNTER = """
window.counts = [];
new MutationObserver(() => {
  const text = document.querySelector("#run .calm-counter p")?.textContent;
  if (text && text !== window.counts.at(-1)) window.counts.push(text);
}).observe(document, { childList: true, subtree: true, characterData: true });
"""
REPLAYED = "complete => counts.length > 1 && counts.at(-1) === complete"


def recorded_page(browser, **options):
    page = browser.new_context(**options).new_page()
    page.add_init_script(RECORD_COUNTER)
    return page


def step_entropy(step: dict) -> float:
    counts = [c["count"] for c in step["candidates"]] + [n for n, chunks in step["other_counts"] for _ in range(chunks)]
    return -sum(n / sum(counts) * math.log2(n / sum(counts)) for n in counts)


ENTROPIES = [step_entropy(step) for step in EXAMPLE["steps"]]


def test_the_example_replays_once_above_the_text_token_by_token(browser, address):
    page = recorded_page(browser)
    page.goto(address)
    page.wait_for_function(REPLAYED, arg=COMPLETE, timeout=60_000)
    first, *counts = [int(text.split()[0]) for text in page.evaluate("() => counts")]
    assert first == STEPS and counts[0] < STEPS and counts == sorted(counts)  # it starts again, and only grows
    assert page.locator("#run .unwritten").count() == 0
    ghost = page.locator("#run .calm-ghost").text_content()
    assert ghost == f"Token by token, after {STEPS} steps: {''.join(TOKENS_AS_TEXT[:STEPS])}"
    page.context.close()


@pytest.mark.parametrize("act", [lambda page: page.keyboard.press("Shift"), lambda page: page.mouse.wheel(0, 1)])
def test_any_input_stops_the_replay(browser, address, act):
    page = recorded_page(browser)
    page.goto(address)
    page.wait_for_function("() => counts.length > 1", timeout=60_000)
    act(page)
    page.wait_for_function("() => !document.querySelector('#run .unwritten')")
    assert page.locator("#run .calm-counter p").text_content() == COMPLETE
    most_open = 1 + ENTROPIES.index(max(ENTROPIES))
    assert page.locator("#run .calm-detail h2").text_content().startswith(f"Step {most_open} ")
    page.context.close()


def test_the_example_does_not_replay_with_reduced_motion(browser, address):
    page = recorded_page(browser, reduced_motion="reduce")
    visitor = Visitor(page, address).open()
    assert page.evaluate("() => counts") == [COMPLETE]
    assert page.locator("#run .unwritten").count() == 0
    assert page.locator("#run .calm-ghost").is_visible()
    assert visitor.problems == []
    page.context.close()


def test_every_run_has_the_counter_while_it_streams(visitor):
    page = visitor.page
    page.evaluate(f"() => {{ {RECORD_COUNTER} }}")
    visitor.set("#temperature", 2)  # each step draws its whole pool, and no text ends early: a long run is seen to grow
    visitor.set("#length", 512)
    visitor.generate(STORY_PROMPT)
    steps = page.locator("#run .calm-chunk").count()
    counts = page.evaluate("() => counts")
    assert counts[-1] == f"{steps} steps instead of {4 * steps}" and len(counts) > 3
    assert f"after {steps} steps" in page.locator("#run .calm-ghost").text_content()


def test_the_race_has_the_same_counter(visitor):
    visitor.tab("Race")
    counter = visitor.page.locator("#race-view .calm-counter p")
    counter.wait_for()
    steps = visitor.page.locator("#race-view .calm-lane").first.locator(".calm-piece").count()
    assert counter.text_content() == f"{steps} steps instead of {4 * steps}"


def levels(visitor: Visitor) -> list[int]:
    return visitor.page.evaluate("() => [...document.querySelectorAll('#run .calm-chunk')].map(e => +e.dataset.level)")


def test_chunks_are_coloured_by_entropy_or_by_the_prediction_error(visitor):
    page = visitor.page
    assert levels(visitor) == [sum(h > limit + 1e-9 for limit in (0, 1, 2)) for h in ENTROPIES]
    legend = page.locator("#run .calm-legend")
    assert legend.locator("li").all_text_contents() == ["0", "≤ 1", "≤ 2", "> 2 bits"]
    page.get_by_label("Colour the chunks by").select_option("prediction error")
    distances = [step["distance"] for step in EXAMPLE["steps"]]
    median = sorted(distances)[STEPS // 2]
    assert levels(visitor) == [sum(d > m * median + 1e-9 for m in (1.5, 3, 10)) for d in distances]
    assert legend.locator("li").first.text_content() == f"≤ {1.5 * median:#.2g}"


def test_the_level_is_visible_without_colour(visitor):
    """Lines of different thickness, in the legend and in the text."""
    for parts in ("#run .calm-chunk:not(.selected)", "#run .calm-swatch"):
        widths = visitor.page.evaluate(
            """parts => Object.fromEntries([...document.querySelectorAll(parts)]
                .map((e) => [e.dataset.level, parseFloat(getComputedStyle(e).borderBottomWidth)]))""",
            parts,
        )
        ordered = [widths[level] for level in sorted(widths)]
        assert len(ordered) >= 3 and ordered == sorted(set(ordered)), parts


def test_the_page_opens_on_the_most_open_step(visitor):
    index = ENTROPIES.index(max(ENTROPIES))
    assert visitor.page.locator("#run .calm-detail h2").text_content().startswith(f"Step {index + 1} ")
    assert visitor.page.locator("#run .calm-chunk.selected").get_attribute("data-index") == str(index)


def test_a_prompt_of_another_language_brings_two_prompts_to_try(visitor):
    page = visitor.page
    visitor.set("#length", 24)
    hint = page.locator("#run .calm-suggestions")
    assert hint.is_hidden()
    visitor.generate("What is the capital of France?")
    assert "story-k4 was trained on Storyland alone" in hint.inner_text()
    suggestion = hint.get_by_role("button").nth(1)
    prompt = suggestion.inner_text()
    before = visitor.run_id()
    suggestion.click()
    visitor.another_run(before)
    visitor.finished()
    assert page.locator("#prompt textarea").input_value() == prompt
    assert page.locator("#run .calm-prompt").inner_text().strip() == prompt
    assert hint.is_hidden()


SELECTED_POINT = """() => { const plot = document.querySelector('#run .calm-path .calm-plot');
  const trace = plot?.data?.find((trace) => trace.name === 'selected step');
  return trace?.x.length === 1 ? `${trace.x[0]} ${trace.y[0]}` : null; }"""


@pytest.mark.parametrize(("width", "height", "beside"), [(1440, 900, True), (1024, 768, False), (390, 844, False)])
def test_text_and_map_move_together(browser, address, width, height, beside):
    """On a desktop the map stands beside the text on the first screen; on smaller screens it comes further down."""
    context = browser.new_context(viewport={"width": width, "height": height})
    visitor = Visitor(context.new_page(), address).open()
    page = visitor.page
    page.locator("#settings > button").click()  # as a visitor finds it
    path = page.locator("#run .calm-path")
    path.scroll_into_view_if_needed()
    page.wait_for_function(SELECTED_POINT, timeout=60_000)
    page.evaluate("() => scrollTo(0, 0)")
    box, text = path.bounding_box(), page.locator("#run .calm-text").bounding_box()
    assert (box["x"] >= text["x"] + text["width"] and box["y"] + box["height"] <= height) == beside
    before = page.evaluate(SELECTED_POINT)
    page.locator("#run .calm-chunk").nth(2).click()
    page.wait_for_function(f"before => ({SELECTED_POINT})() !== before", arg=before)
    step = EXAMPLE["steps"][2]["predicted"]["plane"]
    assert page.evaluate(SELECTED_POINT) == f"{step[0]} {step[1]}"
    assert page.locator("#run .calm-detail h2").text_content().startswith("Step 3 ")
    assert visitor.problems == []
    context.close()


def test_a_first_visit_transfers_at_most_6_megabytes(browser, address):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(address)
    page.wait_for_function(SELECTED_POINT, timeout=60_000)
    assert sum(sizes) <= 6e6
    context.close()


def test_the_selected_chunk_carries_the_accent_at_every_level(visitor):
    page = visitor.page
    looks = set()
    for level in sorted(set(levels(visitor))):
        page.locator(f"#run .calm-chunk[data-level='{level}']").first.click()
        page.mouse.move(0, 0)
        style = "(e) => { const s = getComputedStyle(e); return `${s.backgroundColor} ${s.borderBottomColor}`; }"
        looks.add(page.locator("#run .calm-chunk.selected").evaluate(style))
    assert len(looks) == 1
