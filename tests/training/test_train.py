"""Training runs of a few steps, of every kind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

import calm
from calm import CalmError
from calm.autoencoder import Autoencoder
from calm.config import AutoencoderConfig, CalmConfig
from calm.model import EnergyTransformer
from calm.training import recipe, tasks
from calm.training.autoencoder import AutoencoderSettings, TaughtObjective
from calm.training.lm import CalmSettings, calm_task, disturb
from calm.training.loop import LoopSettings
from calm.training.losses import energy_score
from calm.training.optimizers import make, schedule, set_rates

LOOP = {"batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2, "log_every": 1, "validate_every": 100}


@pytest.fixture(scope="module")
def autoencoder(tokenizer_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoder")
    return tasks.train(
        "autoencoder",
        {
            **LOOP,
            "task": "autoencoder",
            "batch_size": 64,
            "steps": 60,
            "out": str(folder / "run"),
            "tokenizer": str(tokenizer_folder),
            "data": str(folder / "data"),
            "sources": {"stories": ["storyland:0:40"], "assorted": ["assorted:0:40"]},
            "valid": {"stories": ["storyland:10000000:10"]},
            "model": {"patch_size": 4, "latent_size": 16, "hidden_size": 32, "intermediate_size": 64},
        },
    )


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def lm_settings(folder: Path, tokenizer_folder: Path, autoencoder: Path, **changes) -> dict:
    return {
        **LOOP,
        "steps": 6,
        "save_every": 1,
        "out": str(folder / "run"),
        "tokenizer": str(tokenizer_folder),
        "data": str(folder / "data"),
        "sources": ["storyland:0:40"],
        "valid": ["storyland:10000000:2"],
        "valid_texts": 2,
        "row_tokens": 64,
        "autoencoder": str(autoencoder),
        "targets": 8,
        "auxiliary": 1.0,
        "model": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_mlp_layers": 1,
            "noise_size": 8,
            "num_samples": 3,
            "max_position_embeddings": 64,
        },
        **changes,
    }


def baseline_settings(folder: Path, tokenizer_folder: Path, autoencoder: Path, **changes) -> dict:
    settings = lm_settings(folder, tokenizer_folder, autoencoder, **changes)
    for other in ("autoencoder", "targets", "auxiliary"):
        settings.pop(other)
    for other in ("num_mlp_layers", "noise_size", "num_samples"):
        settings["model"].pop(other)
    return settings


def test_the_autoencoder_learns_and_is_measured(autoencoder):
    rows = log(autoencoder.parent)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 1
    figures = next(row["validation"] for row in rows if "validation" in row)
    assert {"score", "stories clean", "stories noise 0.3"} <= set(figures)
    assert (autoencoder / "config.json").is_file() and (autoencoder / "tokenizer.json").is_file()


def test_a_share_of_the_chunks_ends_early(tmp_path, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    whole, cut = (tasks.make("autoencoder", {**settings, "unfinished": share}) for share in (0.0, 0.25))
    pad = whole.tokenizer.pad_token_id
    before, found = whole.batch(3), cut.batch(3)
    padded = found == pad
    assert not (before == pad).any() and padded.any(1).sum() == 16  # a quarter of 64
    assert not padded[:, 0].any() and (np.diff(padded.astype(int), axis=1) >= 0).all()  # only ends, never whole chunks
    assert (found[~padded] == before[~padded]).all()


def test_a_narrower_autoencoder_takes_the_latent_vectors_of_another(tmp_path, tokenizer_folder, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    changes = {"steps": 40, "out": str(tmp_path / "run"), "teacher": str(autoencoder), "learning_rate": 5e-3}
    narrow = {**settings, **changes, "model": {**settings["model"], "hidden_size": 16, "intermediate_size": 32}}
    found = Autoencoder.from_pretrained(tasks.train("autoencoder", narrow))
    teacher = Autoencoder.from_pretrained(autoencoder)
    assert found.config.hidden_size < teacher.config.hidden_size
    assert set(found.state_dict()) == set(teacher.state_dict())  # nothing of the teacher is kept
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert rows[-1]["divergence"] < rows[0]["divergence"] / 2 and rows[-1]["reconstruction"] < rows[0]["reconstruction"]
    torch.manual_seed(0)
    ids = torch.randint(2, 100, (50, 4))
    same = TaughtObjective(teacher.eval(), Autoencoder.from_pretrained(autoencoder))(ids, 0.0)
    assert same["divergence"].abs() < 1e-4  # its own posterior is no distance away
    assert torch.allclose(same["loss"], 4 * same["reconstruction"] + same["divergence"])
    with pytest.raises(CalmError, match="needed are K = 2 and 16 numbers"):
        tasks.make("autoencoder", {**narrow, "model": {**narrow["model"], "patch_size": 2}})


def test_the_next_vector_model_trains_and_loads(tmp_path, tokenizer_folder, autoencoder):
    best = tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder))
    lm = calm.load(best, device="cpu")
    assert lm.chunk_size == 4
    assert not any("decoder.state" in name for name in lm.model.state_dict())  # the training aid is thrown away
    assert list(calm.generate(lm, "Once", max_new_tokens=8, pool_size=5))
    frozen = calm.load(best, device="cpu").calm.ae_model.state_dict()
    from calm.autoencoder import Autoencoder

    for name, tensor in Autoencoder.from_pretrained(autoencoder).state_dict().items():
        assert torch.equal(frozen[name], tensor), name


def test_a_draw_can_be_held_against_the_mean_of_the_posterior(tmp_path, tokenizer_folder, autoencoder):
    """Without targets the score is that of the mean alone, whatever the posterior's noise."""
    task = calm_task(
        recipe.settings_of(CalmSettings, lm_settings(tmp_path, tokenizer_folder, autoencoder, targets=0, auxiliary=0.0))
    )
    ids = torch.from_numpy(task.batch(0))
    found = task.objective(ids, 0.0, torch.Generator().manual_seed(3))["energy"]
    model, following = task.lm.calm, ids.unflatten(-1, (-1, 4))[:, 1:]
    generator = torch.Generator().manual_seed(3)
    mean, _ = model.ae_model.encode(following)
    hidden = model(ids[:, :-4], use_cache=False)
    draws = model.generative_head(hidden, model.generative_head.noise((3, *hidden.shape[:2]), hidden, generator))
    assert torch.allclose(found, energy_score(draws.movedim(0, -2), mean[..., None, :]).mean())


def test_a_run_can_begin_aligned_on_a_primer_with_its_head_at_rest(tmp_path, tokenizer_folder, autoencoder):
    changes = {
        "aligned": True,
        "primer": ["primer:0:20"],
        "primer_steps": 3,
        "head_from": 0.5,
        "energy_from": 0.7,
        "disturbed": 0.1,
    }
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, **changes)
    tasks.train("lm", settings)
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert ["energy" in row for row in rows] == [False] * 3 + [True] * 3
    assert ["cross_entropy" in row for row in rows] == [True] * 3 + [False] * 2 + [False]
    assert (tmp_path / "data" / "text-primer" / "ids.bin").is_file()


def test_a_run_can_begin_with_the_weights_of_a_model(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    first = calm.load(tasks.train("lm", settings), device="cpu").model.state_dict()
    again = {**settings, "out": str(tmp_path / "again"), "start": str(tmp_path / "run" / "best")}
    begun = tasks.make("lm", again).lm.model.state_dict()
    assert all(torch.equal(begun[name], tensor) for name, tensor in first.items())
    deeper = {**again, "model": {**settings["model"], "num_mlp_layers": 3}}
    model, shallow = tasks.make("lm", deeper).lm.calm, tasks.make("lm", again).lm.calm
    hidden, noise = torch.randn(5, model.config.hidden_size), torch.rand(5, model.config.noise_size)
    assert len(model.generative_head.mlp_blocks) == 3 and len(shallow.generative_head.mlp_blocks) < 3
    assert torch.equal(model.generative_head(hidden, noise), shallow.generative_head(hidden, noise))
    narrower = {**again, "model": {**settings["model"], "intermediate_size": 8}}
    with pytest.raises(CalmError, match="another shape"):
        tasks.make("lm", narrower)


def test_a_run_can_begin_with_a_model_of_half_the_width(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    narrow = calm.load(tasks.train("lm", settings), device="cpu").calm.eval()
    shape = {**settings["model"], "hidden_size": 64, "num_attention_heads": 4}
    wide = {**settings, "out": str(tmp_path / "wide"), "start": str(tmp_path / "run" / "best"), "model": shape}
    task = tasks.make("lm", wide)
    model, ids = task.lm.calm.eval(), torch.from_numpy(task.batch(0))
    with torch.no_grad():
        hidden, expected = model(ids, use_cache=False), narrow(ids, use_cache=False)
        assert torch.allclose(hidden, expected.repeat(1, 1, 2), atol=1e-4)  # each number twice
        noise = torch.rand(3, *hidden.shape[:2], model.config.noise_size)
        draws = narrow.generative_head(expected, noise)
        assert torch.allclose(model.generative_head(hidden, noise), draws, atol=1e-4)
    best = tasks.train("lm", wide)
    with torch.no_grad():
        one, other = calm.load(best, device="cpu").calm(ids, use_cache=False).chunk(2, -1)
    assert (one - other).abs().max() > 1e-3  # they part in training
    with pytest.raises(CalmError, match="another shape"):
        tasks.make("lm", {**wide, "model": {**shape, "hidden_size": 48}})


def test_the_repeated_parts_of_a_model_can_be_compiled(tmp_path, tokenizer_folder, autoencoder, monkeypatch):
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: compiled.append(type(part).__name__))
    tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, compiled=True))
    assert sorted(compiled) == ["HeadBlock", "LlamaDecoderLayer", "LlamaDecoderLayer"]


def test_few_layers_of_a_model_learn_the_hidden_states_of_all(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    teacher = tasks.train("lm", settings)
    whole = calm.load(teacher, device="cpu").model.state_dict()
    changes = {"start": str(teacher), "teacher": str(teacher), "auxiliary": 0.0, "head_from": 0.5}
    lean = {**settings, **changes, "out": str(tmp_path / "lean")}
    few = {**lean, "layers": [1], "model": {**settings["model"], "num_hidden_layers": 1}}
    for name, tensor in tasks.make("lm", few).lm.model.state_dict().items():
        assert torch.equal(tensor, whole[name.replace("layers.0", "layers.1") if "transformer" in name else name]), name
    found = calm.load(tasks.train("lm", few), device="cpu").calm
    assert len(found.transformer.layers) == 1 and not any("teacher" in name for name in found.state_dict())
    rows = [row for row in log(tmp_path / "lean") if "loss" in row]
    assert ["distance" in row for row in rows] == [True] * 3 + [False] * 3
    assert ["energy" in row for row in rows] == [False] * 3 + [True] * 3
    task = tasks.make("lm", {**lean, "disturbed": 0.5})
    ids, layers = torch.from_numpy(task.batch(0)), task.lm.calm.transformer.layers
    assert task.objective(ids, 0.0)["distance"] < 1e-8  # of the teacher itself, which reads the same slips
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
    kept = tasks.make("lm", {**few, "autoencoder": str(tmp_path / "other")}).lm.calm.ae_model
    assert torch.equal(kept.encoder.embed_tokens.weight, other.encoder.embed_tokens.weight)  # that of the recipe
    with pytest.raises(CalmError, match="layers 0 to 1"):
        tasks.make("lm", {**few, "layers": [2]})


def test_a_run_can_grow_from_a_model_of_another_chunk_size(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    first = calm.load(tasks.train("lm", settings), device="cpu").calm
    chunks = AutoencoderConfig(**{**first.config.autoencoder, "patch_size": 2 * first.config.patch_size})
    Autoencoder(chunks).save_pretrained(tmp_path / "wider")
    grown = {
        **settings,
        "out": str(tmp_path / "grown"),
        "autoencoder": str(tmp_path / "wider"),
        "grown": str(tmp_path / "run" / "best"),
    }
    model = tasks.make("lm", grown).lm.calm
    assert model.config.patch_size == 2 * first.config.patch_size
    for name, tensor in first.transformer.state_dict().items():
        assert torch.equal(model.transformer.state_dict()[name], tensor), name
    tasks.train("lm", grown)
    assert calm.load(tmp_path / "grown" / "best", device="cpu").chunk_size == 2 * first.config.patch_size
    with pytest.raises(CalmError, match="backbone has another shape"):
        tasks.make("lm", {**grown, "model": {**settings["model"], "intermediate_size": 8}})


def test_a_run_can_grow_from_a_token_by_token_model(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    token_by_token = tasks.make("baseline", baseline_settings(tmp_path, tokenizer_folder, autoencoder)).lm
    token_by_token.model.save_pretrained(tmp_path / "token-by-token")
    token_by_token.tokenizer.save_pretrained(tmp_path / "token-by-token")
    single = AutoencoderConfig(**{**Autoencoder.from_pretrained(autoencoder).config.to_dict(), "patch_size": 1})
    Autoencoder(single).save_pretrained(tmp_path / "single")
    changes = {"autoencoder": str(tmp_path / "single"), "grown": str(tmp_path / "token-by-token")}
    task = tasks.make("lm", {**settings, **changes})
    ids = torch.from_numpy(task.batch(0))
    with torch.no_grad():
        grown = task.lm.calm(ids, use_cache=False)
        hidden = token_by_token.backbone(ids, use_cache=False).last_hidden_state
    assert torch.cosine_similarity(grown, hidden, dim=-1).min() > 0.9  # it goes on as it read before


LAUNCH = Path(calm.training.__file__).parent / "launch"
PUBLISHED = {"calm-m": "371", "calm-l": "735", "calm-xl": "1829"}  # millions of parameters, the autoencoder's apart


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_official_sizes_have_the_published_parameter_counts(name):
    settings = recipe.read(name)
    with torch.device("meta"):
        model = EnergyTransformer(CalmConfig(**settings["model"], autoencoder=AutoencoderConfig().to_dict()))
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.ae_model.parameters())
    assert str(own // 10**6) == PUBLISHED[name]
    assert 75_000_000 <= sum(p.numel() for p in model.ae_model.parameters()) < 76_000_000


def test_disturbed_chunks_are_the_share_that_was_asked_for():
    ids = torch.arange(40_000).view(10, 4000)
    found = disturb(ids, 4, 0.1, torch.Generator().manual_seed(0))
    changed = (found != ids).view(-1, 4)
    assert changed.float().mean() == pytest.approx(0.05, abs=0.005)
    assert changed.any(-1).float().mean() == pytest.approx(0.1 * 15 / 16, abs=0.01)
    assert torch.equal(disturb(ids, 4, 0.1, torch.Generator().manual_seed(0)), found)


def test_the_baseline_trains_and_loads(tmp_path, tokenizer_folder, autoencoder):
    settings = baseline_settings(tmp_path, tokenizer_folder, autoencoder, aligned=True)
    lm = calm.load(tasks.train("baseline", settings), device="cpu")
    assert lm.chunk_size == 1
    losses = [row["loss"] for row in log(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("muon", "streamed"), [(0.0, 0), (1e-2, 1)])
def test_a_resumed_run_takes_the_same_path(tmp_path, tokenizer_folder, autoencoder, muon, streamed):
    def losses(folder: Path, *stops: int) -> list[float]:
        for steps in stops:
            tasks.train("lm", lm_settings(folder, tokenizer_folder, autoencoder, steps=steps, schedule="constant",
                                          auxiliary=0.0, muon=muon, streamed=streamed))  # fmt: skip
        return [row["loss"] for row in log(folder / "run") if "loss" in row]

    whole, parts = losses(tmp_path / "whole", 6), losses(tmp_path / "parts", 2, 5, 6)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_a_run_can_go_on_from_a_bundled_model_with_nothing_else_at_hand(tmp_path):
    settings = recipe.read("story-k4", changes=[
        'start = "story-k4"', 'tokenizer = "story-k4"', 'autoencoder = "story-k4"', 'sources = ["storyland:0:20"]',
        'valid = ["storyland:10000000:1"]', "steps = 1", "batch_size = 1", 'mixed_precision = "no"',
        f'out = "{tmp_path / "run"}"', f'data = "{tmp_path / "data"}"', "energy_from = 0.0",
    ])  # fmt: skip
    further, before = calm.load(tasks.train("lm", settings), "cpu"), calm.load("story-k4", "cpu")
    for (name, new), old in zip(further.calm.state_dict().items(), before.calm.state_dict().values()):
        assert torch.equal(new, old) == name.startswith("ae_model"), name


def test_a_token_by_token_model_has_no_autoencoder_to_train_over(tmp_path, tokenizer_folder):
    with pytest.raises(CalmError, match="token by token"):
        tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, "story-ar"))


@pytest.mark.parametrize("energy_from", [0.0, 0.75])
def test_a_slice_of_time_is_a_part_of_the_whole_run(tmp_path, tokenizer_folder, autoencoder, energy_from):
    """Also while the backbone rests and the optimiser knows nothing of it yet."""
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=4, energy_from=energy_from)
    for done in (1, 2):
        tasks.train("lm", {**settings, "minutes": 0})  # one step at least
        assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == done
    tasks.train("lm", settings)
    tasks.train("lm", {**settings, "out": str(tmp_path / "whole" / "run")})
    sliced, at_once = ([r["loss"] for r in log(f / "run") if "loss" in r] for f in (tmp_path, tmp_path / "whole"))
    assert sliced == pytest.approx(at_once, rel=1e-4)


def test_ctrl_c_stops_cleanly_and_the_run_goes_on(tmp_path, tokenizer_folder, autoencoder):
    settings = tmp_path / "recipe.json"
    script = "import json, sys; from calm.training import tasks; tasks.train('lm', json.load(open(sys.argv[1])))"
    settings.write_text(json.dumps(lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=100_000)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script, str(settings)], env=environment, stderr=subprocess.PIPE)
    path = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (path.exists() and len(path.read_text().splitlines()) > 3):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Traceback" not in errors
    step = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"]
    assert step >= 3
    tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=step + 1))
    assert [row["step"] for row in log(tmp_path / "run") if "loss" in row][-1] == step + 1


# What "accelerate launch" would tell the processes by sharded.yaml. It knows FSDP on accelerators alone, and the CPU is
# therefore given out to it as one of them.
SHARDED = """
import os
from accelerate import PartialState
from accelerate.utils import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
for key, value in load_config_from_file(sys.argv[3]).fsdp_config.items():
    os.environ[key.upper().replace("LAYER_CLS", "CLS")] = str(value)
os.environ["ACCELERATE_USE_FSDP"] = "true"
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
"""
TRAIN = """
import json, sys
{before}
from accelerate.state import AcceleratorState
from calm.training import tasks
settings = json.load(open(sys.argv[1]))
tasks.train("lm", {{**settings, "minutes": 0}})  # one step; the others behind a stop
tasks.train("lm", settings)
assert AcceleratorState().num_processes == int(sys.argv[2])
print(AcceleratorState().distributed_type)
"""


def _train_in_processes(folder: Path, count: int, before: str, settings: dict) -> tuple[str, list[float], dict]:
    """What kind of distribution it was, the losses of each step, and the weights."""
    folder.mkdir()
    script, recipe_file = folder / "train.py", folder / "settings.json"
    script.write_text(TRAIN.format(before=before))
    recipe_file.write_text(json.dumps({**settings, "out": str(folder / "run")}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), "--master_port", "29511"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd()), "ACCELERATE_USE_CPU": "1"}
    command = [*launch, str(script), str(recipe_file), str(count), str(LAUNCH / "sharded.yaml")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-2000:]
    losses = [row["loss"] for row in log(folder / "run") if "loss" in row]
    return found.stdout, losses, calm.load(folder / "run" / "last", device="cpu").model.state_dict()


def test_two_processes_train_as_one(tmp_path, tokenizer_folder, autoencoder):
    """Two CPU processes share each batch, and in the third run also the weights; losses and weights equal those of one
    process that takes the same rows, with the same noise, in two parts."""
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=3, auxiliary=0.0)
    _, losses, weights = _train_in_processes(tmp_path / "one", 1, "", {**settings, "accumulate": 2})
    assert len(losses) == 3
    for name, before, kind in (("copied", "", "MULTI_CPU"), ("sharded", SHARDED, "FSDP")):
        told, found, trained = _train_in_processes(tmp_path / name, 2, before, settings)
        assert kind in told
        assert found == pytest.approx(losses, rel=1e-5), name
        for key, tensor in weights.items():
            assert torch.allclose(tensor, trained[key], atol=1e-5), (name, key)


def test_launch_files_are_what_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    found = {path.stem: load_config_from_file(str(path)) for path in LAUNCH.glob("*.yaml")}
    assert {name: (config.num_machines, config.num_processes) for name, config in found.items()} == {
        "one-node": (1, 8),
        "nodes": (4, 32),
        "sharded": (1, 8),
    }


def test_bundled_recipes_can_be_read():
    assert {"tokenizer", "autoencoder-k4", "story-k4", "story-ar"} <= set(recipe.names())
    for name in recipe.names():
        settings = recipe.read(name, corpus="/somewhere")
        kind = tasks.SETTINGS[settings.pop("task")]
        assert "{corpus}" not in str(recipe.settings_of(kind, settings))


def test_recipes_can_be_changed_and_are_checked():
    settings = recipe.read("story-k4", changes=["steps=7", "model.hidden_size=64"])
    assert settings["steps"] == 7 and settings["model"]["hidden_size"] == 64
    assert settings["model"]["num_hidden_layers"] > 0
    with pytest.raises(CalmError, match="There is no recipe 'nothing'"):
        recipe.read("nothing")
    with pytest.raises(CalmError, match="Unknown settings: stepz"):
        recipe.settings_of(CalmSettings, {"out": "x", "stepz": 1})
    with pytest.raises(CalmError, match="cannot be read as TOML"):
        recipe.read("story-k4", changes=["steps=seven"])


def test_defaults_are_the_papers():
    settings = CalmSettings(out="x")
    assert (settings.targets, settings.beta2, settings.weight_decay, settings.gradient_clip) == (100, 0.95, 0.1, 1.0)
    assert calm.loading.CalmConfig().num_samples == 8
    assert AutoencoderSettings(out="x").steps == 30_000


def test_the_schedule_warms_up_and_falls():
    cosine = LoopSettings(out="x", steps=1000, warmup_steps=10, schedule="cosine")
    shares = [schedule(cosine, step) for step in range(1000)]
    assert shares[0] == pytest.approx(0.1, rel=0.01) and max(shares) == pytest.approx(1, rel=0.01)
    assert shares[-1] == pytest.approx(0.05, abs=0.001)
    linear = LoopSettings(out="x", steps=1000, warmup_steps=10, schedule="linear")
    assert [schedule(linear, step) for step in (4, 500, 999)] == pytest.approx([0.498, 0.5, 0.001])
    assert schedule(LoopSettings(out="x", steps=1000, warmup_steps=10), 900) == 1.0
    with pytest.raises(CalmError, match="schedule 'square' is not known"):
        schedule(LoopSettings(out="x", schedule="square"), 1)


def test_muon_serves_the_matrices_of_layers_and_blocks(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, muon=1e-2)
    objective = tasks.make("lm", settings).objective
    adamw, muon = make(objective, LoopSettings(out="x", muon=1e-2, learning_rate=1e-3))
    names = {p: name for name, p in objective.named_parameters()}
    served = {names[p] for group in muon.param_groups for p in group["params"]}
    others = {names[p] for group in adamw.param_groups for p in group["params"]}
    assert not served & others and served | others == {n for p, n in names.items() if p.requires_grad}
    assert {"model.transformer.layers.0.self_attn.q_proj.weight", "model.embed_proj.0.weight"} <= served
    assert any("mlp_blocks.0.linears.0.weight" in name for name in served)
    assert {"model.transformer.embed_tokens.weight", "model.transformer.norm.weight"} <= others
    assert any("noise_embd.weight" in name for name in others)
    set_rates([adamw, muon], LoopSettings(out="x", steps=10, warmup_steps=2, muon=1e-2, learning_rate=1e-3), 0)
    assert [o.param_groups[0]["lr"] for o in (adamw, muon)] == pytest.approx([5e-4, 5e-3])


def test_muon_is_refused_where_matrices_are_spread(tmp_path, tokenizer_folder, autoencoder, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.FSDP))
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, muon=1e-2)
    with pytest.raises(CalmError, match="set muon=0"):
        tasks.train("lm", settings)
