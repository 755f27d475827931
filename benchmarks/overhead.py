"""Tokens per second of the same texts from the engine alone, ``calm.generate``, the page and the API.

    python -m benchmarks.overhead [--tokens 128] [--rounds 9] [--temperatures 1 0.5] [--json]

- The engine alone runs its steps on the calling thread. It builds neither texts nor candidates.
- ``calm.generate`` is read to its end.
- The page is the function behind the button Generate in this process. Gradio calls it, computes the differences between
  its updates, and they become JSON.
- The endpoint ``/generate`` is called as a function of this process, then at a page in a process of its own: by two
  plain HTTP requests, in one session or in a new one for each text, and through ``gradio_client``.

Contestants take turns within a round; each generates ``TEXTS`` texts, one after another. The figures are medians over
rounds, after one round of warm-up. The loss is the share of the engine's tokens per second that is missing. Every
contestant must generate the texts of the engine, else the program ends with an error.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import torch
from gradio.state_holder import SessionState
from gradio_client import Client

import calm
from app import endpoints
from app.page import build
from app.registry import loaded
from calm.engine import Engine
from calm.engine.requests import Generated, Request
from calm.engine.samplers import ChunkSampler
from calm.generation import align
from tests.running_page import running_page

from .generation import PROMPTS, openings
from .rounds import medians
from .soak import call

MODEL = "story-k4"
TEXTS = 4
POOL = 200
ENGINE = "the engine alone"

Contestant = Callable[[str, float, int, int], str]
"""The text, prompt included, for a prompt, a temperature, a number of tokens and a seed."""


def engine_alone(lm: calm.LanguageModel) -> Contestant:
    engine = Engine(lm)

    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        ids, _ = align(lm, lm.tokenize(prompt))
        sampler = ChunkSampler(temperature, POOL, "auto", seed, lm.device)
        steps = engine.stream(Request(ids, tokens // lm.chunk_size, sampler))
        new = [i for step in steps if isinstance(step, Generated) for i in step.choice.token_ids]
        return prompt + lm.detokenize(new[: lm.text_format.end_position(new)])

    return run


def library(lm: calm.LanguageModel) -> Contestant:
    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        return prompt + "".join(step.text for step in calm.generate(lm, prompt, temperature, tokens, POOL, seed=seed))

    return run


def page(runner: asyncio.Runner) -> Contestant:
    """The event of the button Generate, called as Gradio's queue calls it, in the session of one visitor."""
    blocks = build()
    state = SessionState(blocks)
    function = next(f for f in blocks.fns.values() if f.name == "_run")

    async def updates(inputs: list[Any]) -> str:
        iterator, lines, generating = None, "", True
        while generating:
            output = await blocks.process_api(function, inputs, state, None, iterator, session_hash="benchmark")
            iterator, generating = output["iterator"], output["is_generating"]
            orjson.dumps(output["data"])
            lines = output["data"][0] if isinstance(output["data"][0], str) else lines
        return lines

    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        lines = runner.run(updates([MODEL, prompt, temperature, tokens, seed, "auto", POOL, 1])).splitlines()
        return prompt + "".join(step["text"] for _, step in map(json.loads, lines[1:-1]))

    return run


def endpoint() -> Contestant:
    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        *_, last = endpoints.generate(prompt, temperature, tokens, seed, "auto", POOL, MODEL)
        return last["text"]

    return run


def http(address: str, session: str | None) -> Contestant:
    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        inputs = prompt, temperature, tokens, seed, "auto", POOL, MODEL
        *_, (_, (last,)) = call(address, "generate", *inputs, session=session)
        return last["text"]

    return run


def client(address: str) -> Contestant:
    client = Client(address, verbose=False)

    def run(prompt: str, temperature: float, tokens: int, seed: int) -> str:
        return client.predict(prompt, temperature, tokens, seed, "auto", POOL, MODEL, api_name="/generate")["text"]

    return run


def measure(contestants: dict[str, Contestant], temperature: float, tokens: int, rounds: int) -> dict[str, float]:
    """Medians of tokens per second. Raises RuntimeError if a contestant does not generate the texts of the first."""
    lm, prompts = loaded(MODEL).lm, openings()
    expected: dict[int, list[str]] = {}

    def rate(name: str, number: int) -> float:
        seeds = range(TEXTS * number, TEXTS * (number + 1))
        each = [(prompts[seed % PROMPTS], temperature, tokens, seed) for seed in seeds]
        start = time.perf_counter()
        texts = [contestants[name](*arguments) for arguments in each]
        duration = time.perf_counter() - start
        if expected.setdefault(number, texts) != texts:
            raise RuntimeError(f"{name} does not generate the same texts as {next(iter(contestants))}.")
        new = [text.removeprefix(prompt) for text, (prompt, *_) in zip(texts, each)]
        return sum(len(lm.tokenize(text)) for text in new) / duration

    return medians({name: partial(rate, name) for name in contestants}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a text (default: 128)")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default: 9)")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.5])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(torch.get_num_threads())  # else the page in this process would leave this thread one core
    lm = calm.load(MODEL, "cpu")
    contestants = {ENGINE: engine_alone(lm), "calm.generate": library(lm)}
    contestants[ENGINE](openings()[0], 1.0, arguments.tokens, 0)  # compiles before a page starts
    with running_page() as (address, _), asyncio.Runner() as runner:
        contestants |= {"the page": page(runner), "the endpoint's function": endpoint()}
        contestants |= {
            "HTTP, one session": http(address, "benchmark"),
            "HTTP, a session a text": http(address, None),
            "gradio_client": client(address),
        }
        results = [
            {"temperature": t, "tokens_per_second": measure(contestants, t, arguments.tokens, arguments.rounds)}
            for t in arguments.temperatures
        ]
    if arguments.json:
        print(json.dumps(results))
        return
    for result in results:
        print(
            "T = {temperature:g}, texts of {tokens} tokens, medians of {rounds} rounds".format(
                **result, **vars(arguments)
            )
        )
        rates = result["tokens_per_second"]
        for name, rate in rates.items():
            print(f"{name:24} {rate:8.0f} tokens/s   loss {1 - rate / rates[ENGINE]:6.1%}")


if __name__ == "__main__":
    main()
