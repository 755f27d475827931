"""Total tokens per second and time to the first chunk, for 1 to 16 concurrent clients.

    python -m benchmarks.concurrency [--rounds 3] [--temperature 0.5] [--json]

Each client is a thread that sends requests to the page's loaded model, as Gradio's threads do. All threads start at the
same moment. Any number of clients shares the same 64 requests, so the work is constant: a client takes the next request
when its last text is complete. Each round measures every number of clients once. The program prints the medians over
rounds, whether every text equals its solo run, and the rate at which the model's floating-point operations alone would
keep the processor busy (``benchmarks.generation.peak``).
"""

import argparse
import json
import statistics
import threading
import time
from typing import NamedTuple

import calm
from app.registry import loaded
from benchmarks.generation import openings, peak
from calm.evaluation.cost import flops_per_token

CLIENTS = (1, 2, 4, 8, 16)
TEXTS = 64


class Text(NamedTuple):
    ids: list[int]
    first: float
    """Seconds to the first chunk."""
    draws: list[int]
    """Draws of each step."""


def request(lm: calm.LanguageModel, seed: int, prompt: str, options: dict) -> Text:
    start, first, ids, draws = time.perf_counter(), 0.0, [], []
    for step in calm.generate(lm, prompt, seed=seed, **options):
        first = first or time.perf_counter() - start
        ids += step.token_ids
        draws.append(step.draws)
    return Text(ids, first, draws)


def run_clients(
    lm: calm.LanguageModel, count: int, prompts: list[str], options: dict, offset: int
) -> tuple[dict[int, Text], float]:
    """Runs ``count`` clients at once: the texts by seed, and total seconds."""
    results: dict[int, Text] = {}
    begin, seeds = threading.Barrier(count + 1), iter(range(offset, offset + TEXTS))

    def run() -> None:
        begin.wait()
        for seed in seeds:
            results[seed] = request(lm, seed, prompts[seed % len(prompts)], options)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return results, time.perf_counter() - start


def measure(lm: calm.LanguageModel, rounds: int, options: dict) -> dict:
    prompts = openings()
    rates: dict[int, list[float]] = {count: [] for count in CLIENTS}
    waits: dict[int, list[float]] = {count: [] for count in CLIENTS}
    run_clients(lm, 8, prompts, options, 0)  # warm-up
    same, draws, peaks = True, [], []
    for number in range(rounds):
        peaks.append(peak(lm.device, lm.dtype))
        for count in CLIENTS:
            texts, seconds = run_clients(lm, count, prompts, options, 100 * number)
            rates[count].append(sum(len(text.ids) for text in texts.values()) / seconds)
            waits[count] += [text.first for text in texts.values()]
            draws += [n for text in texts.values() for n in text.draws]
            if number == 0:
                same = same and all(
                    text.ids == request(lm, seed, prompts[seed % len(prompts)], options).ids
                    for seed, text in texts.items()
                )
    return {
        "model": lm.name,
        "temperature": options["temperature"],
        "tokens_per_second": {count: statistics.median(values) for count, values in rates.items()},
        "first_chunk_95": {count: sorted(values)[int(0.95 * (len(values) - 1))] for count, values in waits.items()},
        "texts_equal_their_solo_runs": same,
        "draws_per_step": statistics.mean(draws),
        "limit_of_arithmetic": max(peaks) / operations_per_token(lm, statistics.mean(draws)),
    }


def operations_per_token(lm: calm.LanguageModel, draws: float) -> float:
    """Floating-point operations per token. Logits are not counted: the kernels compute only a few of them."""
    return flops_per_token(lm, draws) - 2 * draws * lm.calm.ae_model.decoder.lm_head_weight.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = {"temperature": arguments.temperature, "max_new_tokens": arguments.tokens}
    figures = measure(loaded().lm, arguments.rounds, options)
    if arguments.json:
        print(json.dumps(figures))
        return
    alone = figures["tokens_per_second"][1]
    for count, rate in figures["tokens_per_second"].items():
        wait = figures["first_chunk_95"][count]
        print(
            f"{count:3} clients {rate:8.1f} tokens/s in total  {rate / alone:5.2f}x   first chunk within {wait:.3f} s"
        )
    draws, limit = figures["draws_per_step"], figures["limit_of_arithmetic"]
    print(f"{draws:.1f} draws per step; without the logits, arithmetic would allow {limit:.0f} tokens/s")
    print("every text equals its solo run" if figures["texts_equal_their_solo_runs"] else "texts differ from solo runs")


if __name__ == "__main__":
    main()
