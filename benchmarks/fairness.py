"""Seconds to the first chunk of a visitor while others evaluate, measure robustness curves and generate all they may.

    python -m benchmarks.fairness [--requests 20] [--json]

One visitor runs six texts at T = 1.5 with 1,000 samples per step, which fills that visitor's share of the engine. Two
more evaluate 20,000 characters with three models each, and one measures robustness curves. Meanwhile another visitor
sends one request after another with the defaults of the page. The program prints median, 95th percentile and maximum.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain

import calm
from app import compute, limits
from app.registry import BASELINE, DEFAULT, loaded
from app.tabs.measuring import measure
from benchmarks.generation import openings

EVALUATED = (DEFAULT, BASELINE, "story-k2")
BUSY = calm.GenerationOptions(temperature=1.5, max_new_tokens=limits.MAX_NEW_TOKENS, pool_size=1000)


def first_chunk(prompt: str, seed: int) -> float:
    """Seconds to the first chunk of a text with the defaults of the page."""
    options = calm.GenerationOptions(limits.TEMPERATURE_DEFAULT, limits.DEFAULT_NEW_TOKENS, seed=seed)
    start, events = time.perf_counter(), calm.stream(loaded(DEFAULT).lm, prompt, options, "visitor")
    next(event for event in events if isinstance(event, calm.Step))
    seconds = time.perf_counter() - start
    events.close()
    return seconds


def others() -> list[Callable[[], Iterator[object]]]:
    """The work of the other visitors: one function each, which begins it and returns its steps."""
    models = [loaded(name) for name in EVALUATED]
    texts = "\n\n".join(calm.storyland.stories("validation", 60))[: limits.MAX_EVALUATION].split("\n\n")
    text = " ".join(texts)[: limits.MAX_TEXT]

    def generate() -> Iterator[object]:
        return models[0].stream("Once upon a time", BUSY, "busy")

    def evaluate() -> Iterator[object]:
        return chain.from_iterable(compute.iterate(measure(model, texts, 0)) for model in models)

    def curve() -> Iterator[object]:
        return models[0].robustness(text, limits.NOISE_LEVELS, 0)

    return [*[generate] * limits.MAX_REQUESTS_PER_VISITOR, evaluate, evaluate, curve]


def run(requests: int) -> dict:
    prompts, done = openings(), threading.Event()
    first_chunk(prompts[0], 0)  # compiles and warms up
    alone = [first_chunk(prompts[i % len(prompts)], i) for i in range(requests)]

    def repeat(work: Callable[[], Iterator[object]]) -> None:
        while not done.is_set():
            for _ in work():
                if done.is_set():
                    break

    threads = [threading.Thread(target=repeat, args=(work,)) for work in others()]
    for thread in threads:
        thread.start()
    time.sleep(2)
    beside = [first_chunk(prompts[i % len(prompts)], i) for i in range(requests)]
    done.set()
    for thread in threads:
        thread.join()
    return {"alone": figures(alone), "beside the others": figures(beside)}


def figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    ninety_fifth = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    values = {"median": statistics.median(ordered), "95th percentile": ninety_fifth, "maximum": ordered[-1]}
    return {name: round(value, 3) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20, help="requests of the visitor")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    result = run(options.requests)
    if options.json:
        print(json.dumps(result))
        return
    for name, values in result.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3f} s" for key, value in values.items()))


if __name__ == "__main__":
    main()
