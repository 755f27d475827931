"""Tokens per second of ``calm.generate`` beside transformers' ``generate`` on the same backbone, interleaved."""

import statistics
import time
from typing import Any

import torch
from transformers import LlamaForCausalLM

from .generation import generate
from .loading import load
from .model import EnergyTransformer, backbone_config

TEMPERATURES = (1.0, 0.5, 0.35)
PEER = "transformers, token by token"


def peer(model: EnergyTransformer) -> LlamaForCausalLM:
    """A token-by-token model with the same backbone and tied embeddings. Its weights are random: speed is the same."""
    config = backbone_config(model.config)
    config.tie_word_embeddings = True
    return LlamaForCausalLM(config).to(model.device, model.dtype).eval()


def generation(name: str, tokens: int = 128, rounds: int = 5, threads: int | None = None) -> dict[str, Any]:
    """Medians over interleaved rounds, one of each contestant a round, after one round of warm-up.

    CALM's rates count the tokens that it emitted, over as many texts as that takes; the peer is made to emit exactly
    ``tokens``. Raises CalmError for a token-by-token model.
    """
    if threads:
        torch.set_num_threads(threads)
    lm = load(name)
    prompt = "Once upon a time"
    other = peer(lm.calm)
    ids = torch.tensor([lm.encode(prompt)], device=lm.device)

    def run_peer(_: int) -> int:
        other.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, min_new_tokens=tokens,
                       max_new_tokens=tokens, pad_token_id=lm.tokenizer.eos_token_id)  # fmt: skip
        return tokens

    def run_calm(temperature: float):
        def run(seed: int) -> int:
            told = 0
            while told < tokens:  # a story may end early; the next one goes on counting
                for step in generate(lm, prompt, temperature, max_new_tokens=tokens - told, seed=seed):
                    told += len(step.token_ids)
                seed += 1000
            return told

        return run

    contestants = {PEER: run_peer, **{f"calm.generate at T = {t:g}": run_calm(t) for t in TEMPERATURES}}
    rates: dict[str, list[float]] = {label: [] for label in contestants}
    for number in range(rounds + 1):
        for label, run in contestants.items():
            start = time.perf_counter()
            told = run(number)
            if lm.device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                rates[label].append(told / (time.perf_counter() - start))
    return {
        "model": lm.name,
        "device": str(lm.device),
        "threads": torch.get_num_threads(),
        "tokens": tokens,
        "rounds": rounds,
        "peer": PEER,
        "tokens_per_second": {label: statistics.median(found) for label, found in rates.items()},
    }
