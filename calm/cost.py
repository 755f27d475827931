"""What a token costs a model in floating-point operations."""

from typing import cast

from torch import Tensor, nn

from .heads import HeadBlock
from .loading import LanguageModel


def _weights(*modules: nn.Module) -> int:
    """How many numbers their matrices hold."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.ndim > 1)


def flops_per_token(lm: LanguageModel, draws: float = 1.0) -> float:
    """Floating-point operations of one generated token: two for each weight that works for it.

    A CALM reads and conditions once a step of K tokens, then draws and decodes ``draws`` vectors. Norms, activations
    and attention to earlier positions are not counted.
    """
    if not lm.is_calm:
        return 2.0 * (_weights(lm.llama.model.layers) + lm.llama.lm_head.weight.numel())
    model, k = lm.calm, lm.chunk_size
    head, decoder = model.generative_head, model.ae_model.decoder
    half = len(decoder.decoder_layers) // 2
    conditioning = _weights(head.hidden_embd) + sum(
        cast(HeadBlock, block).mix.weight.numel() // 2 for block in head.mlp_blocks
    )
    step = _weights(model.transformer.layers, model.embed_proj) + conditioning
    a_chunk = _weights(decoder.latent_to_hidden, *decoder.decoder_layers[:half], decoder.expand_layer)
    a_token = _weights(*decoder.decoder_layers[half:]) + cast(Tensor, decoder.lm_head_weight).numel()
    draw = _weights(head) - conditioning + a_chunk + k * a_token
    return 2.0 * (step + draws * draw) / k
