import pytest
import torch

import calm
from calm import CalmError
from calm.modeling.autoencoder import Autoencoder
from calm.modeling.calm import EnergyTransformer
from calm.modeling.config import AutoencoderConfig, CalmConfig
from calm.modeling.losses import distances, energy_score
from calm.storyland.tokens import CHOICE_UNITS
from calm.training import recipe, tasks
from calm.training.objectives import NextTokenObjective, NextVectorObjective, corrupt
from calm.training.settings import AutoencoderSettings, CalmSettings

from .conftest import baseline_settings, lm_settings, log

PUBLISHED = {"calm-m": "371", "calm-l": "735", "calm-xl": "1829"}  # millions of parameters, the autoencoder's apart


def test_the_next_vector_model_trains_and_loads(tmp_path, tokenizer_folder, autoencoder):
    best = tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder))
    lm = calm.load(best, device="cpu")
    assert lm.chunk_size == 4
    assert not any("decoder.state" in name for name in lm.model.state_dict())  # the training aid is not saved
    assert list(calm.generate(lm, "Once", max_new_tokens=8, pool_size=5))
    frozen = calm.load(best, device="cpu").calm.ae_model.state_dict()
    from calm.modeling.autoencoder import Autoencoder

    for name, tensor in Autoencoder.from_pretrained(autoencoder).state_dict().items():
        assert torch.equal(frozen[name], tensor), name


def test_the_baseline_trains_and_loads(tmp_path, tokenizer_folder, autoencoder):
    settings = baseline_settings(tmp_path, tokenizer_folder, autoencoder, copy_init=True, targets_after=". ")
    lm = calm.load(tasks.train("baseline", settings), device="cpu")
    assert lm.chunk_size == 1
    losses = [row["loss"] for row in log(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"continuations": 8}, "'continuations' are drawn during training; set 'stream_workers' to 1 or more"),
        ({"head_positions": 9}, "'head_positions' needs an energy head and 'continuations' of 2 or more"),
        ({"coupled_noise": True}, "'coupled_noise' needs an energy head and 'continuations' of 1 or more"),
        (
            {"coupled_noise": True, "continuations": 2, "head_positions": 9},
            "'coupled_noise' uses all positions; set 'head_positions' to 0",
        ),
        (
            {"coupled_noise": True, "continuations": 2, "stream_workers": 1, "model": {"noise_size": 2}},
            "'coupled_noise' needs at least K noise numbers; set model.noise_size to 4 or more",
        ),
        (
            {"coupled_noise": True, "continuations": 2, "primer_steps": 3, "primer": ["primer:1:9"]},
            "set 'head_warmup_from' so that the head starts after the primer",
        ),
        (
            {"head_warmup_from": 0.5, "joint_from": 0.2},
            "Joint training cannot start before the head learns; set 'joint_from' to 'head_warmup_from' or more",
        ),
        ({"token_loss_until": -0.5}, "'token_loss_until' must be at least 0, not -0.5"),
        ({"targets_after": ". ", "stream_workers": 1}, "'targets_after' needs a token file; set 'stream_workers' to 0"),
    ],
)
def test_settings_that_exclude_each_other_end_in_a_sentence(tmp_path, tokenizer_folder, autoencoder, changes, sentence):
    with pytest.raises(CalmError, match=sentence):
        tasks.make("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, **changes))


def test_samples_can_be_compared_with_the_mean_of_the_posterior(tmp_path, tokenizer_folder, autoencoder):
    """Without posterior samples the target of the energy score is the posterior's mean."""
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, posterior_samples=0, token_loss_weight=0.0)
    task = tasks.make("lm", settings)
    ids = torch.from_numpy(task.batch(0))
    energy = task.objective(ids, 0.0, torch.Generator().manual_seed(3))["energy"]
    model, following = task.lm.calm, ids.unflatten(-1, (-1, 4))[:, 1:]
    generator = torch.Generator().manual_seed(3)
    mean, _ = model.ae_model.encode(following)
    hidden = model(ids[:, :-4], use_cache=False)
    samples = model.generative_head(hidden, model.generative_head.noise((3, *hidden.shape[:2]), hidden, generator))
    assert torch.allclose(energy, energy_score(samples.movedim(0, -2), mean[..., None, :]).mean())


def test_a_run_trains_the_backbone_on_a_primer_then_the_head_then_both(tmp_path, tokenizer_folder, autoencoder):
    changes = {
        "copy_init": True,
        "primer": ["primer:0:20"],
        "primer_steps": 3,
        "head_warmup_from": 0.5,
        "joint_from": 0.7,
        "corruption": 0.1,
    }
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, **changes)
    tasks.train("lm", settings)
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert ["energy" in row for row in rows] == [False] * 3 + [True] * 3
    assert ["cross_entropy" in row for row in rows] == [True] * 3 + [False] * 2 + [False]
    assert (tmp_path / "data" / "text-primer" / "ids.bin").is_file()


def test_a_model_of_fewer_layers_learns_the_hidden_states_of_a_deeper_one(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    teacher = tasks.train("lm", settings)
    whole = calm.load(teacher, device="cpu").model.state_dict()
    changes = {
        "init_from": str(teacher),
        "distil_from": str(teacher),
        "token_loss_weight": 0.0,
        "head_warmup_from": 0.5,
    }
    lean = {**settings, **changes, "out": str(tmp_path / "lean")}
    few = {**lean, "init_layers": [1], "model": {**settings["model"], "num_hidden_layers": 1}}
    for name, tensor in tasks.make("lm", few).lm.model.state_dict().items():
        assert torch.equal(tensor, whole[name.replace("layers.0", "layers.1") if "transformer" in name else name]), name
    trained = calm.load(tasks.train("lm", few), device="cpu").calm
    assert len(trained.transformer.layers) == 1 and not any("teacher" in name for name in trained.state_dict())
    rows = [row for row in log(tmp_path / "lean") if "loss" in row]
    assert ["distance" in row for row in rows] == [True] * 3 + [False] * 3
    assert ["energy" in row for row in rows] == [False] * 3 + [True] * 3
    task = tasks.make("lm", {**lean, "corruption": 0.5})
    ids, layers = torch.from_numpy(task.batch(0)), task.lm.calm.transformer.layers
    assert task.objective(ids, 0.0)["distance"] < 1e-8  # the teacher itself, which reads the same corrupted chunks
    for parameter in layers.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    optimizer, distances = torch.optim.Adam(layers.parameters(), 1e-2), []
    for _ in range(20):
        distances.append(task.objective(ids, 0.0)["loss"])
        optimizer.zero_grad()
        distances[-1].backward()
        optimizer.step()
    assert distances[-1] < distances[0] / 2
    other = Autoencoder(AutoencoderConfig(**{**calm.load(teacher).calm.config.autoencoder, "hidden_size": 16}))
    other.save_pretrained(tmp_path / "other")
    own = tasks.make("lm", {**few, "autoencoder": str(tmp_path / "other")}).lm.calm.ae_model
    assert torch.equal(
        own.encoder.embed_tokens.weight, other.encoder.embed_tokens.weight
    )  # the autoencoder of the recipe
    with pytest.raises(CalmError, match="layers 0 to 1"):
        tasks.make("lm", {**few, "init_layers": [2]})


def test_masked_targets_do_not_count(tiny, tiny_ar):
    lm, ids = tiny(4), torch.arange(24).view(1, 24) + 7
    labels = ids.clone()
    labels[0, 8:12] = labels[0, 17] = -100  # the third chunk, and one token of the fifth
    objective = NextVectorObjective(lm.calm, CalmSettings(out="run", autoencoder="", head_warmup_from=0, joint_from=0))
    objective.decoder = None
    loss = objective(ids, 0.5, torch.Generator().manual_seed(3), labels[:, None])["loss"]
    hidden = lm.calm(ids[:, :-4])[0, [0, 2, 4]]
    mean, std = lm.calm.ae_model.encode(ids.view(6, 4)[[1, 3, 5]])
    samples, generator = objective.settings.posterior_samples, torch.Generator().manual_seed(3)
    assert torch.allclose(loss, lm.calm.generative_head.loss(hidden, mean, std, samples, generator).mean())
    expected = tiny_ar.llama(ids, labels=labels).loss
    assert torch.allclose(NextTokenObjective(tiny_ar.llama)(ids, 0.5, labels=labels[:, None])["loss"], expected)
    nothing = torch.full_like(ids, -100)[:, None]  # a prompt that is longer than the rows
    losses = [model(ids, 0.5, labels=nothing)["loss"] for model in (objective, NextTokenObjective(tiny_ar.llama))]
    assert losses == [0, 0]


def test_several_targets_of_a_position_count_alike(tiny, tiny_ar):
    lm, ids = tiny(4), torch.arange(24).view(1, 24) + 7
    other = ids.clone()
    other[0, 8:12] += 50
    labels = torch.stack((ids, other), 1)
    average = sum(tiny_ar.llama(ids, labels=one).loss for one in labels.unbind(1)) / 2
    assert torch.allclose(NextTokenObjective(tiny_ar.llama)(ids, 0.5, labels=labels)["loss"], average)
    objective = NextVectorObjective(lm.calm, CalmSettings(out="run", autoencoder="", head_warmup_from=0, joint_from=0))
    objective.decoder = None
    loss = objective(ids, 0.5, torch.Generator().manual_seed(3), labels)["loss"]
    hidden, head = lm.calm(ids[:, :-4])[0], lm.calm.generative_head
    targets = lm.calm.ae_model.encode(labels.view(2, 6, 4)[:, 1:].swapaxes(0, 1))[0]  # [5, 2, L]
    assert torch.allclose(loss, head.loss_against(hidden, targets, torch.Generator().manual_seed(3)).mean())
    few = head.loss_against(hidden[:1], targets[:1].repeat(1, 4, 1), torch.Generator().manual_seed(3))
    assert torch.equal(few, head.loss_against(hidden[:1], targets[:1], torch.Generator().manual_seed(3)))


def test_the_token_loss_has_the_targets_that_begin_like_the_shown_one(tiny):
    class Fixed(torch.nn.Module):
        def forward(self, hidden, embedded, embedding):
            return logits

    objective = NextVectorObjective(tiny(4).calm, CalmSettings(out="run", autoencoder="", token_loss_weight=1.0))
    objective.decoder = Fixed()
    logits = torch.randn(1, 1, 4, len(tiny(4).tokenizer))
    log_p = logits[0, 0].log_softmax(-1)
    following = torch.tensor([[[[7, 8, 9, 10], [7, 8, 20, 30], [7, 8, 9, 40], [5, 8, 9, 10]]]])  # [1, 1, M, K]
    first, second = (log_p[0, 7] * 3 + log_p[0, 5]) / 4, log_p[1, 8]
    third, fourth = (log_p[2, 9] * 2 + log_p[2, 20]) / 3, (log_p[3, 10] + log_p[3, 40]) / 2
    loss = objective._token_loss(torch.zeros(1, 1, tiny(4).calm.config.hidden_size), following, None)
    assert torch.allclose(loss, -(first + second + third + fourth) / 4)
    following[0, 0, 1, 2] = following[0, 0, 0, 3] = -100
    loss = objective._token_loss(torch.zeros(1, 1, tiny(4).calm.config.hidden_size), following, None)
    assert torch.allclose(loss, -(first + second + log_p[2, 9]) / 3)


def test_the_head_learns_from_positions_where_its_draws_are_far_from_every_target(tiny):
    lm, hidden = tiny(4), torch.randn(6, tiny(4).calm.config.hidden_size)
    objective = NextVectorObjective(lm.calm, CalmSettings(out="run", autoencoder="", head_positions=2))
    targets = lm.calm.generative_head.sample(hidden, 1, torch.Generator().manual_seed(0)).movedim(0, 1).detach()
    targets = torch.cat((targets, targets + 50), 1)  # the draw itself, and a far vector
    targets[[1, 4]] += 50
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            chosen = objective._hard_positions(hidden, targets, torch.Generator().manual_seed(0))
        assert sorted(chosen.tolist()) == [1, 4]


def test_the_loss_of_the_head_is_that_of_the_chosen_positions(tiny, monkeypatch):
    lm, ids = tiny(4), torch.arange(24).view(1, 24) + 7
    other = ids.clone()
    other[0, 4:] += 50
    labels = torch.stack((ids, other), 1)
    settings = CalmSettings(out="run", autoencoder="", head_positions=2)
    objective = NextVectorObjective(lm.calm, settings)
    monkeypatch.setattr(objective, "_hard_positions", lambda *_: torch.tensor([3, 0]))
    loss = objective(ids, 0.5, torch.Generator().manual_seed(3), labels)["loss"]
    targets = lm.calm.ae_model.encode(labels.view(2, 6, 4)[:, [4, 1]].swapaxes(0, 1))[0]  # [2, 2, L]
    hidden = lm.calm(ids[:, :-4])[0, [3, 0]]
    expected = lm.calm.generative_head.loss_against(hidden, targets, torch.Generator().manual_seed(3)).mean()
    assert torch.allclose(loss, expected)


def test_a_run_with_coupled_noise_trains_and_loads(tmp_path, tokenizer_folder, autoencoder):
    changes = {"coupled_noise": True, "continuations": 1, "stream_workers": 1, "token_loss_weight": 0.0}
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, **changes)
    task = tasks.make("lm", settings)
    batch = task.batch(0)
    assert batch.shape == (4, 3, 64)
    before = task.objective(torch.from_numpy(batch[:, 0]), 0.0, labels=torch.from_numpy(batch[:, 1:]))
    lm = calm.load(tasks.train("lm", settings), device="cpu")
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert rows[0]["coupled"] == pytest.approx(float(before["coupled"]), rel=0.05)  # other noise beyond the K numbers
    head, start = lm.calm.generative_head.state_dict(), task.lm.calm.generative_head.state_dict()
    assert all(not torch.equal(head[name], start[name]) for name in head)


def test_coupled_noise_teaches_the_head_which_number_chooses_which_chunk(tiny):
    lm, ids = tiny(4), torch.arange(12).view(1, 12) + 7
    objective = NextVectorObjective(lm.calm, CalmSettings(out="run", autoencoder="", coupled_noise=True))
    objective.decoder = None
    one, two = torch.tensor([20, 21, 22, 23]), torch.tensor([20, 31, 32, 33])
    decoder = lm.calm.ae_model.decoder.requires_grad_(True)  # has random weights, so it learns as well
    optimizer = torch.optim.AdamW([*lm.calm.generative_head.parameters(), *decoder.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(300):
        numbers = torch.rand(1, 16, 12, generator=generator)
        first = torch.where((numbers[..., 4::4] < 0.25)[..., None], one, two).flatten(-2)  # [1, 16, 8]
        labels = torch.cat((ids[:, None, :4].expand(1, 16, 4), first), -1)
        labels = torch.cat((labels, (numbers * CHOICE_UNITS).long()), 1)
        loss = objective(ids, 0.5, generator, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4
    hidden, head = lm.calm(ids[:, :-4])[0], lm.calm.generative_head
    noise = head.noise((2, 400), hidden, generator)
    chunks = lm.calm.ae_model.decode(head.draw(head.project(hidden)[:, None], noise))
    low = noise[..., 0] < -0.25
    right = torch.where(low[..., None], one, two)
    assert (chunks == right).all(-1).float().mean() > 0.9


def test_distances_are_not_rounded_by_autocast():
    x = 10 * torch.randn(5, 4, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = distances(x, x + 0.01)
    assert torch.allclose(found.diagonal(dim1=1, dim2=2), torch.tensor(0.08), rtol=0.3)


def test_corruption_replaces_tokens_in_the_given_share_of_chunks():
    ids = torch.arange(40_000).view(10, 4000)
    corrupted = corrupt(ids, 4, 0.1, torch.Generator().manual_seed(0))
    changed = (corrupted != ids).view(-1, 4)
    assert changed.float().mean() == pytest.approx(0.05, abs=0.005)
    assert changed.any(-1).float().mean() == pytest.approx(0.1 * 15 / 16, abs=0.01)
    assert torch.equal(corrupt(ids, 4, 0.1, torch.Generator().manual_seed(0)), corrupted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_official_sizes_have_the_published_parameter_counts(name):
    settings = recipe.read(name)
    with torch.device("meta"):
        model = EnergyTransformer(CalmConfig(**settings["model"], autoencoder=AutoencoderConfig().to_dict()))
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.ae_model.parameters())
    assert str(own // 10**6) == PUBLISHED[name]
    assert 75_000_000 <= sum(p.numel() for p in model.ae_model.parameters()) < 76_000_000


def test_a_token_by_token_model_has_no_autoencoder_to_use(tmp_path, tokenizer_folder):
    with pytest.raises(CalmError, match="token by token"):
        tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, "story-ar"))


def test_defaults_are_those_of_the_paper():
    settings = CalmSettings(out="x")
    optimizer = (settings.beta2, settings.weight_decay, settings.gradient_clip)
    assert (settings.posterior_samples, *optimizer) == (100, 0.95, 0.1, 1.0)
    assert CalmConfig().num_samples == 8
    assert AutoencoderSettings(out="x").steps == 30_000
