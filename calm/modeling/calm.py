"""The next-vector model: Llama backbone, token-grounded input, energy head, frozen autoencoder (paper, section 3)."""

from torch import Tensor, nn
from transformers import AutoModel, LlamaConfig, LlamaModel, PreTrainedModel

from .autoencoder import Autoencoder
from .config import CalmConfig
from .heads.energy import EnergyHead


def backbone_config(config: CalmConfig) -> LlamaConfig:
    """The Llama part of a CALM configuration; positions count chunks."""
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        hidden_act=config.hidden_act,
        max_position_embeddings=config.max_position_embeddings,
        initializer_range=config.initializer_range,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=config.rope_parameters,
        attention_bias=config.attention_bias,
        attention_dropout=config.attention_dropout,
        mlp_bias=config.mlp_bias,
        pad_token_id=None,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
    )


class EnergyTransformer(PreTrainedModel):
    """CALM with the energy head. The head has two official names; they are one module."""

    config_class = CalmConfig
    base_model_prefix = "calm"
    supports_gradient_checkpointing = False
    _supports_sdpa = True
    _tied_weights_keys = {
        "ae_model.decoder.lm_head_weight": "ae_model.encoder.embed_tokens.weight",
        "mlp_generator": "generative_head",
    }

    def __init__(self, config: CalmConfig):
        super().__init__(config)
        width = config.hidden_size
        self.transformer = LlamaModel(backbone_config(config))
        self.embed_proj = nn.Sequential(
            nn.Linear(config.patch_size * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
            nn.LayerNorm(width, eps=1e-6),
        )
        self.generative_head = EnergyHead(config)
        self.mlp_generator = self.generative_head
        self.ae_model = Autoencoder(config.autoencoder_config())
        self.ae_model.requires_grad_(False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer.embed_tokens

    def embed(self, ids: Tensor) -> Tensor:
        """ids [B, T, K] -> backbone inputs [B, T, D]: K token embeddings, concatenated and squeezed (section 3.3.3)."""
        return self.embed_proj(self.transformer.embed_tokens(ids).flatten(-2))

    def forward(self, input_ids: Tensor, **backbone: object) -> Tensor:
        """input_ids [B, T * K] -> hidden states [B, T, D]; position t has seen chunks 0..t and predicts chunk t + 1.

        Further arguments go to transformers' ``LlamaModel`` (``past_key_values``, ``position_ids``, ...).
        """
        chunks = input_ids.unflatten(-1, (-1, self.config.patch_size))
        return self.transformer(inputs_embeds=self.embed(chunks), **backbone).last_hidden_state


AutoModel.register(CalmConfig, EnergyTransformer)
