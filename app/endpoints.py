"""The named endpoints, for ``gradio_client`` and as MCP tools."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

import calm

from .controls import whole
from .registry import DEFAULT, VISITORS, computed, resident
from .tabs.evaluate import measure, split_texts
from .tabs.generate import stream
from .tabs.reconstruct import check_text


def endpoints() -> None:
    """Registers ``/generate``, ``/reconstruct``, ``/trajectory`` and ``/evaluate`` in the current Blocks."""

    def generate(
        prompt: str = "",
        temperature: float = 0.5,
        max_new_tokens: int = 256,
        seed: int = 0,
        sampler: str = "auto",
        pool_size: int = 200,
        model: str = DEFAULT,
    ) -> Iterator[dict[str, Any]]:
        """Continues a prompt, streaming the text so far after each step of K tokens.

        Args:
            prompt: Text to continue; empty for a new story, "A story about a shy fox and a fear of thunder." for one.
            temperature: Any number above 0, at most 2 (at most 1 with the exact sampler).
            max_new_tokens: From 1 to 512, rounded up to whole chunks.
            seed: A whole number; the same seed gives the same text.
            sampler: "auto", "exact" or "pooled".
            pool_size: Vectors drawn a step at most, 1 to 10,000.
            model: Name of a model in the page's menu; story-ar writes token by token, the others are CALMs.
        """
        with _plain_errors():
            for (run,) in stream(resident(model), prompt, temperature, max_new_tokens, seed, sampler, pool_size):
                yield {
                    "text": prompt + "".join(step["text"] for step in run.value["steps"]),
                    "steps": len(run.value["steps"]),
                    "ended": run.value["ended"],
                }

    def reconstruct(text: str, noise: float = 0.0, seed: int = 0, model: str = DEFAULT) -> dict[str, Any]:
        """Encodes each chunk of K tokens to one vector and decodes it again.

        Args:
            text: Any text of up to 4,000 characters.
            noise: Standard deviation of Gaussian noise added to each posterior mean, at least 0.
            seed: Seed of the noise.
            model: Name of a CALM in the page's menu.
        """
        with _plain_errors():
            found = calm.reconstruct(resident(model).lm, check_text(text), noise, seed)
        return {
            "token_accuracy": found.token_accuracy,
            "chunk_accuracy": found.chunk_accuracy,
            "chunks": [{"text": c.text, "decoded": c.decoded_text, "exact": c.exact} for c in found.chunks],
        }

    def trajectory(
        prompt: str = "", temperature: float = 0.5, max_new_tokens: int = 128, seed: int = 0, model: str = DEFAULT
    ) -> list[dict[str, Any]]:
        """Generates a text and returns the path of its predicted vectors on the UMAP map, one entry a step.

        Args:
            prompt: Text to continue; empty for a new story.
            temperature: Any number above 0, at most 2.
            max_new_tokens: From 1 to 512, rounded up to whole chunks.
            seed: A whole number; the same seed gives the same path.
            model: Name of a CALM in the page's menu that has a map.
        """
        with _plain_errors():
            chosen = resident(model)
            chosen.mapped()
            *_, (run,) = stream(chosen, prompt, temperature, max_new_tokens, seed, "auto", 200)
        return [{key: step[key] for key in ("index", "text", "plane", "space")} for step in run.value["steps"]]

    def evaluate(text: str, seed: int = 0, model: str = DEFAULT) -> dict[str, Any]:
        """BrierLM of a model on a text, with its four Brier-n; blank lines separate texts.

        Args:
            text: One or more texts, up to 20,000 characters in all.
            seed: Seed of the model's draws.
            model: Name of a model in the page's menu.
        """
        with _plain_errors():
            *_, (measured,) = computed(measure([resident(model).lm], split_texts(text), whole(seed, "Seed")))
        assert measured.found  # else an error was raised
        return measured.found.figures()

    # The engine writes many texts together; what does not go through it runs two at a time.
    groups: dict[str, tuple[int, list[Callable]]] = {
        "model": (VISITORS, [generate, trajectory]),
        "measure": (2, [reconstruct, evaluate]),
    }
    for group, (limit, functions) in groups.items():
        for function in functions:
            gr.api(function, api_name=function.__name__, concurrency_id=group, concurrency_limit=limit)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Hands a CalmError to the caller as one sentence."""
    try:
        yield
    except calm.CalmError as error:
        raise gr.Error(str(error), print_exception=False) from error
