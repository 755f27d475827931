import json

import numpy as np
import pytest
import torch

from calm import CalmError
from calm.modeling.autoencoder import Autoencoder
from calm.modeling.config import AutoencoderConfig
from calm.training import tasks
from calm.training.objectives import AutoencoderDistillation

from .conftest import log


def test_the_autoencoder_learns_and_is_measured(autoencoder):
    rows = log(autoencoder.parent)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 1
    figures = next(row["validation"] for row in rows if "validation" in row)
    assert {"score", "stories clean", "stories noise 0.3"} <= set(figures)
    assert (autoencoder / "config.json").is_file() and (autoencoder / "tokenizer.json").is_file()


def test_a_share_of_the_chunks_ends_in_padding(tmp_path, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    whole, cut = (tasks.make("autoencoder", {**settings, "partial_chunks": share}) for share in (0.0, 0.25))
    pad = whole.tokenizer.pad_token_id
    before, chunks = whole.batch(3), cut.batch(3)
    padded = chunks == pad
    assert not (before == pad).any() and padded.any(1).sum() == 16  # a quarter of 64
    assert not padded[:, 0].any() and (np.diff(padded.astype(int), axis=1) >= 0).all()  # only ends, never whole chunks
    assert (chunks[~padded] == before[~padded]).all()


def test_a_narrower_autoencoder_learns_the_latent_vectors_of_another(tmp_path, tokenizer_folder, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    changes = {"steps": 40, "out": str(tmp_path / "run"), "distil_from": str(autoencoder), "learning_rate": 5e-3}
    narrow = {**settings, **changes, "model": {**settings["model"], "hidden_size": 16, "intermediate_size": 32}}
    student = Autoencoder.from_pretrained(tasks.train("autoencoder", narrow))
    teacher = Autoencoder.from_pretrained(autoencoder)
    assert student.config.hidden_size < teacher.config.hidden_size
    assert set(student.state_dict()) == set(teacher.state_dict())  # the teacher is not saved with it
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert rows[-1]["divergence"] < rows[0]["divergence"] / 2 and rows[-1]["reconstruction"] < rows[0]["reconstruction"]
    torch.manual_seed(0)
    ids = torch.randint(2, 100, (50, 4))
    same = AutoencoderDistillation(teacher.eval(), Autoencoder.from_pretrained(autoencoder))(ids, 0.0)
    assert same["divergence"].abs() < 1e-4  # the teacher compared with itself
    assert torch.allclose(same["loss"], 4 * same["reconstruction"] + same["divergence"])
    with pytest.raises(CalmError, match="needed are K = 2 and 16 numbers"):
        tasks.make("autoencoder", {**narrow, "model": {**narrow["model"], "patch_size": 2}})


def test_each_token_has_numbers_of_its_own_in_the_vector(tmp_path, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    model = {**settings["model"], "hidden_size": 16, "intermediate_size": 32}
    changes = {"separate_codes": True, "steps": 60, "out": str(tmp_path / "run"), "learning_rate": 1e-2, "model": model}
    tasks.train("autoencoder", {**settings, **changes, "max_minutes": 0})  # one step; the other steps resume the run
    trained = Autoencoder.from_pretrained(tasks.train("autoencoder", {**settings, **changes}))
    rows = [row for row in log(tmp_path / "run") if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    ids = torch.tensor([[30, 31, 32, 33], [30, 31, 82, 33]])  # the third token differs
    (one, two), std = trained.encode(ids)
    one, two = one.view(4, 4), two.view(4, 4)  # four numbers a token
    ratio = two / one
    assert torch.allclose(ratio[[0, 1, 3]], ratio[0, 0].expand(3, 4), rtol=1e-4)  # only the length changes
    assert (ratio[2] / ratio[0, 0] - 1).abs().max() > 0.1
    assert torch.allclose(std, torch.full_like(std, 0.42))
    for wrong, sentence in (
        ({"init_from": str(autoencoder)}, "'separate_codes' needs random initial weights"),
        ({"model": {**model, "hidden_size": 32}}, "they are 32, 16 and 4"),
        ({"muon_learning_rate": 1e-2}, "Muon trains no matrix of an autoencoder; set 'muon_learning_rate' to 0"),
    ):
        with pytest.raises(CalmError, match=sentence):
            tasks.make("autoencoder", {**settings, **changes, **wrong})


def test_a_teacher_of_another_vocabulary_is_named(tmp_path, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    other = {**json.loads((autoencoder / "config.json").read_text()), "vocab_size": 700}
    Autoencoder(AutoencoderConfig(**other)).save_pretrained(tmp_path / "teacher")
    with pytest.raises(CalmError, match=r"The autoencoder \S+teacher has a vocabulary of 700 tokens"):
        tasks.make("autoencoder", {**settings, "distil_from": str(tmp_path / "teacher")})


def test_a_validation_file_too_short_for_a_chunk_fails_before_training(tmp_path, autoencoder):
    settings = json.loads((autoencoder.parent / "settings.json").read_text())
    (tmp_path / "short.txt").write_text("a")
    with pytest.raises(CalmError, match="holds 2 tokens and chunks of 4 need more"):
        tasks.make(
            "autoencoder", {**settings, "data": str(tmp_path), "valid": {"short": [str(tmp_path / "short.txt")]}}
        )
