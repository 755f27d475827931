"""How much do visitors slow one another? Total tokens per second and time to the first chunk, for 1 to 16 at once.

    python -m benchmarks.concurrency [--rounds 3] [--temperature 0.5] [--json]

Each visitor is a thread that asks the page's resident model for texts of its own, as Gradio's threads do; all begin at
the same moment. Whatever their number, they ask for the same 64 texts, so that the work is the same: whoever has got
one asks for the next that nobody has asked for. The numbers of visitors take turns within a round. Printed are medians
over rounds, and whether every text equals its solo run.
"""

import argparse
import json
import statistics
import threading
import time

import calm
from app.registry import loaded
from benchmarks.generation import openings

VISITORS = (1, 2, 4, 8, 16)
TEXTS = 64


def visit(lm: calm.LanguageModel, seed: int, prompt: str, options: dict) -> tuple[list[int], float]:
    """The token ids of one visitor's text, and the seconds to its first chunk."""
    start, first, ids = time.perf_counter(), 0.0, []
    for step in calm.generate(lm, prompt, seed=seed, **options):
        first = first or time.perf_counter() - start
        ids += step.token_ids
    return ids, first


def crowd(
    lm: calm.LanguageModel, count: int, prompts: list[str], options: dict, offset: int
) -> tuple[dict, float, list]:
    """All visitors at once: their texts by seed, the seconds until the last has finished, the waits."""
    found: dict[int, tuple[list[int], float]] = {}
    begin, seeds = threading.Barrier(count + 1), iter(range(offset, offset + TEXTS))

    def run() -> None:
        begin.wait()
        for seed in seeds:
            found[seed] = visit(lm, seed, prompts[seed % len(prompts)], options)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return {seed: ids for seed, (ids, _) in found.items()}, seconds, [first for _, first in found.values()]


def measure(lm: calm.LanguageModel, rounds: int, options: dict) -> dict:
    prompts = openings()
    rates: dict[int, list[float]] = {count: [] for count in VISITORS}
    waits: dict[int, list[float]] = {count: [] for count in VISITORS}
    crowd(lm, 8, prompts, options, 0)  # warm-up
    same = True
    for number in range(rounds):
        for count in VISITORS:
            texts, seconds, first = crowd(lm, count, prompts, options, 100 * number)
            rates[count].append(sum(map(len, texts.values())) / seconds)
            waits[count] += first
            if number == 0:
                same = same and all(
                    ids == visit(lm, seed, prompts[seed % len(prompts)], options)[0] for seed, ids in texts.items()
                )
    return {
        "model": lm.name,
        "temperature": options["temperature"],
        "tokens_per_second": {count: statistics.median(found) for count, found in rates.items()},
        "first_chunk_95": {count: sorted(found)[int(0.95 * (len(found) - 1))] for count, found in waits.items()},
        "texts_equal_their_solo_runs": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = {"temperature": arguments.temperature, "max_new_tokens": arguments.tokens}
    found = measure(loaded().lm, arguments.rounds, options)
    if arguments.json:
        print(json.dumps(found))
        return
    alone = found["tokens_per_second"][1]
    for count, rate in found["tokens_per_second"].items():
        wait = found["first_chunk_95"][count]
        print(f"{count:3} visitors {rate:8.1f} tokens/s in all  {rate / alone:5.2f}x   first chunk within {wait:.3f} s")
    print("every text equals its solo run" if found["texts_equal_their_solo_runs"] else "texts differ from solo runs")


if __name__ == "__main__":
    main()
