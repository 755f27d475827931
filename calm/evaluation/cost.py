"""Cost of a model in floating-point operations per token."""

from typing import NamedTuple, cast

from torch import Tensor

from ..hub.language_model import LanguageModel
from ..modeling.heads.base import count_weights


def flops_per_token(lm: LanguageModel, draws: float = 1.0) -> float:
    """Floating-point operations of one generated token: two for each weight that is multiplied.

    A step of a CALM reads K tokens once, then draws and decodes ``draws`` vectors. Norms, activations and attention to
    earlier positions are not counted.
    """
    if not lm.is_calm:
        return _token(lm)
    cost, head = _chunk_cost(lm), lm.calm.generative_head.cost()
    return 2 * (cost.backbone + head.position + draws * (head.draw + cost.decoder)) / lm.chunk_size


def training_flops_per_token(lm: LanguageModel) -> float:
    """Floating-point operations of one token of training: three times the forward pass, counted in the same way.

    A CALM decodes no vector in training, and its frozen autoencoder encodes each chunk once.
    """
    if not lm.is_calm:
        return 3 * _token(lm)
    cost, head = _chunk_cost(lm), lm.calm.generative_head.cost()
    return 2 * (3 * (cost.backbone + head.loss) + cost.encoder) / lm.chunk_size


def _token(lm: LanguageModel) -> float:
    return 2.0 * (count_weights(lm.llama.model.layers) + lm.llama.lm_head.weight.numel())


class _ChunkCost(NamedTuple):
    """Number of weights that a CALM multiplies per chunk, without its head."""

    backbone: int
    decoder: int
    """Per draw."""
    encoder: int


def _chunk_cost(lm: LanguageModel) -> _ChunkCost:
    model, k = lm.calm, lm.chunk_size
    encoder, decoder = model.ae_model.encoder, model.ae_model.decoder
    half = len(decoder.decoder_layers) // 2
    decoder_chunk = count_weights(decoder.latent_to_hidden, *decoder.decoder_layers[:half], decoder.expand_layer)
    decoder_token = count_weights(*decoder.decoder_layers[half:]) + cast(Tensor, decoder.lm_head_weight).numel()
    half = len(encoder.encoder_layers) // 2
    encoder_chunk = count_weights(encoder.squeeze_layer, *encoder.encoder_layers[half:], encoder.hidden_to_latent)
    encoder_token = count_weights(*encoder.encoder_layers[:half])
    return _ChunkCost(
        backbone=count_weights(model.transformer.layers, model.embed_proj),
        decoder=decoder_chunk + k * decoder_token,
        encoder=encoder_chunk + k * encoder_token,
    )
