import numpy as np
import pytest
import torch

from calm.engine.ops.cpu import packing, vocabulary

from .emulated_unit import HAS_UNIT


def embedding_and_states() -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding of 1,111 tokens, in bfloat16, and 40 states like a trained decoder's: each but the first lies near
    one token's row."""
    generator = torch.Generator().manual_seed(0)
    embedding, states = (torch.randn(n, 64, generator=generator) for n in (1111, 40))
    embedding = (embedding * torch.linspace(2, 0.01, 64)).bfloat16().float()
    states[1:] = 0.3 * states[1:] + 3 * embedding[:39]
    return embedding, states


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("by", ["bounds", *["a matrix unit"] * HAS_UNIT])
@torch.inference_mode()
def test_the_token_with_the_largest_logit(by, threads):
    embedding, states = embedding_and_states()
    panels = packing.pack_panels(embedding.numpy()), np.int64(len(embedding))
    arrays = vocabulary.vocabulary_bounds(embedding, states) if by == "bounds" else panels
    for some in (states, states[:3], -states):
        tokens = torch.from_numpy(vocabulary.argmax(some.numpy(), threads, arrays))
        assert torch.equal(tokens, (some @ embedding.T).argmax(-1))


@torch.inference_mode()
def test_bounds_hold_and_rule_out_most_tokens():
    embedding, states = embedding_and_states()
    arrays = vocabulary.vocabulary_bounds(embedding, states)
    for some, typical in ((states, True), (states[:3], True), (-states, False)):
        logits = some @ embedding.T
        bounds = torch.from_numpy(vocabulary.logit_bounds(some.numpy(), *arrays[:3]))[:, : len(embedding)]
        assert (bounds >= logits).all()
        if typical:  # the basis is computed from such states
            assert (bounds[1:] >= logits[1:].amax(-1, keepdim=True)).float().mean() < 0.2
