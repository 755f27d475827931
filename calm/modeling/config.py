"""Configurations with the official field names; ``patch_size`` is K, the number of tokens per chunk."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig


class AutoencoderConfig(PretrainedConfig):
    """The chunk autoencoder (paper, section 2). The defaults are those of the official model with 75 M parameters.

    ``kl_clamp`` is the floor of the KL divergence per latent dimension, in nats. ``ae_dropout`` is the share of input
    tokens and of latent dimensions that training drops.
    """

    model_type = "calm_autoencoder"

    def __init__(
        self,
        vocab_size: int = 128257,
        patch_size: int = 4,
        latent_size: int = 128,
        hidden_size: int = 512,
        intermediate_size: int = 1280,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 2,
        hidden_act: str = "silu",
        mlp_bias: bool = False,
        rms_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        ae_dropout: float = 0.15,
        kl_clamp: float = 0.5,
        kl_weight: float = 1e-3,
        pad_token_id: int | None = 128256,
        bos_token_id: int | None = 128000,
        eos_token_id: int | None = 128001,
        **kwargs: Any,
    ):
        self.vocab_size = vocab_size
        self.patch_size = patch_size
        self.latent_size = latent_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_encoder_layers = num_encoder_layers
        self.num_decoder_layers = num_decoder_layers
        self.hidden_act = hidden_act
        self.mlp_bias = mlp_bias
        self.rms_norm_eps = rms_norm_eps
        self.initializer_range = initializer_range
        self.ae_dropout = ae_dropout
        self.kl_clamp = kl_clamp
        self.kl_weight = kl_weight
        # The model ties the embedding under the official names. The switch of transformers expects other names.
        kwargs.pop("tie_word_embeddings", None)
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=True,
            **kwargs,
        )


class CalmConfig(PretrainedConfig):
    """The next-vector model: Llama fields for the backbone, then those of the head. The defaults are CALM-M's.

    ``head`` is energy, diffusion or flow, and ``num_mlp_layers`` counts the head's blocks. The energy head reads
    ``noise_size`` noise dimensions. Diffusion and flow heads evaluate their network ``num_sampling_steps`` times in a
    draw, 100 and 20 times by default. Each vector that a diffusion head predicts on the way is limited to
    [-``latent_bound``, ``latent_bound``]; None, as in the official code, for no limit. The training loss takes
    ``num_samples`` (N) samples at a position, and the energy score the exponent ``beta``. ``text_start`` is
    "begin-of-text" for models whose training texts start with that token (``calm.hub.text_format``). ``autoencoder``
    holds the fields of the ``AutoencoderConfig``; official files leave it out and name a second folder in ``ae_path``
    instead, which ``calm.load`` resolves.
    """

    model_type = "calm"

    def __init__(
        self,
        vocab_size: int = 128257,
        patch_size: int = 4,
        latent_size: int = 128,
        hidden_size: int = 1024,
        intermediate_size: int = 2752,
        num_hidden_layers: int = 16,
        num_attention_heads: int = 16,
        num_key_value_heads: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 8192,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        rope_scaling: dict | None = None,
        rope_parameters: dict | None = None,
        attention_bias: bool = False,
        attention_dropout: float = 0.0,
        mlp_bias: bool = False,
        head: str = "energy",
        num_mlp_layers: int = 4,
        noise_size: int = 64,
        num_sampling_steps: int | None = None,
        latent_bound: float | None = None,
        num_samples: int = 8,
        beta: float = 1.0,
        text_start: str | None = None,
        ae_path: str | None = None,
        autoencoder: dict | None = None,
        pad_token_id: int | None = 128256,
        bos_token_id: int | None = 128000,
        eos_token_id: int | None = 128001,
        **kwargs: Any,
    ):
        self.vocab_size = vocab_size
        self.patch_size = patch_size
        self.latent_size = latent_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        # Official files have two fields, theta and scaling. transformers keeps both in one dictionary.
        self.rope_parameters = rope_parameters or {
            "rope_type": "default",
            "rope_theta": rope_theta,
            **(rope_scaling or {}),
        }
        self.attention_bias = attention_bias
        self.attention_dropout = attention_dropout
        self.mlp_bias = mlp_bias
        self.head = head
        self.num_mlp_layers = num_mlp_layers
        self.noise_size = noise_size
        self.num_sampling_steps = num_sampling_steps
        self.latent_bound = latent_bound
        self.num_samples = num_samples
        self.beta = beta
        self.text_start = text_start
        self.ae_path = ae_path
        self.autoencoder = autoencoder
        kwargs.pop("tie_word_embeddings", None)
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=True,
            **kwargs,
        )

    def autoencoder_config(self) -> AutoencoderConfig:
        """The configuration of ``ae_model``. Raises ValueError if there is none."""
        if self.autoencoder is None:
            raise ValueError("the configuration holds no autoencoder; load the model with calm.load, which finds it")
        return AutoencoderConfig(**self.autoencoder)


AutoConfig.register("calm_autoencoder", AutoencoderConfig)
AutoConfig.register("calm", CalmConfig)
