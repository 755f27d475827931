"""The official sizes at batch one, compared with the limit of memory bandwidth and with token-by-token generation.

python -m benchmarks.sizes [--sizes calm-m calm-l calm-xl] [--draws 1] [--tokens 512] [--rounds 5] [--json]

Weights are random, because they do not change the time of a draw. At T = 1 a step makes one draw; below, a GPU first
makes 32, which suffice for a confident model (``--draws 32``). Models take turns with the token-by-token engine
on the same backbone; both also run without runs of several steps (``Engine.run_steps``). The floor is
``benchmarks.generation.floor``. For a GPU; on a CPU it takes minutes, and no model has runs.
"""

import argparse
import json
import time
from functools import partial

import torch

import calm
from benchmarks.generation import floor, token_by_token
from benchmarks.rounds import medians
from calm.engine import engine_for
from calm.hub.loading import load_tokenizer
from calm.modeling.calm import EnergyTransformer
from calm.modeling.config import AutoencoderConfig, CalmConfig
from calm.training import recipe

SIZES = ("calm-m", "calm-l", "calm-xl")


def build(name: str, device: torch.device, dtype: torch.dtype) -> calm.LanguageModel:
    """The model of a recipe, with the official autoencoder and initial weights, and the tokenizer of story-k4."""
    config = CalmConfig(**recipe.read(name)["model"], autoencoder=AutoencoderConfig().to_dict())
    with device:
        model = EnergyTransformer(config).to(dtype).eval()
    return calm.LanguageModel(name, model, load_tokenizer("story-k4"))


def seconds(lm: calm.LanguageModel, tokens: int, draws: int, seed: int) -> float:
    """Wall seconds per token of a continuation with ``draws`` samples per step. The first step is not counted."""
    start = count = 0.0
    for step in calm.generate(lm, "Once upon a time", 1.0, tokens, pool_size=draws, sampler="pooled", seed=seed):
        count += len(step.token_ids) if start else 0
        start = start or time.perf_counter()
    return (time.perf_counter() - start) / count


def seconds_of_single_steps(lm: calm.LanguageModel, tokens: int, draws: int, seed: int) -> float:
    """``seconds`` of an engine that makes a decision after each step."""
    engine = engine_for(lm)
    most, engine.run_steps = engine.run_steps, 0
    try:
        return seconds(lm, tokens, draws, seed)
    finally:
        engine.run_steps = most


def measure(name: str, tokens: int, draws: int, rounds: int) -> dict[str, float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lm = build(name, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    models, measures = (lm, token_by_token(lm)), (seconds, seconds_of_single_steps)
    contestants = [partial(each, model, tokens, draws) for model in models for each in measures]
    ours, ours_single, theirs, theirs_single = medians(dict(enumerate(contestants)), rounds).values()
    least = floor(lm)
    chunk = 1000 * lm.chunk_size * ours
    return {
        "parameters": lm.num_parameters,
        "milliseconds_per_chunk": chunk,
        "floor": least["milliseconds_per_chunk"],
        "share_of_floor": least["milliseconds_per_chunk"] / chunk,
        "tokens_per_second": 1 / ours,
        "token_by_token": 1 / theirs,
        "tokens_per_second_in_single_steps": 1 / ours_single,
        "token_by_token_in_single_steps": 1 / theirs_single,
        "gigabytes_per_second": least["gigabytes_per_second"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="RECIPE")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.sizes:
        figures = measure(name, arguments.tokens, arguments.draws, arguments.rounds)
        if arguments.json:
            print(json.dumps({name: figures}), flush=True)
            continue
        rate, peer = figures["tokens_per_second"], figures["token_by_token"]
        single = [figures[f"{key}_in_single_steps"] for key in ("tokens_per_second", "token_by_token")]
        print(
            f"{name:8} {figures['parameters'] / 1e6:6.0f} M  {figures['milliseconds_per_chunk']:.3f} ms per chunk, "
            f"floor {figures['floor']:.3f} ({figures['share_of_floor']:.0%})  {rate:.0f} tokens/s, "
            f"token by token {peer:.0f} ({rate / peer:.2f}x); in single steps {single[0]:.0f} and {single[1]:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
