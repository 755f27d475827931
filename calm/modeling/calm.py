"""The next-vector model: Llama backbone, token-grounded input, generative head, frozen autoencoder (paper, section 3).

The official code has a model class for each head. Here these classes differ in the head alone, which ``head_class``
in ``calm/modeling/heads`` chooses.
"""

from typing import ClassVar

from torch import Tensor, nn
from transformers import AutoModel, LlamaConfig, LlamaModel, PreTrainedModel, initialization

from .autoencoder import Autoencoder
from .config import CalmConfig
from .heads import GenerativeHead, head_class
from .heads.adaln import ZeroLinear
from .heads.energy import EnergyHead


def backbone_config(config: CalmConfig) -> LlamaConfig:
    """The Llama part of a CALM configuration. Its positions are chunks."""
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


TIED_EMBEDDING = {"ae_model.decoder.lm_head_weight": "ae_model.encoder.embed_tokens.weight"}


class CalmModel(PreTrainedModel):
    """A CALM. Each head has a subclass, which sets ``config.head``."""

    config_class = CalmConfig
    base_model_prefix = "calm"
    supports_gradient_checkpointing = False
    _supports_sdpa = True
    _tied_weights_keys = TIED_EMBEDDING

    head: ClassVar[str]
    """The name of the head, a key of ``calm.modeling.heads.HEADS``."""
    generative_head: GenerativeHead

    def __init__(self, config: CalmConfig):
        config.head = self.head
        super().__init__(config)
        width = config.hidden_size
        self.transformer = LlamaModel(backbone_config(config))
        self.embed_proj = nn.Sequential(
            nn.Linear(config.patch_size * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
            nn.LayerNorm(width, eps=1e-6),
        )
        self._add_head(head_class(self.head)(config))
        self.ae_model = Autoencoder(config.autoencoder_config())
        self.ae_model.requires_grad_(False)
        self.post_init()

    def _add_head(self, head: GenerativeHead) -> None:
        self.generative_head = head

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ZeroLinear):
            initialization.zeros_(module.weight)

    def get_input_embeddings(self) -> nn.Module:
        return self.transformer.embed_tokens

    def embed(self, ids: Tensor) -> Tensor:
        """ids [B, T, K] -> backbone inputs [B, T, D]: K token embeddings, concatenated and squeezed (section 3.3.3)."""
        return self.embed_proj(self.transformer.embed_tokens(ids).flatten(-2))

    def forward(self, input_ids: Tensor, **backbone: object) -> Tensor:
        """input_ids [B, T * K] -> hidden states [B, T, D]; position t reads chunks 0..t and predicts chunk t + 1.

        Further arguments go to transformers' ``LlamaModel`` (``past_key_values``, ``position_ids``, ...).
        """
        chunks = input_ids.unflatten(-1, (-1, self.config.patch_size))
        return self.transformer(inputs_embeds=self.embed(chunks), **backbone).last_hidden_state


class EnergyTransformer(CalmModel):
    """CALM with the energy head. Official files store the head under two names, which are one module here."""

    head = "energy"
    generative_head: EnergyHead
    _tied_weights_keys = {**TIED_EMBEDDING, "mlp_generator": "generative_head"}

    def _add_head(self, head: GenerativeHead) -> None:
        super()._add_head(head)
        self.mlp_generator = head


class DiffusionTransformer(CalmModel):
    """CALM with the diffusion head."""

    head = "diffusion"


class FlowTransformer(CalmModel):
    """CALM with the flow-matching head."""

    head = "flow"


MODELS: dict[str, type[CalmModel]] = {
    model.head: model for model in (EnergyTransformer, DiffusionTransformer, FlowTransformer)
}
"""The model class of each head, under the head's name."""


def model_class(head: str) -> type[CalmModel]:
    """The model class of a head, given the head's name. Raises CalmError for an unknown name."""
    head_class(head)
    return MODELS[head]


AutoModel.register(CalmConfig, tuple(MODELS.values()))  # transformers chooses by the configuration's architectures
