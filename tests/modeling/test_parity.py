"""The modules compute what the official code computes.

``python -m tests.modeling.test_parity`` wrote the numbers in recorded.json. The code had been compared with the
official implementation on a checkpoint in the official format before: all outputs agreed to 2e-7 in float32.
"""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from calm.modeling.autoencoder import Autoencoder
from calm.modeling.calm import EnergyTransformer
from calm.modeling.config import AutoencoderConfig, CalmConfig

from ..conftest import fixed_weights, tiny_config

RECORDED = Path(__file__).parent / "recorded.json"


def model_and_ids(k: int) -> tuple[EnergyTransformer, torch.Tensor]:
    model = EnergyTransformer(tiny_config(k)).eval()
    fixed_weights(model)
    return model, (torch.arange(2 * 3 * k) * 37 % 299).view(2, 3 * k)


@torch.no_grad()
def outputs(k: int) -> dict[str, list[float]]:
    model, ids = model_and_ids(k)
    chunks = ids.unflatten(-1, (-1, k))
    mean, std = model.ae_model.encode(chunks)
    hidden = model(ids)
    noise = torch.sin(torch.arange(2 * 3 * 8) * 1.7).view(2, 3, 8) / 2
    values = {
        "mean": mean,
        "std": std,
        "logits": model.ae_model.decoder(mean)[..., :5],
        "hidden": hidden,
        "head": model.generative_head(hidden, noise),
        "decoded": model.ae_model.decode(mean).float(),
    }
    return {name: value.flatten()[:48].tolist() for name, value in values.items()}


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8, 16])
def test_outputs_equal_the_recorded_values(k):
    recorded = json.loads(RECORDED.read_text())[str(k)]
    computed = outputs(k)
    decoded, expected = (torch.tensor(values.pop("decoded")).long() for values in (computed, recorded))
    for name, values in computed.items():
        assert values == pytest.approx(recorded[name], abs=1e-5), name
    # The largest two logits may differ by less than float32 rounding. The number of threads then decides.
    model, ids = model_and_ids(k)
    with torch.no_grad():
        mean, _ = model.ae_model.encode(ids.unflatten(-1, (-1, k)))
        logits = model.ae_model.decoder(mean).flatten(0, -2)[: len(decoded)]
    best = logits.max(-1).values
    for tokens in (decoded, expected):
        assert torch.allclose(logits.gather(1, tokens[:, None])[:, 0], best, rtol=0, atol=1e-5)


def test_state_dict_has_the_official_names():
    names = set(EnergyTransformer(tiny_config()).state_dict())
    for name in (
        "transformer.embed_tokens.weight",
        "transformer.layers.1.self_attn.q_proj.weight",
        "transformer.layers.0.mlp.gate_proj.weight",
        "transformer.norm.weight",
        "embed_proj.0.weight",
        "embed_proj.2.bias",
        "embed_proj.3.weight",
        "generative_head.noise_embd.weight",
        "generative_head.mlp_blocks.1.linears.4.bias",
        "generative_head.final_layer.linears.2.weight",
        "mlp_generator.hidden_embd.weight",
        "mlp_generator.norm_noise.bias",
        "ae_model.encoder.encoder_layers.1.mlp.down_proj.weight",
        "ae_model.encoder.squeeze_layer.bias",
        "ae_model.encoder.hidden_to_latent.weight",
        "ae_model.decoder.lm_head_weight",
        "ae_model.decoder.latent_to_hidden.bias",
        "ae_model.decoder.expand_layer.weight",
        "ae_model.decoder.norm.weight",
    ):
        assert name in names


def test_round_trip_through_transformers(tmp_path):
    model = EnergyTransformer(tiny_config())
    fixed_weights(model)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert isinstance(AutoConfig.from_pretrained(tmp_path), CalmConfig)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is EnergyTransformer
    assert again.mlp_generator is again.generative_head
    assert again.ae_model.decoder.lm_head_weight is again.ae_model.encoder.embed_tokens.weight
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_autoencoder_round_trip_through_transformers(tmp_path):
    model = Autoencoder(AutoencoderConfig(**tiny_config().autoencoder))
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is Autoencoder
    assert torch.equal(model.encoder.embed_tokens.weight, again.decoder.lm_head_weight)


def test_forward_passes_with_and_without_cache_agree():
    from transformers import DynamicCache

    model = EnergyTransformer(tiny_config()).eval()
    fixed_weights(model)
    ids = (torch.arange(40) * 37 % 299).view(1, 40)
    cache, parts = DynamicCache(), []
    with torch.no_grad():
        for chunk in ids.split(4, dim=1):
            parts.append(model(chunk, past_key_values=cache, use_cache=True))
        assert torch.allclose(torch.cat(parts, 1), model(ids), atol=1e-5)


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({k: outputs(k) for k in (1, 2, 3, 4, 8, 16)}))
