import json

import pytest
import torch

import calm
from calm import CalmError
from calm.hub.records import read_record
from calm.modeling.autoencoder import Autoencoder
from calm.modeling.config import AutoencoderConfig
from calm.training import recipe, tasks

from .conftest import baseline_settings, lm_settings, log


def test_a_run_starts_with_the_weights_of_a_model(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    first = calm.load(tasks.train("lm", settings), device="cpu").model.state_dict()
    again = {**settings, "out": str(tmp_path / "again"), "init_from": str(tmp_path / "run" / "best")}
    initial = tasks.make("lm", again).lm.model.state_dict()
    assert all(torch.equal(initial[name], tensor) for name, tensor in first.items())
    deeper = {**again, "model": {**settings["model"], "num_mlp_layers": 3}}
    model, shallow = tasks.make("lm", deeper).lm.calm, tasks.make("lm", again).lm.calm
    hidden, noise = torch.randn(5, model.config.hidden_size), torch.rand(5, model.config.noise_size)
    assert len(model.generative_head.mlp_blocks) == 3 and len(shallow.generative_head.mlp_blocks) < 3
    assert torch.equal(model.generative_head(hidden, noise), shallow.generative_head(hidden, noise))
    narrower = {**again, "model": {**settings["model"], "intermediate_size": 8}}
    with pytest.raises(CalmError, match="another shape"):
        tasks.make("lm", narrower)


def test_a_run_starts_with_a_model_of_half_the_width(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    narrow = calm.load(tasks.train("lm", settings), device="cpu").calm.eval()
    shape = {**settings["model"], "hidden_size": 64, "num_attention_heads": 4}
    wide = {**settings, "out": str(tmp_path / "wide"), "init_from": str(tmp_path / "run" / "best"), "model": shape}
    task = tasks.make("lm", wide)
    model, ids = task.lm.calm.eval(), torch.from_numpy(task.batch(0))
    with torch.no_grad():
        hidden, expected = model(ids, use_cache=False), narrow(ids, use_cache=False)
        assert torch.allclose(hidden, expected.repeat(1, 1, 2), atol=1e-4)  # each unit is duplicated
        noise = torch.rand(3, *hidden.shape[:2], model.config.noise_size)
        draws = narrow.generative_head(expected, noise)
        assert torch.allclose(model.generative_head(hidden, noise), draws, atol=1e-4)
    best = tasks.train("lm", wide)
    with torch.no_grad():
        one, other = calm.load(best, device="cpu").calm(ids, use_cache=False).chunk(2, -1)
    assert (one - other).abs().max() > 1e-3  # the copies diverge in training
    with pytest.raises(CalmError, match="another shape"):
        tasks.make("lm", {**wide, "model": {**shape, "hidden_size": 48}})


@pytest.mark.parametrize("head", ["diffusion", "flow", "energy"])
def test_a_new_head_starts_at_random_on_the_backbone_of_a_model(tmp_path, tokenizer_folder, autoencoder, head):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=2)
    first = calm.load(tasks.train("lm", settings), device="cpu").calm
    changes = {"out": str(tmp_path / head), "init_from": str(tmp_path / "run" / "best"), "token_loss_weight": 0.0}
    shape = {**settings["model"], "head": head}
    other = {**settings, **changes, "new_head": True, "joint_from": 1.0, "model": shape}
    model = tasks.make("lm", other).lm.calm
    if head == first.head:
        own, before = (m.generative_head.noise_embd.weight for m in (model, first))
        assert not torch.allclose(own, before)
    for name, tensor in first.transformer.state_dict().items():
        assert torch.equal(model.transformer.state_dict()[name], tensor), name
    trained = calm.load(tasks.train("lm", other), device="cpu").calm
    assert torch.equal(trained.embed_proj[0].weight, first.embed_proj[0].weight)  # the backbone was frozen
    assert trained.head == head and all(head in row for row in log(tmp_path / head) if "loss" in row)


def test_a_run_starts_with_the_backbone_of_another_chunk_size(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    first = calm.load(tasks.train("lm", settings), device="cpu").calm
    chunks = AutoencoderConfig(**{**first.config.autoencoder, "patch_size": 2 * first.config.patch_size})
    Autoencoder(chunks).save_pretrained(tmp_path / "wider")
    settings_k8 = {
        **settings,
        "out": str(tmp_path / "k8"),
        "autoencoder": str(tmp_path / "wider"),
        "init_backbone_from": str(tmp_path / "run" / "best"),
    }
    model = tasks.make("lm", settings_k8).lm.calm
    assert model.config.patch_size == 2 * first.config.patch_size
    for name, tensor in first.transformer.state_dict().items():
        assert torch.equal(model.transformer.state_dict()[name], tensor), name
    tasks.train("lm", settings_k8)
    assert calm.load(tmp_path / "k8" / "best", device="cpu").chunk_size == 2 * first.config.patch_size
    assert read_record(tmp_path / "k8")["init_backbone_from"]["model"] == "best"
    with pytest.raises(CalmError, match="it has another shape"):
        tasks.make("lm", {**settings_k8, "model": {**settings["model"], "intermediate_size": 8}})


def test_a_run_starts_with_the_backbone_of_a_token_by_token_model(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    token_by_token = tasks.make("baseline", baseline_settings(tmp_path, tokenizer_folder, autoencoder)).lm
    token_by_token.model.save_pretrained(tmp_path / "token-by-token")
    token_by_token.tokenizer.save_pretrained(tmp_path / "token-by-token")
    single = AutoencoderConfig(**{**Autoencoder.from_pretrained(autoencoder).config.to_dict(), "patch_size": 1})
    Autoencoder(single).save_pretrained(tmp_path / "single")
    changes = {"autoencoder": str(tmp_path / "single"), "init_backbone_from": str(tmp_path / "token-by-token")}
    task = tasks.make("lm", {**settings, **changes})
    ids = torch.from_numpy(task.batch(0))
    with torch.no_grad():
        initialized = task.lm.calm(ids, use_cache=False)
        hidden = token_by_token.backbone(ids, use_cache=False).last_hidden_state
    assert torch.cosine_similarity(initialized, hidden, dim=-1).mean() > 0.95  # nearly the same hidden states as before


def test_a_run_starts_from_a_bundled_model_without_other_files(tmp_path):
    settings = recipe.read("story-k4", changes=[
        'init_from = "story-k4"', 'tokenizer = "story-k4"', 'autoencoder = "story-k4"', 'sources = ["storyland:0:20"]',
        'valid = ["storyland:10000000:1"]', "steps = 1", "batch_size = 1", 'mixed_precision = "no"',
        f'out = "{tmp_path / "run"}"', f'data = "{tmp_path / "data"}"', "joint_from = 0.0",
        "head_warmup_from = 0.0", "stream_workers = 0", "continuations = 0", "head_positions = 0",
    ])  # fmt: skip
    further, before = calm.load(tasks.train("lm", settings), "cpu"), calm.load("story-k4", "cpu")
    for (name, new), old in zip(further.calm.state_dict().items(), before.calm.state_dict().values()):
        assert torch.equal(new, old) == name.startswith("ae_model"), name


def test_an_autoencoder_starts_with_the_weights_of_another(tmp_path, autoencoder):
    settings = {**json.loads((autoencoder.parent / "settings.json").read_text()), "out": str(tmp_path / "run")}
    task = tasks.make("autoencoder", {**settings, "init_from": str(autoencoder)})
    for name, tensor in Autoencoder.from_pretrained(autoencoder).state_dict().items():
        assert torch.equal(task.model.state_dict()[name], tensor), name
    wider = {**settings["model"], "hidden_size": 48}
    with pytest.raises(CalmError, match="another shape"):
        tasks.make("autoencoder", {**settings, "init_from": str(autoencoder), "model": wider})
