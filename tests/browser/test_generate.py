import json
import random
import re
from pathlib import Path

import pytest

import calm
from calm import storyland

from .conftest import STORY_PROMPT, Visitor
from .test_first_screen import ENTROPIES


def test_the_first_screen_shows_a_finished_example(visitor):
    page = visitor.page
    assert "An example, made when the page was built" in visitor.status()
    box = page.locator("#run .calm-chunk").first.bounding_box()
    assert box["y"] < 900  # above the fold
    assert page.locator("#model input").input_value().startswith("story-k4")
    facts = page.locator("#model-facts").inner_text()
    for fact in (
        "parameters",
        "latent dimensions",
        "4 tokens per vector",
        "cpu",
        "float32",
        "CPU kernels",
        "loaded models",
    ):
        assert fact in facts


def test_text_is_generated_chunk_by_chunk(visitor):
    visitor.set("#temperature", 1.2)  # slow enough to be seen: nothing repeats, so each step draws its whole pool
    visitor.set("#length", 512)
    before = visitor.run_id()
    visitor.page.locator("#prompt textarea").fill(STORY_PROMPT)
    visitor.record(f"CALM.store.shown.run_id !== '{before}' && document.querySelectorAll('#run .calm-chunk').length")
    visitor.page.locator("#generate").click()
    visitor.another_run(before)
    visitor.finished()
    assert len(visitor.recorded()) > 3  # it grew on the page
    status = visitor.status()
    steps, tokens = (int(n) for n in re.search(r"(\d+) steps · (\d+) tokens", status).groups())
    assert tokens == 4 * steps == 4 * visitor.page.locator("#run .calm-chunk").count()
    assert f"a token-by-token model needs {tokens} steps" in status
    assert visitor.page.locator("#run .calm-prompt").inner_text().strip() == STORY_PROMPT.strip()


def test_a_seed_repeats_its_text_and_another_seed_does_not(visitor):
    visitor.set("#temperature", 1.2)  # at a low one two seeds often give the same story
    visitor.set("#length", 80)
    first = visitor.generate(STORY_PROMPT)
    assert visitor.generate(STORY_PROMPT) == first
    visitor.page.get_by_role("button", name="New seed").click()
    visitor.page.wait_for_function("() => document.querySelector('#seed input').value != '0'")
    assert visitor.generate(STORY_PROMPT) != first


def test_temperature_changes_the_text_and_its_effect_is_described(visitor):
    words = visitor.page.locator("#temperature-words")
    visitor.set("#length", 160)
    texts = {}
    for temperature, message in ((0.35, "to the power 2.86"), (1, "probabilities unchanged"), (1.37, "rare chunks")):
        visitor.set("#temperature", temperature)
        visitor.page.wait_for_function(
            "message => document.querySelector('#temperature-words').innerText.includes(message)", arg=message
        )
        texts[temperature] = visitor.generate(STORY_PROMPT)
    assert words.inner_text().startswith("1.37")
    assert len(set(texts.values())) == 3
    formed = {t: storyland.check(text).well_formed for t, text in texts.items()}
    assert formed[0.35] >= formed[1.37]


def test_stop_works_at_once_and_keeps_the_text(visitor, story):
    page = visitor.page
    slow = {"temperature": 1.9, "max_new_tokens": 512, "seed": 0}  # each step draws its whole pool
    steps = len(list(calm.generate(story, "", **slow)))
    visitor.set("#temperature", slow["temperature"])
    visitor.set("#length", slow["max_new_tokens"])
    visitor.set("#seed", slow["seed"])
    page.locator("#prompt textarea").fill("")
    visitor.click_once("document.querySelector('#status').innerText.includes('Generating')", "#generate-stop")
    page.locator("#generate").click()
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Stopped')")
    assert 0 < visitor.settled(page.locator("#run .calm-chunk").count) < steps
    assert page.locator("#generate").is_visible() and not page.locator("#generate-stop").is_visible()
    visitor.set("#temperature", 0.5)
    assert visitor.generate(STORY_PROMPT)  # and the next run works


def test_a_chunk_shows_its_pool(visitor):
    visitor.generate(STORY_PROMPT)
    visitor.page.locator("#run .calm-chunk").nth(2).hover()
    detail = visitor.page.locator("#run .calm-detail")
    assert "Step 3" in detail.inner_text()
    assert detail.locator(".calm-token").count() == 4
    assert detail.locator(".calm-bars li.chosen").count() == 1
    assert re.search(r"\d+% → \d+%, \d+ of \d+ samples?", detail.inner_text())
    visitor.page.locator("#run .calm-chunk").nth(4).focus()  # the keyboard's way
    assert "Step 5" in detail.inner_text()


def test_the_pointer_previews_a_step_and_a_click_pins_it(visitor):
    page = visitor.page
    chunks, title = page.locator("#run .calm-chunk"), page.locator("#run .calm-detail h2")
    chunks.nth(4).click()
    chunks.nth(2).hover()
    assert title.inner_text().startswith("Step 3")
    title.hover()
    assert title.inner_text().startswith("Step 5")
    assert page.locator("#run .calm-chunk.selected").get_attribute("data-index") == "4"


def test_tokens_after_the_end_of_a_text_are_marked(visitor):
    """Candidates that differ only after the end of the text show the mark and the tokens after it."""
    page = visitor.page
    page.evaluate("""() => {
        const run = structuredClone(CALM.store.shown), step = run.steps.at(-1);
        const candidate = (text, chosen) => ({ text, count: 1, token_ids: [0, 1, 2, 3], chosen });
        step.candidates = [candidate(" ever.∎Once", true), candidate(" ever.∎A", false)];
        CALM.store.receive({ ...run, run_id: "changed" });
        CALM.store.selectStep(run.steps.length - 1);
    }""")
    names = page.locator("#run .calm-bars .name")
    assert names.all_inner_texts() == ["▸  ever.∎Once", "↳  ever.∎A"]
    assert names.locator(".calm-after-end").all_inner_texts() == ["Once", "A"]


def test_a_pool_is_drawn_in_full_and_reweighted_as_the_slider_moves(visitor):
    page = visitor.page
    detail = page.locator("#run .calm-detail")
    at = ENTROPIES.index(max(ENTROPIES))
    page.locator("#run .calm-chunk").nth(at).focus()
    slider = detail.locator("input[type=range]")
    assert slider.input_value() == "0.5"  # the run's own temperature
    assert detail.locator(".calm-ticks span").all_inner_texts()[:3] == [
        "1",
        "½",
        "⅓",
    ]  # all that the published rule has
    detail.get_by_role("button", name="Draw 200 samples").click()
    detail.get_by_text("200 fresh samples").wait_for(timeout=60_000)
    figure = detail.locator(".calm-bars .figure").first

    def shares() -> tuple[float, float, int]:
        drawn, tempered, count = re.match(r"([\d.]+)% → ([\d.]+)%, (\d+) of 200 samples", figure.inner_text()).groups()
        return float(drawn), float(tempered), int(count)

    shown = {}
    for temperature in ("2", "1", "0.35"):
        slider.fill(temperature)
        shown[temperature] = shares()
    assert shown["1"][0] == shown["1"][1] == pytest.approx(shown["1"][2] / 2, abs=0.5)
    assert shown["2"][1] < shown["1"][1] <= shown["0.35"][1]
    assert len({drawn for drawn, _, _ in shown.values()}) == 1
    detail.get_by_label("exact beside pooled").check()
    compared = re.match(r"[\d.]+% → ([\d.]+)% pooled, ([\d.]+)% exact, \d+ of 200 samples", figure.inner_text())
    drawn = page.evaluate(f"() => CALM.store.freshPool(CALM.store.shown.run_id, {at})")
    counts = [candidate["count"] for candidate in drawn["candidates"]]
    counts += [count for count, chunks in drawn["other_counts"] for _ in range(chunks)]
    powers = [count ** (1 / 0.35) for count in counts]
    expected = [calm.temper(counts, 0.35)[0], powers[0] / sum(powers)]
    assert [float(share) for share in compared.groups()] == pytest.approx([100 * share for share in expected], abs=0.51)
    slider.fill("1.5")
    assert "The exact sampler has no rule above T = 1." in detail.locator(".calm-note").inner_text()
    slider.fill("0.35")
    page.locator("#run .calm-chunk").nth(at + 1).focus()
    assert slider.input_value() == "0.35"  # the next step keeps the temperature


def test_another_candidate_makes_a_branch_and_the_first_text_stays(visitor):
    page = visitor.page
    visitor.set("#temperature", 1.2)
    visitor.set("#length", 80)
    first = visitor.generate(STORY_PROMPT)
    status = visitor.status()
    others = page.locator("#run .calm-bars button.name")
    chunks = page.locator("#run .calm-chunk")
    for index in range(3, chunks.count()):
        chunks.nth(index).focus()
        if others.count():
            break
    taken = others.first.inner_text().removeprefix("↳ ")
    first_chunks = "".join(chunks.all_text_contents()[:index])
    before = visitor.run_id()
    others.first.click()
    visitor.another_run(before)
    visitor.finished()
    assert visitor.text() != first and visitor.text().startswith(first_chunks + taken.rstrip("∎").replace("⏎", "\n"))
    tree = page.locator("#run .calm-tree")
    assert tree.get_by_role("button").count() == 2 and f"step {index + 1}" in tree.inner_text()
    chunks.nth(index).focus()
    assert "by hand" in page.locator("#run .calm-detail").inner_text()
    tree.get_by_role("button", name="first text").click()
    assert visitor.text() == first
    page.wait_for_function("status => document.querySelector('#status').innerText === status", arg=status)
    visitor.tab("Vector space")
    page.locator("#map .calm-chunk").first.wait_for()
    assert visitor.text("#map") == first


def test_the_page_weights_a_pool_as_the_library_does(visitor):
    rng = random.Random(0)
    for _ in range(100):
        counts = [rng.randint(1, 60) for _ in range(rng.randint(1, 40))]
        temperature = rng.choice([1, 0.5, 1 / 3, rng.uniform(0.02, 2)])
        tempered = visitor.page.evaluate("([counts, t]) => CALM.temper(counts, t)", [counts, temperature])
        assert tempered == pytest.approx(calm.temper(counts, temperature), abs=1e-9)


def test_any_prompt_is_continued_on_the_page(visitor):
    visitor.set("#temperature", 0.5)
    visitor.set("#length", 60)
    for prompt in ("", "   ", "a", "日本語 🎉", "Once upon a time, in a very long prompt, " * 40):
        assert visitor.generate(prompt)


def test_samples_are_generated_side_by_side_and_each_can_be_opened(visitor):
    page = visitor.page
    visitor.set("#samples", 3)
    visitor.set("#temperature", 0.9)
    visitor.set("#length", 96)
    first = visitor.generate(STORY_PROMPT)
    columns = page.locator(".calm-sample")
    assert columns.count() == 3
    second = "".join(columns.nth(1).locator(".calm-piece").all_text_contents())
    assert first == "".join(columns.nth(0).locator(".calm-piece").all_text_contents()) != second
    columns.nth(1).get_by_role("button", name="Seed 1").click()
    assert visitor.text() == second and columns.count() == 3
    assert columns.nth(1).get_by_role("button").get_attribute("aria-current") == "true"


def test_a_run_can_be_exported_and_its_address_repeats_it(visitor, browser):
    page = visitor.page
    visitor.set("#seed", 7)
    visitor.set("#temperature", 0.63)
    visitor.set("#length", 32)
    text = visitor.generate("Once upon a time")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON").click()
    exported = json.loads(Path(download.value.path()).read_text())
    assert (
        exported["prompt"] == "Once upon a time"
        and exported["options"]["seed"] == 7
        and exported["model"] == "story-k4"
    )
    assert "".join(step["text"] for step in exported["steps"]) == text
    again = calm.generate(calm.load("story-k4", device="cpu"), exported["prompt"], **exported["options"])
    assert [step.token_ids for step in again] == [step["token_ids"] for step in exported["steps"]]
    page.wait_for_function("() => location.search.includes('seed=7') && location.search.includes('t=0.63')")
    other = Visitor(browser.new_context().new_page(), page.url).open()
    other.page.wait_for_function("() => document.querySelector('#seed input').value === '7'")
    assert other.page.locator("#prompt textarea").input_value() == "Once upon a time"
    assert other.generate() == text
    other.page.context.close()


def test_text_and_link_are_copied(visitor, browser):
    page = visitor.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.set("#seed", 3)
    visitor.set("#length", 24)
    text = visitor.generate("Once upon a time")
    page.get_by_role("button", name="Copy text").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "Once upon a time" + text
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('http')")
    link = page.evaluate("() => navigator.clipboard.readText()")
    other = Visitor(browser.new_context().new_page(), link).open()
    other.page.wait_for_function("() => document.querySelector('#seed input').value === '3'")
    assert other.generate() == text
    other.page.context.close()


def test_surprise_me_draws_a_prompt_and_runs_it(visitor):
    page = visitor.page
    prompts = set()
    visitor.set("#length", 16)
    for _ in range(3):
        before = visitor.run_id()
        page.locator("#surprise").click()
        visitor.another_run(before)
        visitor.finished()
        prompts.add(page.locator("#prompt textarea").input_value())
        assert page.locator("#run .calm-prompt").inner_text().strip() == page.locator("#prompt textarea").input_value()
    assert len(prompts) == 3 and "" not in prompts


def test_text_typed_during_a_run_stays(visitor):
    page, box = visitor.page, visitor.page.locator("#prompt textarea")
    visitor.set("#temperature", 1.2)  # slow: nothing repeats, so each step draws its whole pool
    visitor.set("#length", 240)
    before = visitor.run_id()
    box.fill(STORY_PROMPT)
    page.locator("#generate").click()
    visitor.another_run(before)
    box.fill("Typed meanwhile")
    visitor.finished()
    assert box.input_value() == "Typed meanwhile"


def test_a_browser_slower_than_the_model_shows_the_whole_run(visitor):
    page = visitor.page
    visitor.set("#length", 16)
    before = visitor.run_id()
    # The browser gets all updates of the run at once.
    page.route("**/queue/data*", lambda route: route.fulfill(response=route.fetch()))
    page.locator("#generate").click()
    visitor.another_run(before)
    visitor.finished()
    assert page.evaluate("() => CALM.store.shown.steps.length") == 4


def test_a_prompt_to_try_runs_at_a_click(visitor):
    page = visitor.page
    visitor.set("#length", 16)
    before = visitor.run_id()
    page.locator("#examples .gallery button").nth(1).click()
    visitor.another_run(before)
    visitor.finished()
    assert page.locator("#run .calm-prompt").inner_text().strip() == page.locator("#prompt textarea").input_value()
    assert visitor.text()
