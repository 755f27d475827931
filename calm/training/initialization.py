"""Initial weights: copy initialization, and weights taken from another model.

**Copy initialization.** To repeat a name of the story, a model must copy the name's embedding through attention to the
output. Random matrices scramble it on the way, and a small model then needs tens of millions of tokens before it
repeats a name. Copy initialization makes this path the identity: the residual stream is a space of token embeddings,
attention copies the average of the positions that it attends to, and tokens of the context get slightly higher logits
than others. (For attention: Trockman and Kolter 2023, "Mimetic initialization".)

**Weights of another model.** ``init_from`` copies all weights, keeps some of the layers, adds blocks to the head, or
doubles the width (Chen, Goodfellow and Shlens 2016, "Net2Net"). ``init_backbone_from`` copies the backbone alone, for a
model of another K.

**Separate codes.** ``separate_codes`` gives each token of a chunk its own part of the latent vector. A head learns such
vectors sooner than vectors that mix the tokens of a chunk.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from transformers import LlamaModel

from ..errors import CalmError
from ..hub.loading import load, load_autoencoder
from ..modeling.autoencoder import Autoencoder
from ..modeling.calm import CalmModel

ATTENTION_COPY = 0.5
"""Share of what attention reads that it writes back to the residual stream."""
EMBEDDING_SHARE, ROTATION_SHARE = 0.7, 0.7
"""Shares of a token embedding that enter the sum of a chunk as they are and rotated by position in the chunk."""
HEADS = ("generative_head.", "mlp_generator.")
"""Names of a head's weights; the energy head has both."""
POSTERIOR_STD = 0.42
"""Standard deviation of the posterior of an autoencoder with separate codes. The mean of each chunk has a root mean
square of 1."""
MLP_SCALE = 0.3
"""Factor on the initial output of the MLPs."""


def copy_init_attention(backbone: LlamaModel) -> None:
    """Sets queries equal to keys and attention's output to a scaled copy of its input, and scales the MLPs down.

    Attention with grouped queries keeps its random weights; its MLPs are scaled down, too.
    """
    for layer in backbone.layers:
        attention = layer.self_attn
        if attention.q_proj.weight.shape == attention.k_proj.weight.shape == attention.o_proj.weight.shape:
            nn.init.orthogonal_(attention.v_proj.weight)
            with torch.no_grad():
                attention.k_proj.weight.copy_(attention.q_proj.weight)
                attention.o_proj.weight.copy_(ATTENTION_COPY * attention.v_proj.weight.T)
        layer.mlp.down_proj.weight.data.mul_(MLP_SCALE)


def copy_init(model: CalmModel) -> None:
    """Copy initialization of a whole CALM. The token embeddings start as the autoencoder's where the widths agree."""
    embedding, source = model.transformer.embed_tokens.weight, model.ae_model.encoder.embed_tokens.weight
    with torch.no_grad():
        if embedding.shape == source.shape:
            embedding.copy_(source)
    copy_init_input(model)
    copy_init_attention(model.transformer)


def copy_init_input(model: CalmModel) -> None:
    """Makes ``embed_proj`` output the sum of a chunk's token embeddings.

    For K > 1 each embedding enters as itself plus a random rotation that depends on its position in the chunk, so that
    the sum holds the order of the tokens. The SiLU between the two linear maps cancels out over pairs of opposite sign:
    silu(u) - silu(-u) = u.
    """
    embedding = model.transformer.embed_tokens.weight
    inner, outer = model.embed_proj[0], model.embed_proj[2]
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear)
    width, k = model.config.hidden_size, model.config.patch_size
    with torch.no_grad():
        scale = (width / k) ** 0.5 / embedding.norm(dim=-1).mean()  # the sum of K embeddings has unit variance
        identity = torch.eye(width)
        maps = [
            EMBEDDING_SHARE * identity + ROTATION_SHARE * nn.init.orthogonal_(torch.empty(width, width))
            for _ in range(k)
        ]
        mixed = scale * torch.cat(maps if k > 1 else [identity], dim=1)
        for linear, weight in ((inner, torch.cat((mixed, -mixed))), (outer, torch.cat((identity, -identity), dim=1))):
            nn.init.normal_(linear.weight, std=0.02).add_(weight)
            nn.init.zeros_(linear.bias)


def init_from(model: nn.Module, name: str, layers: list[int], new_head: bool = False) -> None:
    """Copies the weights of the model ``name``, of its backbone only ``layers`` (all of them if empty).

    - Blocks that the energy head has beyond those of the source start as the identity. With ``new_head``, or where the
      source has a head of another kind, the head keeps its random weights.
    - A CALM keeps its own autoencoder.
    - A CALM of twice the width and twice the heads gets the weights widened, and computes the same at first.

    Raises CalmError if the source cannot be loaded, has no such layer, or has another shape.
    """
    lm = load(name, device="cpu")
    if layers:
        depth = len(lm.backbone.layers)
        if not set(layers) <= set(range(depth)):
            raise CalmError(f"{name!r} has the layers 0 to {depth - 1}; the recipe keeps {layers} of them.")
        lm.backbone.layers = nn.ModuleList(lm.backbone.layers[i] for i in layers)
    weights, width = lm.model.state_dict(), lm.model.config.hidden_size
    if lm.is_calm and isinstance(model, CalmModel) and (new_head or lm.calm.head != model.head):
        own_head = {key: weight for key, weight in model.state_dict().items() if key.startswith(HEADS)}
        weights = {key: weight for key, weight in weights.items() if not key.startswith(HEADS)} | own_head
    try:
        for key, own in model.state_dict().items():
            if ".mlp_blocks." in key and key not in weights:
                weights[key] = own.zero_() if key.endswith("down_proj.weight") else own
            elif key.startswith("ae_model."):
                weights[key] = own
            elif key in weights and weights[key].shape != own.shape:
                weights[key] = _widened(weights[key], own, width, halve=own.ndim > 1 and "embed_tokens" not in key)
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CalmError(
            f"The run cannot start from {name!r}: the recipe describes a model of another shape."
        ) from error


def init_autoencoder_from(model: Autoencoder, name: str) -> None:
    """Copies the weights of an autoencoder, or of that of a CALM. Raises CalmError if it has another shape."""
    source = load_autoencoder(name)
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise CalmError(f"The run cannot start from the autoencoder of {name!r}: it has another shape.") from error


def _widened(weight: Tensor, random: Tensor, width: int, halve: bool) -> Tensor:
    """A weight of a model of twice the ``width`` that computes the same function (Net2Net).

    Every unit is duplicated. With ``halve``, the weights that read a duplicated unit are halved, and the ``random``
    initial weights of the wider model are added with opposite signs for the two copies: they cancel out at first, and
    they let the copies diverge in training. Duplicated inputs leave RMS norm and layer norm unchanged. Raises
    RuntimeError where one shape is not the other widened.
    """
    for axis, (before, after) in enumerate(zip(weight.shape, random.shape)):
        if before == after:
            continue
        # An axis may join several blocks of ``width`` units; each block is duplicated on its own.
        weight = weight.unflatten(axis, (-1, 1, width)).repeat_interleave(2, axis + 1).flatten(axis, axis + 2)
        if halve and axis == random.ndim - 1:
            one, other = random.unflatten(axis, (-1, 2, width)).unbind(axis + 1)
            difference = (one - other) / 2
            weight = weight / 2 + torch.stack((difference, -difference), axis + 1).flatten(axis)
    return weight


def init_backbone_from(model: CalmModel, name: str) -> None:
    """Copies the backbone of the model ``name``; the input projection starts as the sum of the token embeddings.

    Raises CalmError if the source cannot be loaded or its backbone has another shape.
    """
    lm = load(name, device="cpu")
    try:
        model.transformer.load_state_dict(lm.backbone.state_dict())
    except RuntimeError as error:
        raise CalmError(f"The run cannot start from the backbone of {name!r}: it has another shape.") from error
    copy_init_input(model)
    norm = model.embed_proj[3]
    if not lm.is_calm:  # its layers expect embeddings at their own scale, without a norm
        nn.init.constant_(cast(nn.LayerNorm, norm).weight, model.transformer.embed_tokens.weight.square().mean().sqrt())


def separate_codes(autoencoder: Autoencoder) -> None:
    """Gives each token of a chunk L / K numbers of the latent vector, its code.

    The squeeze layer maps the state of each token to its own numbers alone, and the encoder's layers after it are the
    identity. These layers, the norm and the map to the posterior are frozen, and the gradient of the squeeze layer is
    masked, so that training cannot mix the codes.
    The encoder's RMS norm scales the whole vector to a root mean square of 1: other tokens change the scale of a code,
    not its direction. The posterior's standard deviation is constant. The decoder may mix the codes. Raises CalmError
    unless the autoencoder is as wide as its vector and K divides the width.
    """
    config, encoder, decoder = autoencoder.config, autoencoder.encoder, autoencoder.decoder
    k, width = config.patch_size, config.hidden_size
    if width != config.latent_size or width % k:
        raise CalmError(
            f"'separate_codes' needs a hidden_size equal to latent_size and divisible by patch_size; they are {width}, "
            f"{config.latent_size} and {k}."
        )
    own = torch.zeros(k, width // k, k, width)  # numbers of each token's code, by the states of all tokens
    own[range(k), :, range(k)] = nn.init.orthogonal_(torch.empty(width // k, width))
    after_squeeze = encoder.encoder_layers[len(encoder.encoder_layers) // 2 :]
    with torch.no_grad():
        encoder.squeeze_layer.weight.copy_(own.view(width, -1))
        encoder.squeeze_layer.bias.zero_()
        mean, log_std = encoder.hidden_to_latent.weight.chunk(2)
        mean.copy_(torch.eye(width))
        log_std.zero_()
        encoder.hidden_to_latent.bias.zero_()
        encoder.hidden_to_latent.bias[width:] = math.log(POSTERIOR_STD)
        decoder.latent_to_hidden.weight.copy_(torch.eye(width))
        decoder.latent_to_hidden.bias.zero_()
        decoder.expand_layer.weight.copy_(own.permute(2, 3, 0, 1).reshape(-1, width))
        decoder.expand_layer.bias.zero_()
        for layer in (*after_squeeze, *decoder.decoder_layers[: len(decoder.decoder_layers) // 2]):
            layer.mlp.down_proj.weight.zero_()
    for module in (*after_squeeze, encoder.norm, encoder.hidden_to_latent):
        module.requires_grad_(False)
    mask = (own != 0).view(width, -1)
    encoder.squeeze_layer.weight.register_hook(lambda gradient: gradient * mask.to(gradient.device))
