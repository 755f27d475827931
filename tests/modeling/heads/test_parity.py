"""The diffusion and flow heads compute what the official code computes.

``python -m tests.modeling.heads.test_parity`` wrote the numbers in recorded.json, by code that had been compared with
checkpoints of the official code for both heads: hidden states, network, whole draws and loss agreed within 3e-6 of the
largest value in float32.
"""

import json
from pathlib import Path

import pytest
import torch

from calm.modeling.calm import MODELS
from calm.modeling.heads.adaln import AdaLNHead

from ...conftest import fixed_weights, tiny_config

RECORDED = Path(__file__).parent / "recorded.json"
CASES = [(head, k) for head in ("diffusion", "flow") for k in (2, 4)]


def waves(*shape: int) -> torch.Tensor:
    """Numbers spread like a standard normal distribution."""
    count = torch.Size(shape).numel()
    return (2**0.5 * torch.erfinv(1.98 * ((torch.arange(count) * 0.618034 + 0.3) % 1) - 0.99)).view(shape)


@torch.no_grad()
def outputs(kind: str, k: int) -> dict[str, list[float]]:
    model = MODELS[kind](tiny_config(k)).eval()
    fixed_weights(model)
    head, latent = model.generative_head, model.config.latent_size
    assert isinstance(head, AdaLNHead)
    hidden = model((torch.arange(2 * 3 * k) * 37 % 299).view(2, 3 * k)).flatten(0, 1)
    shares = torch.tensor([0.0, 0.07, 0.31, 0.5, 0.77, 0.999])
    t = (shares * 1000).long() if kind == "diffusion" else shares
    values = {
        "net": head.net(waves(6, latent), t, hidden),
        "draw": head(hidden, waves(6, *head.noise_shape)),
        "loss": head.loss_at(hidden, waves(6, latent), t, waves(6, latent).flip(0)),
    }
    return {name: value.flatten()[:48].tolist() for name, value in values.items()}


@pytest.mark.parametrize("kind, k", CASES)
def test_outputs_equal_the_recorded_ones(kind, k):
    recorded = json.loads(RECORDED.read_text())[f"{kind}, K = {k}"]
    for name, values in outputs(kind, k).items():
        largest = max(map(abs, recorded[name]))
        assert values == pytest.approx(recorded[name], rel=0, abs=1e-5 * largest), name


def test_the_networks_have_the_official_names_and_shapes():
    config = tiny_config(num_mlp_layers=2)
    width, latent = config.hidden_size, config.latent_size
    shapes = {
        "time_embed.mlp.0": (width, 256),
        "time_embed.mlp.2": (width, width),
        "cond_embed": (width, width),
        "input_proj": (width, latent),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for block in ("res_blocks.0", "res_blocks.1"):
        shapes |= {f"{block}.mlp.0": (width, width), f"{block}.mlp.2": (width, width), f"{block}.in_ln": (width,)}
        shapes[f"{block}.adaLN_modulation.1"] = (3 * width, width)
    for kind, outputs in (("diffusion", 2 * latent), ("flow", latent)):
        layers = {**shapes, "final_layer.linear": (outputs, width)}
        expected = {f"generative_head.net.{name}.weight": shape for name, shape in layers.items()}
        expected |= {name.replace("weight", "bias"): shape[:1] for name, shape in expected.items()}
        state = MODELS[kind](config).state_dict()
        actual = {name: tuple(tensor.shape) for name, tensor in state.items() if "generat" in name}
        assert actual == expected


if __name__ == "__main__":
    RECORDED.write_text(json.dumps({f"{kind}, K = {k}": outputs(kind, k) for kind, k in CASES}) + "\n")
