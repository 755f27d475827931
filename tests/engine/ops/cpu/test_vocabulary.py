import numpy as np
import pytest
import torch

from calm.engine.ops.cpu import packing, products, vocabulary

from .emulated_unit import HAS_UNIT


def embedding_and_states() -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding of 1,111 tokens, in bfloat16, and 200 states like a trained decoder's: each but the first lies near
    one token's row. Two tokens have the same row."""
    generator = torch.Generator().manual_seed(0)
    embedding, states = (torch.randn(n, 64, generator=generator) for n in (1111, 200))
    embedding = (embedding * torch.linspace(2, 0.01, 64)).bfloat16().float()
    embedding[1000] = embedding[7]
    states[1:] = 0.1 * states[1:] + 3 * embedding[:199]
    return embedding, states


def argmax(states: torch.Tensor, threads: int, arrays: tuple) -> list[int]:
    best = np.empty(len(states), np.int64)
    vocabulary.argmax(states.numpy(), threads, arrays, best)
    return best.tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("by", ["bounds", "float32", "bfloat16", *["a matrix unit"] * HAS_UNIT])
@torch.inference_mode()
def test_the_first_token_with_the_largest_logit(by, threads):
    embedding, states = embedding_and_states()
    if by == "bounds":
        arrays = vocabulary.vocabulary_bounds(embedding, states)
    else:
        pack = {"float32": packing.pack_float32, "bfloat16": packing.pack_bfloat16}.get(by, packing.pack_panels)
        arrays = pack(embedding.numpy()), np.int64(len(embedding))
    for some in (states, states[:3], -states):
        tokens = argmax(some, threads, arrays)
        assert tokens == (some @ embedding.T).argmax(-1).tolist()
        assert [argmax(row[None], threads, arrays) for row in some[:9]] == [[token] for token in tokens[:9]]
    assert argmax(states[8:9], threads, arrays) == [7]


@torch.inference_mode()
def test_bounds_hold_and_rule_out_most_tokens():
    embedding, states = embedding_and_states()
    basis, table, slack, _ = vocabulary.vocabulary_bounds(embedding, states)
    for some, typical in ((states, True), (states[:3], True), (-states, False)):
        logits = some @ embedding.T
        coordinates = vocabulary._coordinates(some.numpy(), basis, table, slack)
        bounds = torch.from_numpy(products.product(coordinates, table))[:, : len(embedding)]
        assert (bounds >= logits).all()
        if typical:  # the basis is computed from such states
            assert (bounds[1:] >= logits[1:].amax(-1, keepdim=True)).float().mean() < vocabulary.MAX_SHARE_LEFT


@torch.inference_mode()
def test_no_bounds_where_they_rule_out_too_little():
    """As with random weights: no logit stands out."""
    generator = torch.Generator().manual_seed(0)
    embedding, states = (torch.randn(n, 64, generator=generator) for n in (1111, 200))
    assert vocabulary.vocabulary_bounds(embedding, states) is None
