"""Tokens per second of ``calm.generate`` and its peers, interleaved in one process, and the machine's floor."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, LlamaForCausalLM

from calm import storyland
from calm.engine import engine_for
from calm.evaluation.cost import flops_per_token
from calm.generation import align, generate
from calm.hub.language_model import LanguageModel
from calm.hub.loading import load
from calm.modeling.calm import backbone_config
from calm.modeling.temperature import temper

TEMPERATURES = (1.0, 0.8, 0.5, 0.35)
PEER = "transformers, token by token"
OWN = "calm's engine, token by token"
PROMPTS = 8  # held-out stories, cut after their first sentences
LONG, SHORT = 2000, 200  # tokens of the continuations whose costs a token are compared


def openings() -> list[str]:
    """Prompts to measure with: the first sentences of held-out stories."""
    stories = storyland.stories("generation_benchmark", PROMPTS)
    return [story[: story.index(". ") + 1] for story in stories]


def token_by_token(lm: LanguageModel) -> LanguageModel:
    """A Llama with the backbone of a CALM and tied embeddings. Its weights are random: speed is the same."""
    config = backbone_config(lm.calm.config)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    with lm.device:
        model = LlamaForCausalLM(config).to(torch.bfloat16)  # numbers of half the size, as the engine finds in ours
    model = model.to(lm.device, lm.dtype).eval()
    return LanguageModel("token by token", model, lm.tokenizer)


@torch.inference_mode()
def official(lm: LanguageModel, ids: list[int], steps: int, temperature: float, pool: int = 200) -> int:
    """Tokens written by the published algorithm: one draw at T = 1, else 200 draws and the batch rule for T = 1/n."""
    model, cache = lm.calm, DynamicCache()
    generator = torch.Generator(lm.device).manual_seed(0)
    for _ in range(steps):
        hidden = model(torch.tensor([ids], device=lm.device), past_key_values=cache, use_cache=True)[0, -1]
        noise = model.generative_head.noise((1 if temperature == 1 else pool,), hidden, generator)
        chunks, counts = model.ae_model.decode(model.generative_head(hidden, noise)).unique(dim=0, return_counts=True)
        weights = torch.tensor(temper(counts.tolist(), temperature))
        ids = chunks[int(torch.multinomial(weights, 1))].tolist()
    return steps * lm.chunk_size


def floor(lm: LanguageModel) -> dict[str, float]:
    """What this machine needs at least for one chunk drawn once: weights through memory, operations through the units.

    Bandwidth is measured by adding up 256 MB.
    """
    model = lm.calm
    parts = [model.transformer.layers, model.embed_proj, model.generative_head, model.ae_model.decoder]
    weights = sum(p.numel() for part in parts for p in part.parameters())
    operations = lm.chunk_size * flops_per_token(lm)
    big = torch.ones(64 * 2**20, device=lm.device)
    bandwidth = big.numel() * 4 / _seconds(lm.device, lambda: big.sum())
    highest = peak(lm.device, lm.dtype)
    size = weights * engine_for(lm).backbone.bytes_per_weight
    return {
        "megabytes a chunk": size / 1e6,
        "gigabytes a second": bandwidth / 1e9,
        "megaflop a chunk": operations / 1e6,
        "gigaflop a second": highest / 1e9,
        "milliseconds a chunk": 1000 * max(size / bandwidth, operations / highest),
    }


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a matrix product of 1,024 rows and columns."""
    square = torch.ones(1024, 1024, device=device, dtype=dtype)
    return 2 * 1024**3 / _seconds(device, lambda: square @ square)


def _timed(device: torch.device, work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work returns, and the wall seconds until the device has done it."""
    start = time.perf_counter()
    found = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def _seconds(device: torch.device, work: Callable[[], Any], rounds: int = 20) -> float:
    return min(_timed(device, work)[1] for _ in range(rounds))


def generation(name: str, tokens: int = 128, rounds: int = 5, threads: int | None = None) -> dict[str, Any]:
    """Medians over interleaved rounds, one of each contestant a round, after one round of warm-up.

    Rates count the tokens that were emitted, over as many texts as ``tokens`` takes; ``draws`` is the mean number of
    vectors drawn a step; ``long_cost`` is what a token costs at T = 1 in a continuation of 2,000 over one of 200.
    Raises CalmError for a token-by-token model.
    """
    if threads:
        torch.set_num_threads(threads)
    lm = load(name)
    other = token_by_token(lm)
    opened = openings()
    draws: dict[str, list[int]] = {}

    def run_peer(number: int) -> int:
        ids = torch.tensor([other.tokenize(opened[number % PROMPTS])], device=lm.device)
        other.llama.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, min_new_tokens=tokens,
                             max_new_tokens=tokens, pad_token_id=lm.tokenizer.eos_token_id)  # fmt: skip
        return tokens

    def run_official(temperature: float) -> Callable[[int], int]:
        def run(number: int) -> int:
            ids, _ = align(lm, lm.tokenize(opened[number % PROMPTS]))
            return official(lm, ids, tokens // lm.chunk_size, temperature)

        return run

    def run_ours(model: LanguageModel, temperature: float, label: str) -> Callable[[int], int]:
        def run(number: int) -> int:
            told, seed = 0, number
            while told < tokens:  # a story may end early; the next one goes on counting
                for step in generate(
                    model, opened[seed % PROMPTS], temperature, max_new_tokens=tokens - told, seed=seed
                ):
                    told += len(step.token_ids)
                    draws.setdefault(label, []).append(step.draws)
                seed += 1000
            return told

        return run

    def run_on(wanted: int) -> Callable[[int], int]:
        def run(number: int) -> int:
            told, text = 0, opened[number % PROMPTS]
            while told < wanted:  # where a story ends, another follows in the same context
                for step in generate(lm, text, 1.0, max_new_tokens=wanted - told, seed=number + told):
                    told += len(step.token_ids)
                    text += step.text
                text += "\n\n"
            return told

        return run

    contestants = {PEER: run_peer, OWN: run_ours(other, 1.0, OWN)}
    for t in (1.0, 0.5):
        contestants[f"the published sampler at T = {t:g}"] = run_official(t)
    for t in TEMPERATURES:
        label = f"calm.generate at T = {t:g}"
        contestants[label] = run_ours(lm, t, label)
    long, short = (f"a continuation of {wanted} tokens" for wanted in (LONG, SHORT))
    contestants |= {long: run_on(LONG), short: run_on(SHORT)}
    rates: dict[str, list[float]] = {label: [] for label in contestants}
    for number in range(rounds + 1):
        for label, run in contestants.items():
            told, seconds = _timed(lm.device, partial(run, number))
            if number:
                rates[label].append(told / seconds)
    on = {label: statistics.median(rates.pop(label)) for label in (long, short)}
    return {
        "model": lm.name,
        "device": str(lm.device),
        "threads": torch.get_num_threads(),
        "tokens": tokens,
        "rounds": rounds,
        "peer": PEER,
        "tokens_per_second": {label: statistics.median(found) for label, found in rates.items()},
        "draws": {label: statistics.mean(found) for label, found in draws.items()},
        "long_cost": on[short] / on[long],
        "floor": floor(lm),
    }
