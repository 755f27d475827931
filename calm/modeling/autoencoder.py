"""The chunk autoencoder: K token ids -> posterior over one latent vector -> K token ids (paper, section 2).

Shapes: B batch (any number of leading dimensions), K tokens per chunk, L latent, H hidden, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers.activations import ACT2FN

from .config import AutoencoderConfig
from .losses import autoencoder_loss, clamped_kl

DECODED_AT_ONCE = 512
"""Vectors that ``Autoencoder.decode`` decodes at a time: with K = 4 and 128,257 tokens, 1 GB of logits in float32."""


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)): [..., H] -> [..., H]."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class AutoencoderLayer(nn.Module):
    """x + MLP(RMSNorm(x)). There is no attention: only the squeeze layer combines tokens."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.mlp = GatedMLP(config)
        self.layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.layernorm(x))


class Encoder(nn.Module):
    """Half of the layers on each of the K tokens, one squeeze layer, then the other half on the chunk."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder_layers = nn.ModuleList(AutoencoderLayer(config) for _ in range(config.num_encoder_layers))
        self.squeeze_layer = nn.Linear(config.patch_size * config.hidden_size, config.hidden_size)
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_to_latent = nn.Linear(config.hidden_size, 2 * config.latent_size)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, K] -> posterior parameters [B, 2L]: mean, then log of the standard deviation."""
        x = self.embed_tokens(ids)
        half = len(self.encoder_layers) // 2
        for layer in self.encoder_layers[:half]:
            x = layer(x)
        x = self.squeeze_layer(x.flatten(-2))
        for layer in self.encoder_layers[half:]:
            x = layer(x)
        return self.hidden_to_latent(self.norm(x))


class Decoder(nn.Module):
    """The encoder in reverse. Its output matrix is the encoder's embedding."""

    def __init__(self, config: AutoencoderConfig, embedding: Tensor):
        super().__init__()
        self.patch_size = config.patch_size
        self.lm_head_weight = embedding
        self.latent_to_hidden = nn.Linear(config.latent_size, config.hidden_size)
        self.decoder_layers = nn.ModuleList(AutoencoderLayer(config) for _ in range(config.num_decoder_layers))
        self.expand_layer = nn.Linear(config.hidden_size, config.patch_size * config.hidden_size)
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def states(self, latent: Tensor) -> Tensor:
        """latent [B, L] -> the normalised state of each token [B, K, H], from which the vocabulary's logits follow."""
        x = self.latent_to_hidden(latent.reshape(-1, latent.shape[-1]))
        half = len(self.decoder_layers) // 2
        for layer in self.decoder_layers[:half]:
            x = layer(x)
        x = self.expand_layer(x).view(-1, x.shape[-1])
        for layer in self.decoder_layers[half:]:
            x = layer(x)
        return self.norm(x).view(*latent.shape[:-1], self.patch_size, -1)

    def forward(self, latent: Tensor) -> Tensor:
        """latent [B, L] -> logits [B, K, V]."""
        return F.linear(self.states(latent), self.lm_head_weight)


class Autoencoder(PreTrainedModel):
    """The autoencoder, with the official names of its weights."""

    config_class = AutoencoderConfig
    base_model_prefix = "autoencoder"
    _tied_weights_keys = {"decoder.lm_head_weight": "encoder.embed_tokens.weight"}

    def __init__(self, config: AutoencoderConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.encoder.embed_tokens.weight)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids [B, K] -> mean [B, L] and standard deviation [B, L] of the posterior (paper, section 2.2)."""
        mean, log_std = self.encoder(ids).chunk(2, dim=-1)
        return mean, log_std.exp()

    def decode(self, latent: Tensor) -> Tensor:
        """latent [B, L] -> token ids [B, K], the argmax over the vocabulary.

        Only ``DECODED_AT_ONCE`` vectors have their logits in memory at a time.
        """
        parts = latent.reshape(-1, latent.shape[-1]).split(DECODED_AT_ONCE)
        ids = torch.cat([self.decoder(part).max(-1).indices for part in parts])  # argmax takes twice the time on a CPU
        return ids.view(*latent.shape[:-1], -1)

    def drop_latent(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """latent [B, L] with dimensions dropped with probability ``ae_dropout`` while the module is in training mode,
        and the others scaled up to the same mean."""
        if not self.training:
            return latent
        keep = torch.rand(latent.shape, generator=generator, device=latent.device) >= self.config.ae_dropout
        return latent * keep / (1 - self.config.ae_dropout)

    def forward(self, input_ids: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The training objective (paper, eqs. 1 to 4): reconstruction plus the clamped KL divergence.

        input_ids [B, K] -> loss (scalar, nats per chunk), logits [B, K, V], kl (nats per chunk). In training mode,
        input tokens and latent dimensions are dropped with probability ``ae_dropout``.
        """
        config = self.config
        visible = input_ids
        if self.training:
            keep = torch.rand(input_ids.shape, generator=generator, device=input_ids.device) >= config.ae_dropout
            visible = input_ids * keep  # the official code zeroes the id, not the embedding
        mean, log_std = self.encoder(visible).chunk(2, dim=-1)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        logits = self.decoder(self.drop_latent(mean + log_std.exp() * noise, generator))
        kl = clamped_kl(mean, log_std, config.kl_clamp)
        return {"loss": autoencoder_loss(logits, input_ids, kl, config.kl_weight), "logits": logits, "kl": kl}


AutoModel.register(AutoencoderConfig, Autoencoder)
