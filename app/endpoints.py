"""The named endpoints, for ``gradio_client`` and as MCP tools. Their docstrings become the tools' descriptions."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

import calm

from . import compute
from .controls import parse_seed
from .errors import api_errors
from .limits import DEFAULT_NEW_TOKENS, DEFAULT_POOL_SIZE, MAX_CONCURRENT_RUNS, TEMPERATURE_DEFAULT
from .registry import DEFAULT, loaded
from .tabs.evaluate import measure, split_texts
from .tabs.generate import run_payloads
from .tabs.reconstruct import parse_reconstruct_text


def generate(
    prompt: str = "",
    temperature: float = TEMPERATURE_DEFAULT,
    max_new_tokens: int = DEFAULT_NEW_TOKENS,
    seed: int = 0,
    sampler: str = "auto",
    pool_size: int = DEFAULT_POOL_SIZE,
    model: str = DEFAULT,
) -> Iterator[dict[str, Any]]:
    """Continues a prompt and streams the text so far after each step of K tokens.

    Args:
        prompt: Text to continue; empty for a random story. A story prompt begins "A story about a shy fox".
        temperature: Any number above 0, at most 2 (at most 1 with the exact sampler).
        max_new_tokens: From 1 to 512, rounded up to whole chunks.
        seed: Random seed, a whole number; the same seed gives the same text.
        sampler: "auto", "exact" or "pooled".
        pool_size: Maximum number of samples per step, 1 to 10,000.
        model: Name of a model in the page's menu; story-ar generates token by token, the others are CALMs.
    """
    with api_errors():
        for payload in run_payloads(model, prompt, temperature, max_new_tokens, seed, sampler, pool_size):
            steps = payload["steps"]
            text = payload["prompt"] + "".join(step["text"] for step in steps)
            yield {"text": text, "steps": len(steps), "ended": payload["ended"]}


def reconstruct(text: str, noise: float = 0.0, seed: int = 0, model: str = DEFAULT) -> dict[str, Any]:
    """Encodes each chunk of K tokens to one vector and decodes it again.

    Args:
        text: Any text of up to 4,000 characters.
        noise: Standard deviation of Gaussian noise added to each posterior mean, at least 0.
        seed: Random seed of the noise, a whole number.
        model: Name of a CALM in the page's menu.
    """
    with api_errors():
        result = calm.reconstruct(loaded(model).lm, parse_reconstruct_text(text), noise, parse_seed(seed))
        return {
            "token_accuracy": result.token_accuracy,
            "chunk_accuracy": result.chunk_accuracy,
            "chunks": [{"text": c.text, "decoded": c.decoded_text, "exact": c.exact} for c in result.chunks],
        }


def trajectory(
    prompt: str = "",
    temperature: float = TEMPERATURE_DEFAULT,
    max_new_tokens: int = 128,
    seed: int = 0,
    model: str = DEFAULT,
) -> list[dict[str, Any]]:
    """Generates a text and returns the path of its predicted vectors on the UMAP map, one entry per step.

    Args:
        prompt: Text to continue; empty for a random story.
        temperature: Any number above 0, at most 2.
        max_new_tokens: From 1 to 512, rounded up to whole chunks.
        seed: Random seed, a whole number; the same seed gives the same path.
        model: Name of a CALM in the page's menu that has a map.
    """
    with api_errors():
        loaded(model).require_map()
        *_, payload = run_payloads(model, prompt, temperature, max_new_tokens, seed, "auto", DEFAULT_POOL_SIZE)
        return [
            {
                "index": step["index"],
                "text": step["text"],
                "plane": step["predicted"]["plane"],
                "space": step["predicted"]["space"],
            }
            for step in payload["steps"]
        ]


def evaluate(text: str, seed: int = 0, model: str = DEFAULT) -> dict[str, Any]:
    """BrierLM of a model on a text, with its four Brier-n; blank lines separate texts.

    Args:
        text: One or more texts, up to 20,000 characters in all.
        seed: Random seed of the model's samples, a whole number.
        model: Name of a model in the page's menu.
    """
    with api_errors():
        measuring = measure([loaded(model).lm], split_texts(text), parse_seed(seed))
        *_, (measurement,) = compute.iterate(measuring)
        assert measurement.result  # measure raises an error otherwise
        return measurement.result.figures()


def build() -> None:
    """Registers the endpoints in the current Blocks."""
    # The engine batches many requests. Endpoints that do not use the engine run two at a time.
    groups: dict[str, tuple[int, list[Callable]]] = {
        "model": (MAX_CONCURRENT_RUNS, [generate, trajectory]),
        "measure": (2, [reconstruct, evaluate]),
    }
    for group, (limit, functions) in groups.items():
        for function in functions:
            gr.api(function, api_name=function.__name__, concurrency_id=group, concurrency_limit=limit)
