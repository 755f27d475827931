"""The page, driven as a visitor would."""

import json
import math
import random
import re
import threading
from pathlib import Path

import pytest
from gradio_client import Client

import calm
from app import evaluate_tab, generate_tab
from calm import storyland

from .conftest import Visitor

PHONE = {"width": 390, "height": 844}
ORDER = "A story about a shy fox named Mia and a fear of thunder.\n"


def test_the_first_screen_shows_a_finished_example(visitor):
    page = visitor.page
    assert "An example, made when the page was built" in visitor.status()
    box = page.locator("#run .calm-chunk").first.bounding_box()
    assert box["y"] < 900  # above the fold
    assert page.locator("#model input").input_value().startswith("story-k4")
    facts = page.locator("#model-facts").inner_text()
    for fact in ("parameters", "64 numbers", "4 tokens a vector", "cpu", "float32", "resident"):
        assert fact in facts


def test_text_is_generated_chunk_by_chunk(visitor):
    seen = set()
    visitor.set("#temperature", 1.2)  # slow enough to be seen: nothing repeats, so each step draws its whole pool
    visitor.page.locator("#prompt textarea").fill(ORDER)
    visitor.page.locator("#generate").click()
    for _ in range(400):
        seen.add(visitor.page.locator("#run .calm-chunk").count())
        status = visitor.status()
        if "tokens a second" in status and "Writing" not in status:
            break
        visitor.page.wait_for_timeout(20)
    assert len(seen) > 3  # it grew on the page
    visitor.finished()
    status = visitor.status()
    steps, tokens = (int(n) for n in re.search(r"(\d+) steps · (\d+) tokens", status).groups())
    assert tokens == 4 * steps == 4 * visitor.page.locator("#run .calm-chunk").count()
    assert f"would have taken {tokens} steps" in status
    assert visitor.page.locator("#run .calm-prompt").inner_text().strip() == ORDER.strip()


def test_a_seed_repeats_and_another_one_does_not(visitor):
    visitor.set("#temperature", 1.2)  # at a low one two seeds may well tell the same story
    first = visitor.generate(ORDER)
    assert visitor.generate(ORDER) == first
    visitor.page.get_by_role("button", name="New seed").click()
    visitor.page.wait_for_function("() => document.querySelector('#seed input').value != '0'")
    assert visitor.generate(ORDER) != first


def test_temperature_changes_the_text_and_says_what_it_does(visitor):
    words = visitor.page.locator("#temperature-words")
    texts = {}
    for temperature, said in ((0.35, "to the power 2.86"), (1, "as the model draws them"), (1.37, "flattened")):
        visitor.set("#temperature", temperature)
        visitor.page.wait_for_function(
            "said => document.querySelector('#temperature-words').innerText.includes(said)", arg=said
        )
        texts[temperature] = visitor.generate("")
    assert words.inner_text().startswith("1.37")
    assert len(set(texts.values())) == 3
    formed = {t: storyland.check(text).well_formed for t, text in texts.items()}
    assert formed[0.35] >= formed[1.37]


def test_stop_works_at_once_and_keeps_what_was_written(visitor, story):
    page = visitor.page
    rambling = {"temperature": 1.9, "max_new_tokens": 512}
    seed = next(s for s in range(30) if len(list(calm.generate(story, "", seed=s, **rambling))) == 128)
    visitor.set("#temperature", rambling["temperature"])
    visitor.set("#length", rambling["max_new_tokens"])
    visitor.set("#seed", seed)
    page.locator("#prompt textarea").fill("")
    visitor.click_once("document.querySelector('#status').innerText.includes('Writing')", "#stop")
    page.locator("#generate").click()
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Stopped')")
    assert 0 < visitor.settled(page.locator("#run .calm-chunk").count) < 128
    assert page.locator("#generate").is_visible() and not page.locator("#stop").is_visible()
    visitor.set("#temperature", 0.5)
    assert visitor.generate(ORDER)  # and the next run works


def test_a_chunk_shows_its_pool(visitor):
    visitor.generate(ORDER)
    visitor.page.locator("#run .calm-chunk").nth(2).hover()
    detail = visitor.page.locator("#run .calm-detail")
    assert "Step 3" in detail.inner_text()
    assert detail.locator(".calm-token").count() == 4
    assert detail.locator(".calm-bars li.chosen").count() == 1
    assert re.search(r"\d+% → \d+%, drawn \d+×", detail.inner_text())
    visitor.page.locator("#run .calm-chunk").nth(4).focus()  # the keyboard's way
    assert "Step 5" in detail.inner_text()


def test_a_pool_is_drawn_in_full_and_weighted_anew_as_the_slider_moves(visitor):
    page = visitor.page
    detail = page.locator("#run .calm-detail")
    page.locator("#run .calm-chunk").nth(1).focus()
    slider = detail.locator("input[type=range]")
    assert slider.input_value() == "0.5"  # the run's own temperature
    assert detail.locator(".calm-ticks span").all_inner_texts()[:3] == [
        "1",
        "½",
        "⅓",
    ]  # all that the published rule has
    detail.get_by_role("button", name="Draw 200 here").click()
    detail.get_by_text("200 fresh draws").wait_for(timeout=60_000)
    figure = detail.locator(".calm-bars .figure").first

    def shares() -> tuple[float, float, int]:
        drawn, tempered, count = re.match(r"([\d.]+)% → ([\d.]+)%, drawn (\d+)×", figure.inner_text()).groups()
        return float(drawn), float(tempered), int(count)

    found = {}
    for temperature in ("2", "1", "0.35"):
        slider.fill(temperature)
        found[temperature] = shares()
    assert found["1"][0] == found["1"][1] == pytest.approx(found["1"][2] / 2, abs=0.5)
    assert found["2"][1] < found["1"][1] <= found["0.35"][1]
    assert len({drawn for drawn, _, _ in found.values()}) == 1
    page.locator("#run .calm-chunk").nth(2).focus()
    assert slider.input_value() == "0.35"  # kept from step to step


def test_another_candidate_makes_a_branch_and_the_first_text_stays(visitor):
    page = visitor.page
    visitor.set("#temperature", 1.2)
    first = visitor.generate(ORDER)
    told = visitor.status()
    others = page.locator("#run .calm-bars button.name")
    chunks = page.locator("#run .calm-chunk")
    for index in range(3, chunks.count()):
        chunks.nth(index).focus()
        if others.count():
            break
    taken = others.first.inner_text().removeprefix("↳ ")
    kept = "".join(chunks.all_text_contents()[:index])
    before = page.locator("#run .calm-text").get_attribute("data-run")
    others.first.click()
    page.wait_for_function("before => document.querySelector('#run .calm-text').dataset.run !== before", arg=before)
    visitor.finished()
    assert visitor.text() != first and visitor.text().startswith(kept + taken.rstrip("∎").replace("⏎", "\n"))
    tree = page.locator("#run .calm-tree")
    assert tree.get_by_role("button").count() == 2 and f"step {index + 1}" in tree.inner_text()
    chunks.nth(index).focus()
    assert "by hand" in page.locator("#run .calm-detail").inner_text()
    tree.get_by_role("button", name="first text").click()
    assert visitor.text() == first
    page.wait_for_function("told => document.querySelector('#status').innerText === told", arg=told)
    visitor.tab("Vector space")
    page.locator("#map .calm-chunk").first.wait_for()
    assert visitor.text("#map") == first


def test_the_page_weights_a_pool_as_the_library_does(visitor):
    rng = random.Random(0)
    for _ in range(100):
        counts = [rng.randint(1, 60) for _ in range(rng.randint(1, 40))]
        temperature = rng.choice([1, 0.5, 1 / 3, rng.uniform(0.02, 2)])
        found = visitor.page.evaluate("([counts, t]) => CALM.temper(counts, t)", [counts, temperature])
        assert found == pytest.approx(calm.temper(counts, temperature), abs=1e-9)


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda v: v.page.locator("#prompt textarea").fill("x" * 5000), "The prompt has 5,000 characters"),
        (lambda v: v.set("#seed", ""), "Seed must be a whole number"),
        (lambda v: v.set("#seed", -4), "seed must be a whole number from 0"),
        (lambda v: (v.page.get_by_text("Advanced").click(), v.page.get_by_label("exact", exact=True).check(),
                    v.set("#temperature", 1.5)), "at most 1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_lost(visitor, prepare, sentence):
    visitor.page.locator("#prompt textarea").fill("My words stay")
    before = visitor.text()
    prepare(visitor)
    typed = visitor.page.locator("#prompt textarea").input_value()
    visitor.page.locator("#generate").click()
    visitor.page.wait_for_selector("#status [role=alert]")
    assert sentence in visitor.status() and "Traceback" not in visitor.page.content()
    assert visitor.page.locator("#prompt textarea").input_value() == typed
    assert visitor.text() == before
    assert visitor.page.locator("#generate").is_visible()


def test_any_prompt_is_answered(visitor):
    visitor.set("#temperature", 0.5)
    for prompt in ("", "   ", "a", "日本語 🎉", "Once upon a time, in a very long prompt, " * 40):
        assert visitor.generate(prompt)


def test_reconstruction_with_and_without_noise(visitor):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill("Mia lost her lantern near the old mill, été 1987.")
    page.locator("#reconstruct").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#reconstruction .before')].map(e => e.innerText).join('')"
        ".includes('lantern near the old')"
    )
    assert "from the clean mean" in page.locator("#reconstruct-status").inner_text()
    assert page.locator("#reconstruction .calm-wrong").count() == 0
    page.wait_for_selector("#reconstruction .calm-plot .bars")
    assert page.locator("#reconstruction .calm-plot .point").count() == 64
    visitor.set("#noise", 2.6)
    page.wait_for_selector("#reconstruction .calm-wrong")
    status = page.locator("#reconstruct-status").inner_text()
    assert "noise of 2.60" in status and not status.startswith("100.00%")
    page.locator("#reconstruction .calm-pair").nth(2).click()
    assert "chunk 3" in page.locator("#reconstruction h2").first.inner_text()
    page.locator("#reconstruct-text textarea").fill("")
    page.locator("#reconstruct").click()
    page.wait_for_selector("#reconstruct-status [role=alert]")
    assert "no text to reconstruct" in page.locator("#reconstruct-status").inner_text()
    assert page.locator("#reconstruction .calm-pair").count() > 0  # the old result is still there


TRACE = """(name) => { const plot = document.querySelector('#map .calm-plot');
  const trace = plot.data.find(t => t.name === name); return [...trace.x].length; }"""

NAMES = "() => document.querySelector('#map .calm-plot').data.map(t => t.name)"


def test_the_path_appears_on_the_map_and_follows_the_text(visitor):
    page = visitor.page
    text = visitor.generate(ORDER)
    steps = page.locator("#run .calm-chunk").count()
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    assert page.evaluate(TRACE, "predicted path") == steps
    assert page.evaluate(TRACE, "training chunks") >= 2000
    assert page.evaluate(TRACE, "prompt, encoded") >= 3
    assert visitor.text("#map") == text
    page.locator("#map .calm-strip .calm-chunk").nth(3).hover()
    assert page.evaluate(TRACE, "selected step") == 1
    visitor.tab("Generate")
    assert "Step 4" in page.locator("#run .calm-detail").inner_text()
    assert page.locator("#run .calm-chunk.selected").get_attribute("data-index") == "3"
    visitor.tab("Vector space")
    page.get_by_role("button", name="3-D").click()
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data[0].type === 'scatter3d'")
    assert page.evaluate(TRACE, "predicted path") == steps


def test_the_map_keeps_its_zoom_while_a_new_run_streams_in(visitor):
    page = visitor.page
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    page.evaluate("() => Plotly.relayout(document.querySelector('#map .calm-plot'),"
                  "{'xaxis.range': [1, 4], 'yaxis.range': [2, 5]})")  # fmt: skip
    visitor.tab("Generate")
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    kept = page.evaluate("() => document.querySelector('#map .calm-plot').layout.xaxis.range.map(Math.round)")
    assert kept == [1, 4]


def test_a_race_is_run_told_and_drawn(visitor):
    page = visitor.page
    visitor.tab("Race")
    lanes = page.locator("#race-view .calm-lane")
    page.wait_for_function("() => document.querySelectorAll('#race-view .calm-piece').length > 100")
    assert "An example, measured" in page.locator("#race-status").inner_text()
    headings = ["story-k4: one vector, 4 tokens, a step", "story-ar: one token a step"]
    assert lanes.locator("h2").all_inner_texts() == headings
    assert all("6 layers of 256" in lane for lane in lanes.all_inner_texts())
    assert ["vectors drawn" in lane for lane in lanes.all_inner_texts()] == [True, False]
    visitor.set("#race-length", 48)
    visitor.race()
    told = [re.findall(r"(steps|tokens)\n(\d+)", lane) for lane in lanes.all_inner_texts()]
    (calm_steps, calm_tokens), (steps, tokens) = [[int(number) for _, number in facts] for facts in told]
    assert calm_tokens == 4 * calm_steps <= 48 and tokens == steps <= 48
    assert [lanes.nth(i).locator(".calm-piece").count() for i in (0, 1)] == [calm_steps, steps]
    assert re.search(r"times as fast", page.locator("#race-status").inner_text())
    points = page.evaluate("() => document.querySelector('#race-view .calm-plot').data.map(t => t.x.length)")
    assert points == [calm_steps + 1, steps + 1]
    before = lanes.first.inner_text()
    visitor.set("#race-seed", "")
    page.locator("#race").click()
    page.wait_for_selector("#race-status [role=alert]")
    assert "Seed must be a whole number" in page.locator("#race-status").inner_text()
    assert lanes.first.inner_text() == before


def test_models_are_measured_on_a_visitors_text(visitor):
    page = visitor.page
    visitor.tab("Evaluate")
    page.locator("#evaluate").click()
    page.wait_for_selector("#evaluate-status [role=alert]")
    assert "no text to measure" in page.locator("#evaluate-status").inner_text()
    page.locator("#evaluate-text textarea").fill("\n\n".join(storyland.corpus(2, storyland.HELD_OUT)))
    page.locator("#evaluate").click()
    page.wait_for_function(
        "() => document.querySelector('#evaluate-status').innerText.includes('draws at each')", timeout=120_000
    )
    rows = page.locator("#evaluate-table tbody tr")
    assert [rows.nth(i).locator("th").inner_text() for i in range(rows.count())] == ["story-k4", "story-ar"]
    for i in range(rows.count()):
        score, low, high = map(
            float, re.match(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", rows.nth(i).locator("td").first.inner_text()).groups()
        )
        assert 0 < low <= score <= high < 100


def test_a_race_can_be_stopped(visitor):
    page = visitor.page
    visitor.tab("Race")
    visitor.set("#race-temperature", 1.9)
    visitor.set("#race-length", 512)
    visitor.click_once("document.querySelector('#race-status').innerText.includes('tokens a second')", "#race-stop")
    page.locator("#race").click()
    page.wait_for_function("() => document.querySelector('#race-status').innerText.includes('Stopped')")
    assert 0 < visitor.settled(page.locator("#race-view .calm-piece").count) < 128 + 512
    assert "Stopped" in page.locator("#race-status").inner_text()
    assert page.locator("#race").is_visible() and not page.locator("#race-stop").is_visible()


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
    assert "no text in UTF-8" in page.locator("#evaluate-status").inner_text()
    text = "\n\n".join(storyland.corpus(20, storyland.HELD_OUT))
    (tmp_path / "stories.txt").write_text(text, encoding="utf-8")
    upload(tmp_path / "stories.txt")
    page.wait_for_function(
        "text => document.querySelector('#evaluate-text textarea').value === text", arg=text, timeout=10_000
    )
    page.locator("#evaluate").click()
    page.wait_for_function(
        "() => /Measuring … [3-9] of 40 texts/.test(document.querySelector('#evaluate-status').innerText)",
        timeout=60_000,
    )
    page.locator("#evaluate-stop").click()
    page.wait_for_function("() => document.querySelector('#evaluate-status').innerText.includes('Stopped')")
    table = page.locator("#evaluate-table").inner_text()
    assert re.search(r"story-k4\s+[\d.]+ \([\d.]+ to [\d.]+\)", table)
    assert page.locator("#evaluate-text textarea").input_value() == text


def test_the_scores_of_the_cards_are_drawn_over_what_they_cost(visitor):
    page = visitor.page
    visitor.tab("Evaluate")
    page.wait_for_function("() => document.querySelector('#scores-plot .calm-plot').data")
    series = page.evaluate(
        """() => document.querySelector('#scores-plot .calm-plot').data
            .map((t) => [t.text, t.x, t.y, t.marker.symbol])"""
    )
    known = evaluate_tab.costs()
    assert {"story-k4", "story-ar"} <= {model["name"] for model in known}
    for (names, costs, scores, _), cost in zip(series, ("generating", "training"), strict=True):
        assert [name.strip() for name in names] == [model["name"] for model in known]
        assert costs == pytest.approx([model[cost] / 1e6 for model in known])
        assert scores == [model["score"] for model in known]
    assert len({symbol for *_, symbol in series}) == 2


def test_samples_are_written_beside_each_other_and_each_can_be_opened(visitor):
    page = visitor.page
    visitor.set("#samples", 3)
    visitor.set("#temperature", 0.9)
    visitor.set("#length", 48)
    first = visitor.generate(ORDER)
    columns = page.locator(".calm-sample")
    assert columns.count() == 3
    second = "".join(columns.nth(1).locator(".calm-piece").all_text_contents())
    assert first == "".join(columns.nth(0).locator(".calm-piece").all_text_contents()) != second
    columns.nth(1).get_by_role("button", name="Seed 1").click()
    assert visitor.text() == second and columns.count() == 3
    assert columns.nth(1).get_by_role("button").get_attribute("aria-current") == "true"


def test_a_run_can_be_exported_and_its_address_makes_it_again(visitor, browser):
    page = visitor.page
    visitor.set("#seed", 7)
    visitor.set("#temperature", 0.63)
    visitor.set("#length", 32)
    text = visitor.generate("Once upon a time")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON").click()
    told = json.loads(Path(download.value.path()).read_text())
    assert told["prompt"] == "Once upon a time" and told["options"]["seed"] == 7 and told["model"] == "story-k4"
    assert "".join(step["text"] for step in told["steps"]) == text
    again = calm.generate(calm.load("story-k4", device="cpu"), told["prompt"], **told["options"])
    assert [step.token_ids for step in again] == [step["ids"] for step in told["steps"]]
    page.wait_for_function("() => location.search.includes('seed=7') && location.search.includes('t=0.63')")
    other = Visitor(browser.new_context().new_page(), page.url).open()
    other.page.wait_for_function("() => document.querySelector('#seed input').value === '7'")
    assert other.page.locator("#prompt textarea").input_value() == "Once upon a time"
    assert other.generate() == text
    other.page.context.close()


def test_a_reload_keeps_tab_inputs_and_text(visitor):
    page = visitor.page
    text = visitor.generate("Once upon a time")
    visitor.tab("Race")
    page.wait_for_function("() => location.search.includes('tab=race')")
    page.reload()
    page.wait_for_function("() => document.querySelector('button[aria-selected=true]')?.innerText === 'Race'")
    visitor.tab("Generate")
    page.locator("#run .calm-chunk").first.wait_for()
    assert visitor.text() == text
    assert page.locator("#prompt textarea").input_value() == "Once upon a time"


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


def test_the_map_shows_more_than_one_path(visitor):
    page = visitor.page
    visitor.set("#length", 48)
    visitor.generate(ORDER)
    visitor.generate("Once upon a time")
    steps = page.locator("#run .calm-chunk").count()
    visitor.tab("Vector space")
    parts = page.locator("#map")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    parts.get_by_label("encoded path").check()
    assert page.evaluate(TRACE, "encoded path") == steps
    parts.get_by_label("earlier runs").check()
    assert (
        page.evaluate(
            "() => document.querySelector('#map .calm-plot').data.filter(t => t.name.startsWith('earlier run')).length"
        )
        >= 1
    )
    parts.get_by_label("Colour by").select_option("distance")
    colours = page.evaluate(
        "() => document.querySelector('#map .calm-plot').data.find(t => t.name === 'predicted path').marker.color"
    )
    assert len(colours) == steps and all(distance >= 0 for distance in colours)
    parts.locator(".calm-strip .calm-chunk").nth(1).click()
    parts.get_by_role("button", name="Draw 200 here").click()
    page.wait_for_function(
        "() => document.querySelector('#map .calm-plot').data.some(t => t.name === '200 draws of this step')"
    )
    assert page.evaluate(TRACE, "200 draws of this step") == 200
    parts.get_by_label("Layout").select_option("principal")
    assert page.evaluate(TRACE, "predicted path") == steps
    parts.locator("[data-play]").click()
    page.wait_for_function("() => document.querySelector('#map [data-told]').innerText.startsWith('step 4')")
    parts.locator("[data-play]").click()
    for kind, begins in (("CSV", b"step,text,distance"), ("PNG", b"\x89PNG"), ("HTML", b"<!doctype html>")):
        with page.expect_download() as download:
            parts.get_by_role("button", name=f"Export {kind}").click()
        assert Path(download.value.path()).read_bytes().startswith(begins)


def test_the_camera_stays_where_it_was_in_space(visitor):
    page = visitor.page
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    page.get_by_role("button", name="3-D").click()
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data[0].type === 'scatter3d'")
    eye = "() => document.querySelector('#map .calm-plot')._fullLayout.scene.camera.eye"
    before = page.evaluate(eye)
    box = page.locator("#map .calm-plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 - 60, steps=8)
    page.mouse.up()
    page.wait_for_function(f"before => JSON.stringify(({eye})()) !== JSON.stringify(before)", arg=before)
    turned = page.evaluate(eye)
    page.locator("#map .calm-chunk").nth(1).click()
    visitor.tab("Generate")
    visitor.set("#length", 24)
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    assert page.evaluate(eye) == pytest.approx(turned)


def test_the_path_is_coloured_by_what_is_chosen(visitor):
    page = visitor.page
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    marker = (
        "() => document.querySelector('#map .calm-plot').data.find((t) => t.name === 'predicted path').marker.color"
    )
    found = {}
    for rule in ("time", "distance", "frequency"):
        page.get_by_label("Colour by").select_option(rule)
        found[rule] = page.evaluate(marker)
    steps = generate_tab.example()["steps"]
    assert found["time"] == [step["index"] for step in steps]
    assert found["distance"] == [step["distance"] for step in steps]
    assert found["frequency"] == pytest.approx([math.log10(1 + step["frequency"]) for step in steps])
    page.get_by_label("Colour by").select_option("")
    assert isinstance(page.evaluate(marker), str)


def test_what_is_written_does_not_flicker(visitor):
    """Chunks that stand on the page stay the same elements while others follow, and so does the map."""
    page = visitor.page
    visitor.set("#temperature", 1.2)
    visitor.set("#length", 80)
    page.locator("#generate").click()
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('Writing')", timeout=30_000)
    page.evaluate("() => (window.first = document.querySelector('#run .calm-chunk'))")
    visitor.finished()
    assert page.evaluate("() => window.first === document.querySelector('#run .calm-chunk')")
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    page.evaluate("() => (window.canvas = document.querySelector('#map canvas'))")
    visitor.tab("Generate")
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    assert page.evaluate("() => window.canvas === document.querySelector('#map canvas')")


def test_a_map_of_ones_own_runs_is_fitted(visitor):
    page = visitor.page
    visitor.set("#length", 32)
    visitor.generate("Once upon a time")
    visitor.tab("Vector space")
    page.get_by_text("Fit a map of your own runs").click()
    page.get_by_label("Neighbours").first.fill("12")
    page.get_by_label("3", exact=True).check()
    page.locator("#fit").click()
    page.wait_for_selector("#fit-stop", state="visible")
    page.locator("#fit-stop").click()
    page.wait_for_function("() => document.querySelector('#fit-status').innerText.includes('Stopped')")
    page.locator("#fit").click()
    for told in ("Fitting … \\d+ % of the epochs", "own fit"):
        page.wait_for_function(
            "told => document.querySelector('#fit-status').innerText.match(told)", arg=told, timeout=120_000
        )
    assert page.get_by_label("Layout").input_value() == "own"
    assert page.evaluate(TRACE, "training chunks") == 800 and page.evaluate(TRACE, "predicted path") == 8
    assert page.evaluate("() => document.querySelector('#map .calm-plot').data[0].type") == "scatter3d"


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


def test_the_curve_can_be_stopped_and_keeps_its_points(visitor):
    page = visitor.page
    visitor.tab("Reconstruct")
    page.locator("#reconstruct-text textarea").fill("\n".join(storyland.corpus(3, storyland.HELD_OUT))[:3900])
    page.locator("#curve").click()
    points = "() => document.querySelector('#curve-view .calm-plot').data?.[1]?.y.length"
    page.wait_for_function(f"() => ({points})() > 1", timeout=60_000)
    page.locator("#curve-stop").click()
    page.wait_for_function("() => document.querySelector('#curve-status').innerText.includes('Stopped')")
    assert visitor.settled(lambda: page.evaluate(points)) < 31
    assert page.locator("#curve").is_visible() and not page.locator("#curve-stop").is_visible()


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_the_page_works_at_phone_width(visitor):
    page = visitor.page
    assert visitor.generate(ORDER)
    for tab in ("Generate", "Reconstruct", "Vector space", "Race", "Evaluate", "Learn"):
        visitor.tab(tab)
        page.wait_for_timeout(400)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"] + 1, tab
        cut = page.evaluate(
            """() => [...document.querySelectorAll('p, dd, h1, h2, button, label, textarea')]
                .filter((e) => e.checkVisibility())
                .filter((e) => !e.closest('.calm-plot, .calm-scores, [aria-hidden=true]'))
                .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
                .map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert cut == [], tab


def test_two_visitors_do_not_disturb_each_other(address):
    alone = [Client(address, verbose=False).predict(ORDER, seed=s, api_name="/generate")["text"] for s in (1, 2)]
    together: dict[int, str] = {}

    def visit(seed: int) -> None:
        together[seed] = Client(address, verbose=False).predict(ORDER, seed=seed, api_name="/generate")["text"]

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[1], together[2]] == alone
