import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from calm.modeling.calm import EnergyTransformer
from calm.training.initialization import copy_init, copy_init_attention
from calm.training.objectives import TokenDecoder

from ..conftest import tiny_config


def model(**changes) -> EnergyTransformer:
    torch.manual_seed(0)
    return EnergyTransformer(tiny_config(hidden_size=64, num_attention_heads=4, initializer_range=0.125, **changes))


@torch.no_grad()
def test_a_chunk_enters_as_the_sum_of_its_tokens_in_their_order():
    lm = model()
    copy_init(lm)
    ids = torch.randint(2, 300, (200, 4))
    inputs = lm.embed(ids)
    total = lm.transformer.embed_tokens(ids).sum(-2)
    assert F.cosine_similarity(inputs, total).mean() > 0.5
    assert F.cosine_similarity(inputs, total.roll(1, 0)).abs().mean() < 0.2
    assert not torch.allclose(inputs, lm.embed(ids.flip(-1)), atol=0.1)


@torch.no_grad()
def test_tokens_of_the_context_start_with_higher_probability():
    def advantage(initialized: bool) -> float:
        lm = model()
        if initialized:
            copy_init(lm)
        ids = torch.randint(2, 300, (64, 40))
        hidden = lm(ids)[:, -1]
        following = torch.randint(2, 300, (64, 4))
        embedding = lm.transformer.embed_tokens
        logits = TokenDecoder(64, 4)(hidden, embedding(following) * 8, embedding.weight).mean(1)
        context = torch.zeros(64, logits.shape[-1], dtype=torch.bool).scatter_(1, ids, True)
        return float((logits[context].mean() - logits[~context].mean()) / logits.std())

    assert advantage(True) > 0.3
    assert abs(advantage(False)) < 0.15


@torch.no_grad()
def test_attention_starts_as_a_copy():
    config = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    backbone = LlamaModel(config)
    copy_init_attention(backbone)
    for layer in backbone.layers:
        attention = layer.self_attn
        assert torch.equal(attention.q_proj.weight, attention.k_proj.weight)
        assert torch.allclose(attention.o_proj.weight @ attention.v_proj.weight, 0.5 * torch.eye(32), atol=1e-5)
