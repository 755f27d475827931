import pytest
from accelerate import Accelerator
from accelerate.utils import DistributedType

from calm import CalmError
from calm.training import tasks
from calm.training.optimizers import make, schedule, set_learning_rates
from calm.training.settings import LoopSettings

from .conftest import lm_settings


def test_the_schedule_warms_up_and_falls():
    cosine = LoopSettings(out="x", steps=1000, warmup_steps=10, schedule="cosine")
    shares = [schedule(cosine, step) for step in range(1000)]
    assert shares[0] == pytest.approx(0.1, rel=0.01) and max(shares) == pytest.approx(1, rel=0.01)
    assert shares[-1] == pytest.approx(0.05, abs=0.001)
    linear = LoopSettings(out="x", steps=1000, warmup_steps=10, schedule="linear")
    assert [schedule(linear, step) for step in (4, 500, 999)] == pytest.approx([0.498, 0.5, 0.001])
    assert schedule(LoopSettings(out="x", steps=1000, warmup_steps=10), 900) == 1.0


def test_muon_trains_the_matrices_of_layers_and_blocks(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, muon_learning_rate=1e-2)
    objective = tasks.make("lm", settings).objective
    adamw, muon = make(objective, LoopSettings(out="x", muon_learning_rate=1e-2, learning_rate=1e-3))
    names = {p: name for name, p in objective.named_parameters()}
    by_muon = {names[p] for group in muon.param_groups for p in group["params"]}
    by_adamw = {names[p] for group in adamw.param_groups for p in group["params"]}
    assert not by_muon & by_adamw and by_muon | by_adamw == {n for p, n in names.items() if p.requires_grad}
    assert {"model.transformer.layers.0.self_attn.q_proj.weight", "model.embed_proj.0.weight"} <= by_muon
    assert any("mlp_blocks.0.linears.0.weight" in name for name in by_muon)
    assert {"model.transformer.embed_tokens.weight", "model.transformer.norm.weight"} <= by_adamw
    assert any("noise_embd.weight" in name for name in by_adamw)
    set_learning_rates(
        [adamw, muon], LoopSettings(out="x", steps=10, warmup_steps=2, muon_learning_rate=1e-2, learning_rate=1e-3), 0
    )
    assert [o.param_groups[0]["lr"] for o in (adamw, muon)] == pytest.approx([5e-4, 5e-3])


@pytest.mark.parametrize("setting", ["muon_learning_rate", "ema_decay"])
def test_what_needs_whole_weights_is_refused_with_shards(tmp_path, tokenizer_folder, autoencoder, monkeypatch, setting):
    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.FSDP))
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, **{setting: 1e-2})
    with pytest.raises(CalmError, match=f"set {setting}=0"):
        tasks.train("lm", settings)
