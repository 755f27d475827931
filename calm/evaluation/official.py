"""The evaluation of the official code: texts packed into blocks. docs/training.md compares it with ours.

The token ids of all texts follow one another, each text with what its tokenizer adds in front, and are cut into blocks.
A model is measured at every chunk of a block but the first, which has no context.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import CalmError, check_seed
from ..hub.language_model import LanguageModel
from ..modeling.losses import cross_entropy
from .brier import MAX_ORDER, measure_row, summarize
from .continuations import ContinuationRequest, without_pauses
from .reports import read_texts

POSTERIOR_SAMPLES = 100
"""M, the samples of the posterior in the energy score (paper, section 7.1)."""


def pack(lm: LanguageModel, texts: Iterable[str], block_size: int) -> tuple[list[list[int]], int]:
    """Blocks of ``block_size`` token ids, and the number of tokens after the last full block, which are left out."""
    front = lm.tokenizer("")["input_ids"]
    ids = [token for text in texts for token in (*front, *lm.tokenize(text))]
    full = len(ids) // block_size * block_size
    return [ids[i : i + block_size] for i in range(0, full, block_size)], len(ids) - full


def evaluate_official(
    lm: LanguageModel,
    sources: Sequence[str],
    block_size: int = 8192,
    limit: int | None = None,
    samples: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    """The published figures of a model on each source of texts.

    ``brier_lm`` has the fields of ``calm.brier_lm``; its bootstrap resamples blocks. ``energy_loss`` (or the loss of
    another head) is the mean over chunks; a token-by-token model has ``perplexity`` instead. Raises CalmError for a
    block size that the model cannot read, and if the texts of a source do not fill one block.
    """
    k, longest = lm.chunk_size, lm.context_length * lm.chunk_size
    stride = k if k > 1 else MAX_ORDER
    if not stride + MAX_ORDER <= block_size <= longest or block_size % stride:
        raise CalmError(
            f"A block of {lm.name} holds {stride + MAX_ORDER} to {longest:,} tokens, a multiple of {stride}, "
            f"not {block_size:,}; set it with --block-size."
        )
    if not sources:
        raise CalmError("There is nothing to measure: name a source of text.")
    if samples < 2:
        raise CalmError(f"BrierLM needs at least 2 samples at each position, not {samples}.")
    check_seed(seed)
    texts = {}
    for source, documents in read_texts(sources, limit).items():
        blocks, rest = pack(lm, documents, block_size)
        if not blocks:
            raise CalmError(
                f"The texts of {source!r} have {rest:,} tokens and do not fill a block of {block_size:,}; "
                "choose a smaller --block-size."
            )
        generator = torch.Generator(lm.device).manual_seed(seed)
        sums = [
            without_pauses(measure_row(lm, ContinuationRequest(block, stride, stride, samples), generator))
            for block in blocks
        ]
        figures = summarize(tuple(tuple(block.tolist()) for block in sums), seed).figures()
        loss = float(np.mean([_loss(lm, block, generator) for block in blocks]))
        name = f"{lm.calm.head}_loss" if lm.is_calm else "perplexity"
        texts[source] = {
            "count": len(documents),
            "blocks": len(blocks),
            "unused_tokens": rest,
            "brier_lm": figures,
            name: loss if lm.is_calm else math.exp(loss),
        }
    return {
        "model": lm.name,
        "parameters": lm.num_parameters,
        "protocol": "official",
        "block_size": block_size,
        "samples": samples,
        "seed": seed,
        "texts": texts,
    }


@torch.no_grad()
def _loss(lm: LanguageModel, block: list[int], generator: torch.Generator) -> float:
    """The head's loss of a CALM, averaged over the chunks after the first; nats a token of a token-by-token model."""
    ids = torch.tensor([block], device=lm.device)
    if not lm.is_calm:
        return float(cross_entropy(lm.llama(ids[:, :-1], use_cache=False).logits, ids[:, 1:]))
    model, k = lm.calm, lm.chunk_size
    hidden = model(ids[:, :-k], use_cache=False)
    mean, std = model.ae_model.encode(ids.unflatten(-1, (-1, k))[:, 1:])
    return float(model.generative_head.loss(hidden, mean, std, POSTERIOR_SAMPLES, generator).mean())
