"""Initial weights from which a small model soon learns to copy, as names in a story must be.

To say a name again, its identity must travel from the embedding through attention to the output. Through random maps
that path begins as noise, and a small model stays for tens of millions of tokens where it knows every sentence and no
name. Here it begins as the identity: the residual stream is a space of token embeddings, attention averages what it
reads and copies it, and tokens of the context begin a little likelier than others. Everything else is learned, and the
trained model is a plain one. (For attention: Trockman and Kolter 2023, "Mimetic initialization".)
"""

import torch
from torch import nn
from transformers import LlamaModel

from ..modeling.calm import EnergyTransformer

COPY, PASS, TURN, MLP = 0.5, 0.7, 0.7, 0.3


def align_attention(backbone: LlamaModel) -> None:
    """Queries look for keys like themselves, and what attention reads it writes back scaled; MLPs begin quiet.

    Heads that share keys and values (grouped queries) are left as they are, but for the MLPs.
    """
    for layer in backbone.layers:
        attention = layer.self_attn
        if attention.q_proj.weight.shape == attention.k_proj.weight.shape == attention.o_proj.weight.shape:
            nn.init.orthogonal_(attention.v_proj.weight)
            with torch.no_grad():
                attention.k_proj.weight.copy_(attention.q_proj.weight)
                attention.o_proj.weight.copy_(COPY * attention.v_proj.weight.T)
        layer.mlp.down_proj.weight.data.mul_(MLP)


def align(model: EnergyTransformer) -> None:
    """Token embeddings like the autoencoder's (where the widths agree), read as their sum; attention that copies."""
    embedding, read = model.transformer.embed_tokens.weight, model.ae_model.encoder.embed_tokens.weight
    with torch.no_grad():
        if embedding.shape == read.shape:
            embedding.copy_(read)
    align_reading(model)
    align_attention(model.transformer)


def align_reading(model: EnergyTransformer) -> None:
    """The sum of a chunk's token embeddings passed on by ``embed_proj``.

    Each of several embeddings enters as itself plus a rotation of its own, which tells its place in the chunk. The SiLU
    between the two maps of ``embed_proj`` is passed in pairs of opposite sign: silu(u) - silu(-u) = u.
    """
    embedding = model.transformer.embed_tokens.weight
    inner, outer = model.embed_proj[0], model.embed_proj[2]
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
    width, k = model.config.hidden_size, model.config.patch_size
    with torch.no_grad():
        scale = (width / k) ** 0.5 / embedding.norm(dim=-1).mean()  # the sum of K embeddings has unit variance
        one = torch.eye(width)
        places = [PASS * one + TURN * nn.init.orthogonal_(torch.empty(width, width)) for _ in range(k)]
        mixed = scale * torch.cat(places if k > 1 else [one], dim=1)
        for linear, weight in ((inner, torch.cat((mixed, -mixed))), (outer, torch.cat((one, -one), dim=1))):
            nn.init.normal_(linear.weight, std=0.02).add_(weight)
            nn.init.zeros_(linear.bias)
