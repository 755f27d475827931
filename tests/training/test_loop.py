import copy
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import calm
from calm import CalmError
from calm.training import state, tasks

from ..test_signals import start
from .conftest import lm_settings, log


@pytest.mark.parametrize(("muon", "workers"), [(0.0, 0), (1e-2, 1)])
def test_a_resumed_run_takes_the_same_path(tmp_path, tokenizer_folder, autoencoder, muon, workers):
    def losses(folder: Path, *stops: int) -> list[float]:
        for steps in stops:
            settings = lm_settings(folder, tokenizer_folder, autoencoder, steps=steps, schedule="constant")
            changes = {"token_loss_weight": 0.0, "muon_learning_rate": muon, "stream_workers": workers}
            tasks.train("lm", {**settings, **changes})
        return [row["loss"] for row in log(folder / "run") if "loss" in row]

    whole, parts = losses(tmp_path / "whole", 6), losses(tmp_path / "parts", 2, 5, 6)
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("joint_from", [0.0, 0.75])
def test_a_run_with_a_time_limit_is_a_part_of_the_whole_run(tmp_path, tokenizer_folder, autoencoder, joint_from):
    """Also while the backbone is frozen and the optimizer has no state for it."""
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=4, joint_from=joint_from)
    for done in (1, 2):
        tasks.train("lm", {**settings, "max_minutes": 0})  # one step at least
        assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == done
    tasks.train("lm", settings)
    tasks.train("lm", {**settings, "out": str(tmp_path / "whole" / "run")})
    sliced, at_once = ([r["loss"] for r in log(f / "run") if "loss" in r] for f in (tmp_path, tmp_path / "whole"))
    assert sliced == pytest.approx(at_once, rel=1e-4)


def test_averaged_weights_are_saved_and_a_resumed_run_goes_on_with_its_average(
    tmp_path, tokenizer_folder, autoencoder, monkeypatch
):
    validated = []
    measure = tasks.LanguageModelTask.validate
    monkeypatch.setattr(
        tasks.LanguageModelTask,
        "validate",
        lambda task: validated.append(task.lm.calm.transformer.norm.weight.detach().clone()) or measure(task),
    )
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=4, ema_decay=0.25)
    expected = torch.empty(0)
    for step in range(1, 5):
        tasks.train("lm", {**settings, "max_minutes": 0})  # one step
        weights = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["objective"]
        own = weights["model.transformer.norm.weight"]
        decay = min(0.25, step / (step + 10))
        before = torch.ones_like(own) if step == 1 else expected  # the initial weights of a norm are 1
        expected = decay * before + (1 - decay) * own
    assert not torch.allclose(expected, own, atol=1e-6)
    for folder in ("last", "best"):
        saved = calm.load(tmp_path / "run" / folder, "cpu").calm.transformer.norm.weight
        assert torch.allclose(saved, expected, atol=1e-6)
    assert len(validated) == 1 and torch.allclose(validated[0], expected, atol=1e-6)
    tasks.train("lm", {**settings, "out": str(tmp_path / "whole" / "run")})
    at_once = calm.load(tmp_path / "whole" / "run" / "last", "cpu").calm.transformer.norm.weight
    assert torch.allclose(saved, at_once, atol=1e-6)


def wait_for_log(folder: Path, process: subprocess.Popen, lines: int) -> None:
    """Waits until the run in a folder has logged at least so many lines."""
    path = folder / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (path.exists() and len(path.read_text().splitlines()) >= lines):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)


def test_ctrl_c_stops_cleanly_and_the_run_resumes(tmp_path, tokenizer_folder, autoencoder):
    settings = tmp_path / "recipe.json"
    script = "import json, sys; from calm.training import tasks; tasks.train('lm', json.load(open(sys.argv[1])))"
    settings.write_text(json.dumps(lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=100_000)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script, str(settings)], env=environment, stderr=subprocess.PIPE)
    wait_for_log(tmp_path, process, 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Traceback" not in errors
    step = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"]
    assert step >= 3
    assert calm.load(tmp_path / "run" / "last", device="cpu").chunk_size == 4  # the model as it stopped
    done = [row for row in log(tmp_path / "run") if "loss" in row]
    assert all(0 < a["cpu_seconds"] < b["cpu_seconds"] for a, b in itertools.pairwise(done))
    tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=step + 1))
    assert [row["step"] for row in log(tmp_path / "run") if "loss" in row][-1] == step + 1


def test_the_repeated_layers_of_a_model_are_compiled_on_request(tmp_path, tokenizer_folder, autoencoder, monkeypatch):
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: compiled.append(type(part).__name__))
    tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, compile=True))
    assert sorted(compiled) == ["HeadBlock", "LlamaDecoderLayer", "LlamaDecoderLayer"]


def test_a_full_disk_leaves_the_last_state_as_it_was(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=1)
    tasks.train("lm", settings)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"run"):
            tasks.train("lm", {**settings, "steps": 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before
    assert not list((tmp_path / "run").rglob("*.partial"))
    tasks.train("lm", {**settings, "steps": 3})
    assert [row["step"] for row in log(tmp_path / "run") if "loss" in row][-1] == 3


def test_a_signal_ends_a_training_with_its_state_saved(tmp_path, tokenizer_folder, autoencoder):
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=100_000)
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    script = (
        "import json, sys; from calm import cli; from calm.training import recipe; "
        "recipe.read = lambda *_: json.load(open(sys.argv[1])); "
        "sys.exit(cli.main(['train', 'lm', '--recipe', 'any']))"
    )
    process = start(script, str(tmp_path / "settings.json"))
    wait_for_log(tmp_path, process, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in errors
    assert errors.splitlines()[-1] == "error: terminated: the same command continues the run"
    assert (tmp_path / "run" / "state.pt").is_file()


def test_a_part_that_was_frozen_up_to_a_pause_takes_the_same_path():
    """The first steps of AdamW depend on their number, also for weights whose training starts after the pause."""

    def make() -> tuple[torch.nn.ModuleDict, torch.optim.Optimizer]:
        torch.manual_seed(0)
        parts = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
        return parts, torch.optim.AdamW(parts.parameters(), lr=0.1, fused=True)

    def train(parts: torch.nn.ModuleDict, optimizer: torch.optim.Optimizer, frozen: bool) -> None:
        hidden = parts["first"](torch.ones(3, 4))
        (hidden if frozen else parts["second"](hidden)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    parts, optimizer = make()
    for _ in range(3):
        train(parts, optimizer, frozen=True)
    saved = copy.deepcopy(state.gather(parts, [SimpleNamespace(optimizer=optimizer)]))
    resumed, other = make()
    resumed.load_state_dict(saved["objective"])
    state.restore_optimizers(resumed, [SimpleNamespace(optimizer=other)], saved)
    for _ in range(2):
        train(parts, optimizer, frozen=False)
        train(resumed, other, frozen=False)
    assert all(torch.equal(a, b) for a, b in zip(parts.parameters(), resumed.parameters()))


def test_validation_leaves_standard_output_to_the_result(tmp_path, tokenizer_folder, autoencoder, capsys):
    tasks.train("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, steps=1))
    printed = capsys.readouterr()
    assert printed.out == "" and "run, step 1: score" in printed.err
    assert "max_minutes" not in json.loads((tmp_path / "run" / "settings.json").read_text())  # JSON has no infinity


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mixed_precision": "fp16"}, "'fp16' needs a GPU"),
        ({"model": {"patch_size": 2}}, "has K = 4 and vectors of 16 numbers; needed are K = 2"),
        ({"model": {"latent_size": 8}}, "needed are K = 4 and 8 numbers"),
        ({"tokenizer": "story-k4"}, "was trained with another tokenizer; use models of one tokenizer together"),
    ],
)
def test_parts_that_do_not_fit_are_one_sentence(
    changes, sentence, tmp_path, tokenizer_folder, autoencoder, monkeypatch
):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    settings = lm_settings(tmp_path, tokenizer_folder, autoencoder)
    model = {**settings["model"], **changes.get("model", {})}
    with pytest.raises(CalmError, match=sentence):
        tasks.train("lm", {**settings, **changes, "model": model})
