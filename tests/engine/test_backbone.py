import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from calm.engine import Backend
from calm.engine.backbone import CpuBackboneStep, make_backbone_step

from ..conftest import fixed_weights


def make_backbone(**changes) -> LlamaModel:
    fields = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    fields |= {"num_attention_heads": 4, "max_position_embeddings": 512}
    model = LlamaModel(LlamaConfig(**{**fields, **changes})).eval()
    fixed_weights(model)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"head_dim": 16},
        {"attention_bias": True, "mlp_bias": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
    ],
)  # fmt: skip
@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_the_cached_backbone_computes_what_transformers_computes(changes, compiled):
    model = make_backbone(**changes)
    rows = [torch.sin(torch.arange(n * 32.0)).view(n, 32) * (1 + n % 3) for n in (300, 3, 70)]
    expected = [model(inputs_embeds=row[None], use_cache=False).last_hidden_state[0] for row in rows]
    cached = make_backbone_step(model, slots=4, backend=None if compiled else Backend.PYTORCH)
    assert isinstance(cached, CpuBackboneStep) == compiled
    done = [0, 0, 0]

    def step(counts: dict[int, int]) -> None:
        """Computes the next positions of some slots, and compares the last state of each with that of transformers."""
        parts = [rows[slot][done[slot] : done[slot] + count] for slot, count in counts.items()]
        states = cached.step(list(counts), list(counts.values()), torch.cat(parts))
        for state, (slot, count) in zip(states, counts.items()):
            done[slot] += count
            assert torch.allclose(state, expected[slot][done[slot] - 1], atol=1e-5)

    step({1: 1})
    step({2: 5, 1: 1, 0: 290})  # two sequences start, one of them beyond the first reservation of the cache
    for _ in range(10):
        step({slot: 1 for slot in range(3) if done[slot] < len(rows[slot])})
    assert done == [300, 3, 15]
    cached.reset(2)
    done[2] = 0
    step({2: 40})


def test_fused_weights_are_the_models_own():
    model = make_backbone(num_key_value_heads=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cached = make_backbone_step(model, slots=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.layers[0].self_attn.k_proj.weight.data.zero_()
    assert not cached.layers[0].qkv.weight[32:48].any()  # they share memory
