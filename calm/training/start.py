"""Weights that a run begins with, taken from another model."""

from typing import cast

import torch
from torch import Tensor, nn

from ..errors import CalmError
from ..hub.loading import load
from ..modeling.calm import EnergyTransformer
from .aligned import align_reading


def start(model: nn.Module, name: str, layers: list[int]) -> None:
    """Copies the weights of a model, of its backbone the ``layers`` that are named. Blocks that the energy head has
    beyond those of the other begin as the identity, and a CALM keeps its own autoencoder; it may be twice as wide as
    the other, with twice the heads, and says the same. Raises CalmError if the other cannot be loaded or is of another
    shape."""
    lm = load(name, device="cpu")
    if layers:
        depth = len(lm.backbone.layers)
        if not set(layers) <= set(range(depth)):
            raise CalmError(f"{name!r} has the layers 0 to {depth - 1}; the recipe keeps {layers} of them.")
        lm.backbone.layers = nn.ModuleList(lm.backbone.layers[i] for i in layers)
    weights, width = lm.model.state_dict(), lm.model.config.hidden_size
    try:
        for place, own in model.state_dict().items():
            if ".mlp_blocks." in place and place not in weights:
                weights[place] = own.zero_() if place.endswith("down_proj.weight") else own
            elif place.startswith("ae_model."):
                weights[place] = own
            elif place in weights and weights[place].shape != own.shape:
                weights[place] = _widened(
                    weights[place], own, width, reads=own.ndim > 1 and "embed_tokens" not in place
                )
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CalmError(
            f"The run cannot start from {name!r}: the recipe describes a model of another shape."
        ) from error


def _widened(weight: Tensor, own: Tensor, width: int, reads: bool) -> Tensor:
    """A weight of a model of twice the ``width`` that says each of its numbers twice (Chen, Goodfellow and Shlens 2016,
    "Net2Net").

    What a matrix ``reads`` is there twice, so that its entries are halves; to these come the random weights that the
    wider model has of its own, with opposite signs for the two: they add nothing as long as both say the same, and let
    them part in training. RMS and layer norm do not change where every number is there twice. Raises RuntimeError where
    one shape is not the other widened.
    """
    for axis, (before, after) in enumerate(zip(weight.shape, own.shape)):
        if before == after:
            continue
        # Side by side lie what a layer joins or splits, each ``width`` wide, and each is said twice.
        weight = weight.unflatten(axis, (-1, 1, width)).repeat_interleave(2, axis + 1).flatten(axis, axis + 2)
        if reads and axis == own.ndim - 1:
            one, other = own.unflatten(axis, (-1, 2, width)).unbind(axis + 1)
            apart = (one - other) / 2
            weight = weight / 2 + torch.stack((apart, -apart), axis + 1).flatten(axis)
    return weight


def grow(model: EnergyTransformer, name: str) -> None:
    """Copies the backbone of a model. Raises CalmError if it cannot be loaded or is of another shape."""
    lm = load(name, device="cpu")
    try:
        model.transformer.load_state_dict(lm.backbone.state_dict())
    except RuntimeError as error:
        raise CalmError(f"The run cannot grow from {name!r}: its backbone has another shape.") from error
    align_reading(model)
    norm = model.embed_proj[3]
    if not lm.is_calm:  # it reads its embeddings as they are, not normalised
        nn.init.constant_(cast(nn.LayerNorm, norm).weight, model.transformer.embed_tokens.weight.square().mean().sqrt())
