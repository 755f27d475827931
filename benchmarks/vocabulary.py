"""The argmax over the vocabulary on a CPU, by bounds that rule out logits and by all logits.

    python -m benchmarks.vocabulary [--rows 4 16 128] [--rounds 7] [--json]
    python -m benchmarks.vocabulary --size calm-m [--rounds 2] [--json]

Two vocabularies: story-k4's, with the states of its decoder for chunks of held-out stories, and 128,257 tokens of width
1,024 with random weights and states. The two searches take turns. With ``--size``, a model of an official size with
random weights continues a prompt at T = 0.5 by each search in turn; it needs up to 6 GB of memory.
"""

import argparse
import json
from functools import partial

import numpy as np
import torch
from torch import Tensor

import calm
from calm.engine import engine_for
from calm.engine.head import CpuHeadStep
from calm.engine.ops.cpu import get_num_threads, vocabulary
from calm.engine.ops.selection import WeightPacker, cpu_kernels
from calm.storyland import stories

from .rounds import medians, seconds
from .sizes import build

TOKENS = 16
"""Length of the continuation of an official size."""


def story_k4() -> tuple[Tensor, Tensor]:
    """Embedding and decoder states of story-k4."""
    lm = calm.load("story-k4", device="cpu")
    k, autoencoder = lm.chunk_size, lm.calm.ae_model
    ids = [lm.tokenize(text) for text in stories("cost_benchmark", 40)]
    chunks = torch.tensor([text[i : i + k] for text in ids for i in range(0, len(text) - k + 1, k)])
    states = autoencoder.decoder.states(autoencoder.encode(chunks)[0]).flatten(0, 1)
    return autoencoder.decoder.lm_head_weight.detach(), states


def random_weights() -> tuple[Tensor, Tensor]:
    """Embedding and states of 128,257 tokens, width 1,024."""
    generator = torch.Generator().manual_seed(0)
    embedding, states = (torch.randn(n, 1024, generator=generator) for n in (128_257, 1024))
    return 0.02 * embedding, states


def arrays_of(embedding: Tensor, states: Tensor) -> dict[str, tuple]:
    """The arguments of the search by bounds and of the search by all logits."""
    bounds = vocabulary.vocabulary_bounds(embedding, states, max_share_left=1.0)
    kernels = cpu_kernels()
    assert bounds and kernels
    packer = WeightPacker(torch.nn.ParameterList([embedding]), kernels)
    return {"bounds": bounds, "all logits": (packer.pack(embedding.numpy()), np.int64(len(embedding)))}


@torch.inference_mode()
def searches(name: str, embedding: Tensor, states: Tensor, rows: list[int], rounds: int) -> list[dict]:
    arrays, threads = arrays_of(embedding, states), get_num_threads()
    chosen = "bounds" if vocabulary.vocabulary_bounds(embedding, states) else "all logits"
    figures: list[dict] = []
    for count in rows:
        tokens = np.empty(count, np.int64)
        x = states[torch.randperm(len(states), generator=torch.Generator().manual_seed(0))[:count]].numpy()

        def measure(search: str, _: int, x: np.ndarray = x, tokens: np.ndarray = tokens) -> float:
            return seconds(partial(vocabulary.argmax, x, threads, arrays[search], tokens))

        times = medians({search: partial(measure, search) for search in arrays}, rounds)
        figures.append({"vocabulary": name, "states": count, "chosen": chosen, **times})
    return figures


def generation(size: str, rounds: int) -> dict:
    """Seconds per token of an official size with random weights at T = 0.5, by each search."""
    lm = build(size, torch.device("cpu"), torch.float32)
    head = engine_for(lm).head
    assert isinstance(head, CpuHeadStep)
    chosen = "all logits" if len(head.vocabulary) == 2 else "bounds"
    arrays = arrays_of(lm.calm.ae_model.decoder.lm_head_weight.detach(), head._sample_states())

    def measure(search: str, _: int) -> float:
        head.vocabulary = arrays[search]
        return seconds(lambda: list(calm.generate(lm, "Once upon a time", 0.5, TOKENS, seed=0))) / TOKENS

    per_token: dict = medians({search: partial(measure, search) for search in arrays}, rounds)
    return {"size": size, "chosen": chosen, **per_token}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[4, 16, 128], help="states of a search")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", metavar="RECIPE", help="an official size, such as calm-m")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.size:
        figures = [generation(arguments.size, arguments.rounds)]
    else:
        cases = {"story-k4": story_k4(), "128,257 x 1,024, random": random_weights()}
        figures = [
            row for name, case in cases.items() for row in searches(name, *case, arguments.rows, arguments.rounds)
        ]
    if arguments.json:
        print(json.dumps(figures))
        return
    for row in figures:
        label = row.get("size") or f"{row['vocabulary']}, {row['states']} states"
        bounds, logits = row["bounds"], row["all logits"]
        if arguments.size:
            times = f"bounds {1 / bounds:.2f} tokens/s  all logits {1 / logits:.2f} tokens/s"
        else:
            times = f"bounds {1e3 * bounds:.3f} ms  all logits {1e3 * logits:.3f} ms"
        print(f"{label:40} {times}  ratio {bounds / logits:.2f}  chosen: {row['chosen']}")


if __name__ == "__main__":
    main()
