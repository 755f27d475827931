"""Times of the page in Chromium: first chunk after the click, lag behind the engine, plot update, slider; and the size
of a first visit.

python -m benchmarks.page [--rounds 10] [--json]

Drives the real app in Chromium (make test installs it). The browser takes the times, each up to the frame that shows
the change.
"""

import argparse
import json
import statistics
from itertools import accumulate

from playwright.sync_api import Page

from app.limits import MAX_NEW_TOKENS
from tests.browser.conftest import Visitor, running_browser
from tests.running_page import running_page

LAG_TEMPERATURE = 2
"""At T = 1 and below, a text of the default model ends long before it has 512 tokens."""

# Resolves after the next frame has been painted.
PAINTED = "const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));"


def transferred(page: Page, address: str) -> float:
    """Megabytes that a first visit transfers without a cache, with the map opened."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    visitor = Visitor(page, address).open()
    visitor.tab("Vector space")
    page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
    page.wait_for_timeout(2000)
    session.detach()
    return sum(sizes) / 1e6


def first_chunk(visitor: Visitor, seed: int) -> float:
    """Seconds from the click on Generate until the first chunk of the new text is painted."""
    visitor.tab("Generate")
    visitor.set("#length", 64)
    visitor.set("#seed", seed)
    visitor.page.wait_for_timeout(300)
    seconds = visitor.page.evaluate(
        f"""async () => {{ {PAINTED}
          const text = document.querySelector('#run .calm-text'), before = CALM.store.shown.run_id;
          const start = performance.now();
          const shown = new Promise((done) => new MutationObserver((_, watch) => {{
            if (CALM.store.shown.run_id === before || !text.querySelector('.calm-chunk')) return;
            watch.disconnect();
            done();
          }}).observe(text, {{ childList: true, subtree: true, attributes: true }}));
          document.querySelector('#generate').click();
          await shown; await painted();
          return (performance.now() - start) / 1000; }}"""
    )
    visitor.finished()
    return seconds


def lag(visitor: Visitor, seed: int) -> tuple[float, int]:
    """The most seconds by which the page falls behind the engine during a run of at most 512 tokens, and its tokens.

    Each step counts from the click until it is painted, less the engine's own time up to its end. The lag therefore
    includes the way of the request to the server and of the step to the page.
    """
    visitor.tab("Generate")
    visitor.set("#length", MAX_NEW_TOKENS)
    visitor.set("#temperature", LAG_TEMPERATURE)
    visitor.set("#seed", seed)
    visitor.page.wait_for_timeout(300)
    painted = visitor.page.evaluate(
        f"""async () => {{ {PAINTED}
          const before = CALM.store.shown.run_id, times = [], paints = [];
          const start = performance.now();
          const finished = new Promise((done) => CALM.store.subscribe("run", document.body, () => {{
            const run = CALM.store.shown;
            if (run.run_id === before) return;
            paints.push(painted().then(() => {{
              while (times.length < run.steps.length) times.push((performance.now() - start) / 1000);
            }}));
            if (run.finished) done();
          }}));
          document.querySelector('#generate').click();
          await finished; await Promise.all(paints);
          return times; }}"""
    )
    visitor.finished()
    steps = visitor.page.evaluate("() => CALM.store.shown.steps.map((step) => [step.seconds, step.token_ids.length])")
    engine = list(accumulate(seconds for seconds, _ in steps))
    return max(shown - own for shown, own in zip(painted, engine, strict=True)), sum(tokens for _, tokens in steps)


def plot_update(visitor: Visitor, index: int) -> float:
    """Seconds from the selection of a step until the map with its mark is painted."""
    return visitor.page.evaluate(
        f"""async (index) => {{ {PAINTED}
          const plot = document.querySelector('#map .calm-plot');
          const start = performance.now();
          const drawn = new Promise((done) => plot.once('plotly_afterplot', done));
          CALM.store.selectStep(index);
          await drawn; await painted();
          return (performance.now() - start) / 1000; }}""",
        index,
    )


def weighting(visitor: Visitor, temperature: float) -> float:
    """Seconds from a move of the pool's slider until the bars are painted."""
    return visitor.page.evaluate(
        f"""async (temperature) => {{ {PAINTED}
          const slider = document.querySelector('#run .calm-weigh input');
          const start = performance.now();
          slider.value = temperature;
          slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
          await painted();
          return (performance.now() - start) / 1000; }}""",
        temperature,
    )


def measure(rounds: int) -> dict[str, list[float]]:
    with running_page() as (address, _), running_browser() as browser:
        size = transferred(browser.new_context().new_page(), address)
        visitor = Visitor(browser.new_context(viewport={"width": 1440, "height": 900}).new_page(), address).open()
        visitor.generate("Once upon a time")  # the first request waits for the model
        chunks = [first_chunk(visitor, seed) for seed in range(1, rounds + 1)]
        visitor.page.locator("#run .calm-chunk").nth(2).focus()
        visitor.page.get_by_role("button", name="Draw 200 samples").click()
        visitor.page.get_by_text("200 fresh samples").wait_for()
        weights = [weighting(visitor, 0.2 + 1.6 * i / rounds) for i in range(rounds)]
        visitor.tab("Vector space")
        visitor.page.wait_for_function("() => document.querySelector('#map .calm-plot').data")
        steps = visitor.page.locator("#map .calm-chunk").count()
        plots = [plot_update(visitor, i % steps) for i in range(rounds)]
        lags = [lag(visitor, seed) for seed in range(1, rounds + 1)]
    return {
        "first chunk after the click, s": chunks,
        "lag behind the engine, s": [seconds for seconds, _ in lags],
        "tokens of these runs": [float(tokens) for _, tokens in lags],
        "plot update, s": plots,
        "re-weighting of a pool, s": weights,
        "transfer of a first visit, MB": [size],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:34} median {statistics.median(values):7.3f}, most {max(values):7.3f}")


if __name__ == "__main__":
    main()
