"""What a token costs a model in floating-point operations."""

from typing import cast

from torch import Tensor, nn

from ..hub.language_model import LanguageModel
from ..modeling.heads.energy import HeadBlock


def _weights(*modules: nn.Module) -> int:
    """How many numbers their matrices hold."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)


def flops_per_token(lm: LanguageModel, draws: float = 1.0) -> float:
    """Floating-point operations of one generated token: two for each weight that works for it.

    A CALM reads and conditions once a step of K tokens, then draws and decodes ``draws`` vectors. Norms, activations
    and attention to earlier positions are not counted.
    """
    if not lm.is_calm:
        return _token(lm)
    step, draw, decoding, _ = _chunk(lm)
    return (step + draws * (draw + decoding)) / lm.chunk_size


def training_flops_per_token(lm: LanguageModel) -> float:
    """Floating-point operations of one token of training, counted alike: three times the forward pass.

    A CALM draws N vectors a step and decodes none; its autoencoder rests, and only encodes each chunk once.
    """
    if not lm.is_calm:
        return 3 * _token(lm)
    step, draw, _, encoding = _chunk(lm)
    return (3 * (step + lm.calm.config.num_samples * draw) + encoding) / lm.chunk_size


def _token(lm: LanguageModel) -> float:
    return 2.0 * (_weights(lm.llama.model.layers) + lm.llama.lm_head.weight.numel())


def _chunk(lm: LanguageModel) -> tuple[float, float, float, float]:
    """Operations of a CALM, a chunk each: a step of the backbone, a draw of the head, decoding one draw, encoding."""
    model, k = lm.calm, lm.chunk_size
    head, encoder, decoder = model.generative_head, model.ae_model.encoder, model.ae_model.decoder
    conditioning = _weights(head.hidden_embd) + sum(
        cast(HeadBlock, block).mix.weight.numel() // 2 for block in head.mlp_blocks
    )
    step = _weights(model.transformer.layers, model.embed_proj) + conditioning
    half = len(decoder.decoder_layers) // 2
    a_chunk = _weights(decoder.latent_to_hidden, *decoder.decoder_layers[:half], decoder.expand_layer)
    a_token = _weights(*decoder.decoder_layers[half:]) + cast(Tensor, decoder.lm_head_weight).numel()
    half = len(encoder.encoder_layers) // 2
    read = _weights(encoder.squeeze_layer, *encoder.encoder_layers[half:], encoder.hidden_to_latent)
    encoding = read + k * _weights(*encoder.encoder_layers[:half])
    return 2.0 * step, 2.0 * (_weights(head) - conditioning), 2.0 * (a_chunk + k * a_token), 2.0 * encoding
